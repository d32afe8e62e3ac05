# One private subnet: Google's services are reached inside the network, and there is no NAT.

resource "google_compute_network" "this" {
  name                    = var.name
  auto_create_subnetworks = false
  depends_on              = [google_project_service.this]
}

resource "google_compute_subnetwork" "private" {
  name                     = "${var.name}-private"
  network                  = google_compute_network.this.id
  ip_cidr_range            = cidrsubnet(var.network_cidr, 4, 0)
  private_ip_google_access = true
  secondary_ip_range {
    range_name    = "pods"
    ip_cidr_range = cidrsubnet(var.network_cidr, 2, 1)
  }
  secondary_ip_range {
    range_name    = "services"
    ip_cidr_range = cidrsubnet(var.network_cidr, 4, 1)
  }
  log_config {
    aggregation_interval = "INTERVAL_5_SEC"
    flow_sampling        = 1
    metadata             = "INCLUDE_ALL_METADATA"
  }
}

resource "google_compute_firewall" "no_way_out" {
  name      = "${var.name}-no-way-out"
  network   = google_compute_network.this.id
  direction = "EGRESS"
  priority  = 65000
  deny {
    protocol = "all"
  }
  destination_ranges = ["0.0.0.0/0"]
}

resource "google_compute_firewall" "inside" {
  name      = "${var.name}-inside"
  network   = google_compute_network.this.id
  direction = "EGRESS"
  priority  = 1000
  allow {
    protocol = "all"
  }
  destination_ranges = [var.network_cidr, "199.36.153.8/30"] # and private.googleapis.com
}

# By these names Google's services and registries have addresses that only this network reaches; without those of the
# registries no node gets an image.
locals {
  private_names = { googleapis = "googleapis.com.", gcr = "gcr.io.", pkg = "pkg.dev." }
}

resource "google_dns_managed_zone" "google" {
  for_each   = local.private_names
  name       = "${var.name}-${each.key}"
  dns_name   = each.value
  visibility = "private"
  private_visibility_config {
    networks {
      network_url = google_compute_network.this.id
    }
  }
}

resource "google_dns_record_set" "apex" {
  for_each     = local.private_names
  managed_zone = google_dns_managed_zone.google[each.key].name
  name         = each.key == "googleapis" ? "private.googleapis.com." : each.value
  type         = "A"
  ttl          = 300
  rrdatas      = ["199.36.153.8", "199.36.153.9", "199.36.153.10", "199.36.153.11"]
}

resource "google_dns_record_set" "all" {
  for_each     = local.private_names
  managed_zone = google_dns_managed_zone.google[each.key].name
  name         = "*.${each.value}"
  type         = "CNAME"
  ttl          = 300
  rrdatas      = [google_dns_record_set.apex[each.key].name]
}

# The database's addresses inside the network.
resource "google_compute_global_address" "services" {
  name          = "${var.name}-services"
  purpose       = "VPC_PEERING"
  address_type  = "INTERNAL"
  prefix_length = 20
  network       = google_compute_network.this.id
}

resource "google_service_networking_connection" "services" {
  network                 = google_compute_network.this.id
  service                 = "servicenetworking.googleapis.com"
  reserved_peering_ranges = [google_compute_global_address.services.name]
}
