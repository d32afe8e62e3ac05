resource "google_service_account" "this" {
  for_each     = toset(["nodes", "serving", "stages"])
  account_id   = "${var.name}-${each.key}"
  display_name = "MediScale: ${each.key}"
}

resource "google_project_iam_member" "nodes" {
  for_each = toset(["roles/logging.logWriter", "roles/monitoring.metricWriter", "roles/artifactregistry.reader"])
  project  = var.account
  role     = each.key
  member   = google_service_account.this["nodes"].member
}

# Who a pod is: the account that its manifest names, with no key to keep.
resource "google_service_account_iam_member" "pod" {
  for_each           = toset(["serving", "stages"])
  service_account_id = google_service_account.this[each.key].name
  role               = "roles/iam.workloadIdentityUser"
  member             = "serviceAccount:${var.account}.svc.id.goog[mediscale/mediscale-${each.key}]"
  depends_on         = [google_container_cluster.this]
}

# The server reads models and adds objects to the lake; stages write both.
resource "google_storage_bucket_iam_member" "this" {
  for_each = {
    serving-reads-models = { who = "serving", bucket = "models", role = "roles/storage.objectViewer" }
    serving-reads-lake   = { who = "serving", bucket = "lake", role = "roles/storage.objectViewer" }
    serving-adds-to-lake = { who = "serving", bucket = "lake", role = "roles/storage.objectCreator" }
    stages-write-models  = { who = "stages", bucket = "models", role = "roles/storage.objectUser" }
    stages-write-lake    = { who = "stages", bucket = "lake", role = "roles/storage.objectUser" }
  }
  bucket = google_storage_bucket.data[each.value.bucket].name
  role   = each.value.role
  member = google_service_account.this[each.value.who].member
}
