# Lake and models: with a hierarchy of folders (ADLS), soft-deleted, encrypted with our key, without shared keys.

resource "azurerm_storage_account" "data" {
  name                            = local.unique
  location                        = azurerm_resource_group.this.location
  resource_group_name             = azurerm_resource_group.this.name
  account_tier                    = "Standard"
  account_replication_type        = "ZRS"
  is_hns_enabled                  = true
  min_tls_version                 = "TLS1_2"
  https_traffic_only_enabled      = true
  public_network_access_enabled   = false
  allow_nested_items_to_be_public = false
  shared_access_key_enabled       = false
  local_user_enabled              = false
  tags                            = local.labels
  blob_properties {
    delete_retention_policy {
      days = var.retention_days
    }
    container_delete_retention_policy {
      days = var.retention_days
    }
  }
  identity {
    type         = "UserAssigned"
    identity_ids = [azurerm_user_assigned_identity.this["encryption"].id]
  }
  customer_managed_key {
    key_vault_key_id          = azurerm_key_vault_key.data.versionless_id
    user_assigned_identity_id = azurerm_user_assigned_identity.this["encryption"].id
  }
  depends_on = [azurerm_role_assignment.encryption]
}

resource "azurerm_storage_container" "data" {
  for_each              = toset(["lake", "models"])
  name                  = each.key
  storage_account_id    = azurerm_storage_account.data.id
  container_access_type = "private"
}

# What several pods write at once: the home, the folder of trust, backups. NFS needs an account of its own.
resource "azurerm_storage_account" "shared" {
  name                            = "${local.unique}f"
  location                        = azurerm_resource_group.this.location
  resource_group_name             = azurerm_resource_group.this.name
  account_kind                    = "FileStorage"
  account_tier                    = "Premium"
  account_replication_type        = "ZRS"
  min_tls_version                 = "TLS1_2"
  https_traffic_only_enabled      = false # NFS: the private network encrypts nothing, so traffic stays inside it
  public_network_access_enabled   = false
  allow_nested_items_to_be_public = false
  shared_access_key_enabled       = false
  local_user_enabled              = false
  tags                            = local.labels
  identity {
    type         = "UserAssigned"
    identity_ids = [azurerm_user_assigned_identity.this["encryption"].id]
  }
  customer_managed_key {
    key_vault_key_id          = azurerm_key_vault_key.data.versionless_id
    user_assigned_identity_id = azurerm_user_assigned_identity.this["encryption"].id
  }
  depends_on = [azurerm_role_assignment.encryption]
}

resource "azurerm_storage_share" "shared" {
  name               = "mediscale"
  storage_account_id = azurerm_storage_account.shared.id
  enabled_protocol   = "NFS"
  quota              = 1024
}

resource "azurerm_container_registry" "this" {
  name                          = local.unique
  location                      = azurerm_resource_group.this.location
  resource_group_name           = azurerm_resource_group.this.name
  sku                           = "Premium"
  admin_enabled                 = false
  anonymous_pull_enabled        = false
  public_network_access_enabled = false
  zone_redundancy_enabled       = true
  tags                          = local.labels
  identity {
    type         = "UserAssigned"
    identity_ids = [azurerm_user_assigned_identity.this["encryption"].id]
  }
  encryption {
    key_vault_key_id   = azurerm_key_vault_key.data.versionless_id
    identity_client_id = azurerm_user_assigned_identity.this["encryption"].client_id
  }
  depends_on = [azurerm_role_assignment.encryption]
}
