# PostgreSQL behind MLflow and Airflow. Accounts sign in as who they are in the cloud: there is no password.

resource "azurerm_postgresql_flexible_server" "this" {
  name                          = var.name
  location                      = azurerm_resource_group.this.location
  resource_group_name           = azurerm_resource_group.this.name
  version                       = "17"
  sku_name                      = var.database_type
  storage_mb                    = 65536
  auto_grow_enabled             = true
  backup_retention_days         = min(var.retention_days, 35)
  delegated_subnet_id           = azurerm_subnet.database.id
  private_dns_zone_id           = azurerm_private_dns_zone.this["postgres"].id
  public_network_access_enabled = false
  tags                          = local.labels
  authentication {
    active_directory_auth_enabled = true
    password_auth_enabled         = false
    tenant_id                     = data.azurerm_client_config.this.tenant_id
  }
  high_availability {
    mode = "ZoneRedundant"
  }
  identity {
    type         = "UserAssigned"
    identity_ids = [azurerm_user_assigned_identity.this["encryption"].id]
  }
  customer_managed_key {
    key_vault_key_id                  = azurerm_key_vault_key.data.id
    primary_user_assigned_identity_id = azurerm_user_assigned_identity.this["encryption"].id
  }
  lifecycle {
    ignore_changes = [zone, high_availability[0].standby_availability_zone] # a failover's
  }
  depends_on = [azurerm_private_dns_zone_virtual_network_link.this, azurerm_role_assignment.encryption]
}

resource "azurerm_postgresql_flexible_server_active_directory_administrator" "stages" {
  server_name         = azurerm_postgresql_flexible_server.this.name
  resource_group_name = azurerm_resource_group.this.name
  tenant_id           = data.azurerm_client_config.this.tenant_id
  object_id           = azurerm_user_assigned_identity.this["stages"].principal_id
  principal_name      = azurerm_user_assigned_identity.this["stages"].name
  principal_type      = "ServicePrincipal"
}

resource "azurerm_postgresql_flexible_server_database" "this" {
  name      = "mediscale"
  server_id = azurerm_postgresql_flexible_server.this.id
}
