resource "azurerm_user_assigned_identity" "this" {
  for_each            = toset(["cluster", "encryption", "serving", "stages"])
  name                = "${var.name}-${each.key}"
  location            = azurerm_resource_group.this.location
  resource_group_name = azurerm_resource_group.this.name
  tags                = local.labels
}

resource "azurerm_role_assignment" "cluster" {
  for_each = {
    network = { scope = azurerm_virtual_network.this.id, role = "Network Contributor" }
    names   = { scope = azurerm_private_dns_zone.this["cluster"].id, role = "Private DNS Zone Contributor" }
    disks   = { scope = azurerm_disk_encryption_set.this.id, role = "Reader" }
  }
  scope                = each.value.scope
  role_definition_name = each.value.role
  principal_id         = azurerm_user_assigned_identity.this["cluster"].principal_id
}

resource "azurerm_role_assignment" "images" {
  scope                = azurerm_container_registry.this.id
  role_definition_name = "AcrPull"
  principal_id         = azurerm_kubernetes_cluster.this.kubelet_identity[0].object_id
}

# Who a pod is: the account that its manifest names, with no key to keep. An overlay adds the annotation
# azure.workload.identity/client-id to the account and the label azure.workload.identity/use to the pods. They fetch their
# tokens from login.microsoftonline.com, which has no private endpoint: the hospital's firewall lets the nodes reach it.
resource "azurerm_federated_identity_credential" "pod" {
  for_each            = toset(["serving", "stages"])
  name                = each.key
  resource_group_name = azurerm_resource_group.this.name
  parent_id           = azurerm_user_assigned_identity.this[each.key].id
  issuer              = azurerm_kubernetes_cluster.this.oidc_issuer_url
  subject             = "system:serviceaccount:mediscale:mediscale-${each.key}"
  audience            = ["api://AzureADTokenExchange"]
}

# The server reads models and writes its answers into the lake; stages write both.
resource "azurerm_role_assignment" "workload" {
  for_each = {
    serving-models = { who = "serving", container = "models", role = "Storage Blob Data Reader" }
    serving-lake   = { who = "serving", container = "lake", role = "Storage Blob Data Contributor" }
    stages-models  = { who = "stages", container = "models", role = "Storage Blob Data Contributor" }
    stages-lake    = { who = "stages", container = "lake", role = "Storage Blob Data Contributor" }
  }
  scope                = azurerm_storage_container.data[each.value.container].id
  role_definition_name = each.value.role
  principal_id         = azurerm_user_assigned_identity.this[each.value.who].principal_id
}
