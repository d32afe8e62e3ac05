# Lake and models: versioned, encrypted with our key, never public. Reads are in the audit log.

resource "google_storage_bucket" "data" {
  for_each                    = toset(["lake", "models"])
  name                        = "${var.name}-${each.key}-${var.account}"
  location                    = var.region
  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"
  force_destroy               = !var.protected
  versioning {
    enabled = true
  }
  encryption {
    default_kms_key_name = google_kms_crypto_key.data.id
  }
  lifecycle_rule {
    condition {
      days_since_noncurrent_time = var.retention_days
    }
    action {
      type = "Delete"
    }
  }
  depends_on = [google_kms_crypto_key_iam_member.service]
}

# What several pods write at once: the home, the folder of trust, backups.
resource "google_filestore_instance" "shared" {
  name                        = "${var.name}-shared"
  location                    = var.region
  tier                        = "ENTERPRISE"
  kms_key_name                = google_kms_crypto_key.data.id
  deletion_protection_enabled = var.protected
  file_shares {
    name        = "mediscale"
    capacity_gb = 1024
  }
  networks {
    network      = google_compute_network.this.name
    modes        = ["MODE_IPV4"]
    connect_mode = "PRIVATE_SERVICE_ACCESS"
  }
  depends_on = [google_service_networking_connection.services, google_kms_crypto_key_iam_member.service]
}

resource "google_artifact_registry_repository" "images" {
  repository_id = var.name
  location      = var.region
  format        = "DOCKER"
  kms_key_name  = google_kms_crypto_key.data.id
  docker_config {
    immutable_tags = true
  }
  depends_on = [google_kms_crypto_key_iam_member.service]
}

# Where the prediction log may be copied to for the hospital's own analyses.
resource "google_bigquery_dataset" "predictions" {
  dataset_id                 = "${replace(var.name, "-", "_")}_predictions"
  location                   = var.region
  delete_contents_on_destroy = !var.protected
  default_encryption_configuration {
    kms_key_name = google_kms_crypto_key.data.id
  }
  depends_on = [google_kms_crypto_key_iam_member.service]
}

# Empty: the hospital puts the keys in by hand, so that none is in Terraform's state.
resource "google_secret_manager_secret" "this" {
  for_each  = toset(["signing", "api-keys", "tls", "prometheus", "database"])
  secret_id = "${var.name}-${each.key}"
  replication {
    user_managed {
      replicas {
        location = var.region
        customer_managed_encryption {
          kms_key_name = google_kms_crypto_key.data.id
        }
      }
    }
  }
  depends_on = [google_kms_crypto_key_iam_member.service]
}
