# No public path: storage and keys answer inside the perimeter only, and the network resolves their
# names to the addresses that are reachable from networks in perimeters.

data "google_project" "this" {}

resource "google_access_context_manager_service_perimeter" "erasestream" {
  parent         = "accessPolicies/${var.access_policy}"
  name           = "accessPolicies/${var.access_policy}/servicePerimeters/erasestream"
  title          = "erasestream"
  perimeter_type = "PERIMETER_TYPE_REGULAR"

  status {
    resources           = distinct([for number in local.projects : "projects/${number}"])
    restricted_services = ["storage.googleapis.com", "cloudkms.googleapis.com"]

    vpc_accessible_services {
      enable_restriction = true
      allowed_services   = ["RESTRICTED-SERVICES"]
    }
  }
}

data "google_project" "workload" {
  project_id = var.workload_project
}

locals {
  projects = [data.google_project.this.number, data.google_project.workload.number]
}

resource "google_dns_managed_zone" "googleapis" {
  #checkov:skip=CKV_GCP_16:DNSSEC is for public zones; this one is private
  name        = "erasestream-googleapis"
  dns_name    = "googleapis.com."
  description = "Google's services, through restricted.googleapis.com."
  visibility  = "private"

  private_visibility_config {
    networks {
      network_url = var.network
    }
  }
}

resource "google_dns_record_set" "restricted" {
  managed_zone = google_dns_managed_zone.googleapis.name
  name         = "restricted.googleapis.com."
  type         = "A"
  ttl          = 300
  rrdatas      = ["199.36.153.4", "199.36.153.5", "199.36.153.6", "199.36.153.7"]
}

resource "google_dns_record_set" "all" {
  managed_zone = google_dns_managed_zone.googleapis.name
  name         = "*.googleapis.com."
  type         = "CNAME"
  ttl          = 300
  rrdatas      = ["restricted.googleapis.com."]
}
