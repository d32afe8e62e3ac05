resource "google_container_cluster" "this" {
  name                        = var.name
  location                    = var.region
  network                     = google_compute_network.this.id
  subnetwork                  = google_compute_subnetwork.private.id
  min_master_version          = var.kubernetes_version
  remove_default_node_pool    = true
  initial_node_count          = 1
  deletion_protection         = var.protected
  datapath_provider           = "ADVANCED_DATAPATH" # which enforces NetworkPolicies
  enable_shielded_nodes       = true
  enable_intranode_visibility = true
  resource_labels             = local.labels

  private_cluster_config {
    enable_private_nodes    = true
    enable_private_endpoint = true
    master_ipv4_cidr_block  = cidrsubnet(var.network_cidr, 12, 512)
  }
  master_authorized_networks_config {
    dynamic "cidr_blocks" {
      for_each = var.operator_cidrs
      content {
        cidr_block = cidr_blocks.value
      }
    }
  }
  ip_allocation_policy {
    cluster_secondary_range_name  = "pods"
    services_secondary_range_name = "services"
  }
  workload_identity_config {
    workload_pool = "${var.account}.svc.id.goog"
  }
  database_encryption {
    state    = "ENCRYPTED"
    key_name = google_kms_crypto_key.data.id
  }
  release_channel {
    channel = "REGULAR"
  }
  logging_config {
    enable_components = ["SYSTEM_COMPONENTS", "WORKLOADS", "APISERVER"]
  }
  addons_config {
    gcp_filestore_csi_driver_config {
      enabled = true
    }
  }
  depends_on = [google_kms_crypto_key_iam_member.service]
}

resource "google_container_node_pool" "this" {
  for_each = {
    general = { type = var.node_type, least = 1, most = ceil(var.nodes_most / 3) } # a zone
    gpu     = { type = var.gpu_node_type, least = 0, most = max(var.gpu_nodes_most, 1) }
  }
  name     = each.key
  cluster  = google_container_cluster.this.id
  location = var.region

  management {
    auto_repair  = true
    auto_upgrade = true
  }
  autoscaling {
    min_node_count = each.value.least
    max_node_count = each.value.most
  }
  node_config {
    machine_type      = each.value.type
    disk_size_gb      = 200
    disk_type         = "pd-balanced"
    boot_disk_kms_key = google_kms_crypto_key.data.id
    service_account   = google_service_account.this["nodes"].email
    oauth_scopes      = ["https://www.googleapis.com/auth/cloud-platform"]
    labels            = { pool = each.key }
    workload_metadata_config {
      mode = "GKE_METADATA"
    }
    shielded_instance_config {
      enable_secure_boot          = true
      enable_integrity_monitoring = true
    }
    dynamic "taint" {
      for_each = each.key == "gpu" ? [1] : []
      content {
        key    = "nvidia.com/gpu"
        value  = "present"
        effect = "NO_SCHEDULE"
      }
    }
  }
}
