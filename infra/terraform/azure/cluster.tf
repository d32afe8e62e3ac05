resource "azurerm_disk_encryption_set" "this" {
  name                      = var.name
  location                  = azurerm_resource_group.this.location
  resource_group_name       = azurerm_resource_group.this.name
  key_vault_key_id          = azurerm_key_vault_key.data.versionless_id
  auto_key_rotation_enabled = true
  tags                      = local.labels
  identity {
    type         = "UserAssigned"
    identity_ids = [azurerm_user_assigned_identity.this["encryption"].id]
  }
  depends_on = [azurerm_role_assignment.encryption]
}

resource "azurerm_kubernetes_cluster" "this" {
  name                              = var.name
  location                          = azurerm_resource_group.this.location
  resource_group_name               = azurerm_resource_group.this.name
  dns_prefix                        = var.name
  kubernetes_version                = var.kubernetes_version
  sku_tier                          = "Standard"
  private_cluster_enabled           = true
  private_dns_zone_id               = azurerm_private_dns_zone.this["cluster"].id
  disk_encryption_set_id            = azurerm_disk_encryption_set.this.id
  local_account_disabled            = true
  role_based_access_control_enabled = true
  oidc_issuer_enabled               = true
  workload_identity_enabled         = true
  automatic_upgrade_channel         = "patch"
  node_os_upgrade_channel           = "NodeImage"
  tags                              = local.labels

  default_node_pool {
    name                    = "general"
    vm_size                 = var.node_type
    vnet_subnet_id          = azurerm_subnet.nodes.id
    zones                   = ["1", "2", "3"]
    auto_scaling_enabled    = true
    min_count               = 3
    max_count               = var.nodes_most
    os_disk_size_gb         = 200
    host_encryption_enabled = true
  }
  identity {
    type         = "UserAssigned"
    identity_ids = [azurerm_user_assigned_identity.this["cluster"].id]
  }
  network_profile {
    network_plugin      = "azure"
    network_plugin_mode = "overlay"
    network_data_plane  = "cilium"
    network_policy      = "cilium" # else NetworkPolicies do nothing
    outbound_type       = "none"
  }
  azure_active_directory_role_based_access_control {
    azure_rbac_enabled = true
    tenant_id          = data.azurerm_client_config.this.tenant_id
  }
  key_vault_secrets_provider {
    secret_rotation_enabled = true
  }
  depends_on = [azurerm_role_assignment.cluster]
}

resource "azurerm_kubernetes_cluster_node_pool" "gpu" {
  name                    = "gpu"
  kubernetes_cluster_id   = azurerm_kubernetes_cluster.this.id
  vm_size                 = var.gpu_node_type
  vnet_subnet_id          = azurerm_subnet.nodes.id
  auto_scaling_enabled    = true
  min_count               = 0
  max_count               = max(var.gpu_nodes_most, 1)
  os_disk_size_gb         = 200
  host_encryption_enabled = true
  node_labels             = { pool = "gpu" }
  node_taints             = ["nvidia.com/gpu=present:NoSchedule"]
  tags                    = local.labels
}
