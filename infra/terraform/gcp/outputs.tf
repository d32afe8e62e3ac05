output "cluster" {
  description = "Name of the Kubernetes cluster."
  value       = google_container_cluster.this.name
}

output "lake" {
  description = "MEDISCALE_LAKE."
  value       = "gs://${google_storage_bucket.data["lake"].name}/lake"
}

output "models" {
  description = "MEDISCALE_ARTIFACT_ROOT."
  value       = "gs://${google_storage_bucket.data["models"].name}/models"
}

output "database" {
  description = "Host of the PostgreSQL behind MLflow and Airflow."
  value       = google_sql_database_instance.this.private_ip_address
}

output "images" {
  description = "What stands before an image's name in overlays/production."
  value       = "${var.region}-docker.pkg.dev/${var.account}/${google_artifact_registry_repository.images.repository_id}"
}

output "shared_files" {
  description = "The file system behind the shared claims."
  value       = google_filestore_instance.shared.networks[0].ip_addresses[0]
}

output "serving_identity" {
  description = "Who the server is in the cloud."
  value       = google_service_account.this["serving"].email
}

output "stages_identity" {
  description = "Who a stage is in the cloud."
  value       = google_service_account.this["stages"].email
}

output "encryption_key" {
  description = "The key that encrypts what lies here."
  value       = google_kms_crypto_key.data.id
}
