# One service account for each role.  Pods use them through workload identity: no key is ever issued.

locals {
  # The Kubernetes service account of each role.
  workloads = {
    sink    = "erasestream-sink"
    reader  = "erasestream-reader"
    eraser  = "erasestream-erase"
    rotator = "erasestream-rotate"
    keys    = "erasestream-keys"
    auditor = "erasestream-audit"
  }
  member = { for role, account in google_service_account.role : role => account.member }
}

resource "google_service_account" "role" {
  for_each     = local.workloads
  account_id   = each.value
  display_name = "erasestream ${each.key}"
}

resource "google_service_account_iam_binding" "workload" {
  for_each           = local.workloads
  service_account_id = google_service_account.role[each.key].name
  role               = "roles/iam.workloadIdentityUser"
  members = [
    "serviceAccount:${var.workload_project}.svc.id.goog[${var.namespace}/${each.value}]"
  ]
}
