output "cluster" {
  description = "Name of the Kubernetes cluster."
  value       = azurerm_kubernetes_cluster.this.name
}

output "lake" {
  description = "MEDISCALE_LAKE."
  value       = "abfss://lake@${azurerm_storage_account.data.name}.dfs.core.windows.net/lake"
}

output "models" {
  description = "MEDISCALE_ARTIFACT_ROOT."
  value       = "abfss://models@${azurerm_storage_account.data.name}.dfs.core.windows.net/models"
}

output "database" {
  description = "Host of the PostgreSQL behind MLflow and Airflow."
  value       = azurerm_postgresql_flexible_server.this.fqdn
}

output "images" {
  description = "What stands before an image's name in overlays/production."
  value       = azurerm_container_registry.this.login_server
}

output "shared_files" {
  description = "The file system behind the shared claims."
  value       = azurerm_storage_account.shared.name
}

output "serving_identity" {
  description = "Who the server is in the cloud."
  value       = azurerm_user_assigned_identity.this["serving"].client_id
}

output "stages_identity" {
  description = "Who a stage is in the cloud."
  value       = azurerm_user_assigned_identity.this["stages"].client_id
}

output "encryption_key" {
  description = "The key that encrypts what lies here."
  value       = azurerm_key_vault_key.data.versionless_id
}
