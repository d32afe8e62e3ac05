# MediScale on Google Cloud: a private network without a way to the internet, GKE with a group of GPU nodes, encrypted
# buckets, a shared file system, PostgreSQL, image repositories, BigQuery for the prediction log, and an identity of
# least rights for the server and for the stages. `account` is the project.
#
#     terraform init && terraform apply -var-file hospital.tfvars

terraform {
  required_version = ">= 1.9"
  required_providers {
    google = {
      source  = "hashicorp/google"
      version = "~> 6.0"
    }
  }
}

provider "google" {
  project        = var.account
  region         = var.region
  default_labels = local.labels
}

locals {
  labels = merge({ application = var.name }, var.labels)
  services = [
    "artifactregistry", "bigquery", "cloudkms", "compute", "container", "file", "secretmanager", "servicenetworking",
    "sqladmin", "storage",
  ]
}

data "google_project" "this" {}

resource "google_project_service" "this" {
  for_each           = toset(local.services)
  service            = "${each.key}.googleapis.com"
  disable_on_destroy = false
}

# One key for everything at rest; its use is in Cloud Audit Logs.
resource "google_kms_key_ring" "this" {
  name       = var.name
  location   = var.region
  depends_on = [google_project_service.this]
}

resource "google_kms_crypto_key" "data" {
  name            = "data"
  key_ring        = google_kms_key_ring.this.id
  rotation_period = "7776000s"
  lifecycle {
    prevent_destroy = true # without it nothing here can be read again
  }
}

# The cloud's own services encrypt with it in our name.
resource "google_kms_crypto_key_iam_member" "service" {
  for_each = {
    storage    = "service-${data.google_project.this.number}@gs-project-accounts.iam.gserviceaccount.com"
    cluster    = "service-${data.google_project.this.number}@container-engine-robot.iam.gserviceaccount.com"
    disks      = "service-${data.google_project.this.number}@compute-system.iam.gserviceaccount.com"
    database   = "service-${data.google_project.this.number}@gcp-sa-cloud-sql.iam.gserviceaccount.com"
    images     = "service-${data.google_project.this.number}@gcp-sa-artifactregistry.iam.gserviceaccount.com"
    files      = "service-${data.google_project.this.number}@cloud-filer.iam.gserviceaccount.com"
    bigquery   = "bq-${data.google_project.this.number}@bigquery-encryption.iam.gserviceaccount.com"
    secretmgmt = "service-${data.google_project.this.number}@gcp-sa-secretmanager.iam.gserviceaccount.com"
  }
  crypto_key_id = google_kms_crypto_key.data.id
  role          = "roles/cloudkms.cryptoKeyEncrypterDecrypter"
  member        = "serviceAccount:${each.value}"
}

# Who read which object, row or secret.
resource "google_project_iam_audit_config" "reads" {
  for_each = toset(["storage.googleapis.com", "bigquery.googleapis.com", "secretmanager.googleapis.com", "cloudkms.googleapis.com"])
  project  = var.account
  service  = each.key
  dynamic "audit_log_config" {
    for_each = toset(["ADMIN_READ", "DATA_READ", "DATA_WRITE"])
    content {
      log_type = audit_log_config.key
    }
  }
}

resource "google_logging_project_bucket_config" "audit" {
  project        = var.account
  location       = var.region
  bucket_id      = "${var.name}-audit"
  retention_days = var.audit_retention_days
  locked         = var.protected
}

resource "google_logging_project_sink" "audit" {
  name                   = "${var.name}-audit"
  destination            = "logging.googleapis.com/${google_logging_project_bucket_config.audit.id}"
  filter                 = "log_id(\"cloudaudit.googleapis.com/data_access\") OR log_id(\"cloudaudit.googleapis.com/activity\")"
  unique_writer_identity = true
}
