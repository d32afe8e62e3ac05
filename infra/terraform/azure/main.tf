# MediScale on Azure: a private network without a way to the internet but the cluster's own, AKS with a group of GPU
# nodes, encrypted storage, a shared file system, PostgreSQL, an image registry, a vault, and an identity of least rights
# for the server and for the stages. `account` is the subscription.
#
#     terraform init && terraform apply -var-file hospital.tfvars

terraform {
  required_version = ">= 1.9"
  required_providers {
    azurerm = {
      source  = "hashicorp/azurerm"
      version = "~> 4.0"
    }
  }
}

provider "azurerm" {
  subscription_id     = var.account
  storage_use_azuread = true
  features {
    key_vault {
      purge_soft_delete_on_destroy = false
    }
  }
}

locals {
  labels = merge({ application = var.name }, var.labels)
  # Of storage, vault and registry: letters and digits that nobody else in the cloud has.
  unique = "${replace(var.name, "-", "")}${substr(sha256(var.account), 0, 8)}"
}

resource "azurerm_management_lock" "protected" {
  count      = var.protected ? 1 : 0
  name       = "protected"
  scope      = azurerm_resource_group.this.id
  lock_level = "CanNotDelete"
}

data "azurerm_client_config" "this" {}

resource "azurerm_resource_group" "this" {
  name     = var.name
  location = var.region
  tags     = local.labels
}

# One key for everything at rest, in a vault that keeps what is deleted.
resource "azurerm_key_vault" "this" {
  name                          = local.unique
  location                      = azurerm_resource_group.this.location
  resource_group_name           = azurerm_resource_group.this.name
  tenant_id                     = data.azurerm_client_config.this.tenant_id
  sku_name                      = "premium"
  rbac_authorization_enabled    = true
  purge_protection_enabled      = true
  soft_delete_retention_days    = 90
  public_network_access_enabled = false
  tags                          = local.labels
}

resource "azurerm_role_assignment" "vault_operator" {
  scope                = azurerm_key_vault.this.id
  role_definition_name = "Key Vault Administrator"
  principal_id         = data.azurerm_client_config.this.object_id
}

resource "azurerm_key_vault_key" "data" {
  name         = "data"
  key_vault_id = azurerm_key_vault.this.id
  key_type     = "RSA-HSM"
  key_size     = 3072
  key_opts     = ["unwrapKey", "wrapKey"]
  rotation_policy {
    expire_after = "P2Y"
    automatic {
      time_before_expiry = "P30D"
    }
  }
  depends_on = [azurerm_role_assignment.vault_operator]
}

resource "azurerm_role_assignment" "encryption" {
  scope                = azurerm_key_vault.this.id
  role_definition_name = "Key Vault Crypto Service Encryption User"
  principal_id         = azurerm_user_assigned_identity.this["encryption"].principal_id
}

# Who read which object, key or row.
resource "azurerm_log_analytics_workspace" "audit" {
  name                = var.name
  location            = azurerm_resource_group.this.location
  resource_group_name = azurerm_resource_group.this.name
  sku                 = "PerGB2018"
  retention_in_days   = 730 # the longest that is searched at once; the table's archive keeps the rest
  tags                = local.labels
}

resource "azurerm_log_analytics_workspace_table" "audit" {
  for_each                = toset(["StorageBlobLogs", "AzureDiagnostics"])
  workspace_id            = azurerm_log_analytics_workspace.audit.id
  name                    = each.key
  total_retention_in_days = var.audit_retention_days > 2191 ? 2556 : 2191 # whole years: seven or six
}

resource "azurerm_monitor_diagnostic_setting" "audit" {
  for_each = {
    storage  = "${azurerm_storage_account.data.id}/blobServices/default"
    vault    = azurerm_key_vault.this.id
    database = azurerm_postgresql_flexible_server.this.id
    cluster  = azurerm_kubernetes_cluster.this.id
  }
  name                       = "audit"
  target_resource_id         = each.value
  log_analytics_workspace_id = azurerm_log_analytics_workspace.audit.id
  dynamic "enabled_log" {
    for_each = {
      storage  = ["StorageRead", "StorageWrite", "StorageDelete"]
      vault    = ["AuditEvent"]
      database = ["PostgreSQLLogs"]
      cluster  = ["kube-audit-admin", "kube-apiserver", "guard"]
    }[each.key]
    content {
      category = enabled_log.value
    }
  }
}
