# Both buckets are private, and forget: what is deleted is gone.  `erasestream` refuses to start on
# one that does not (docs/cloud-storage.md).

locals {
  buckets = {
    images = var.images_bucket
    vault  = var.vault_bucket
  }
  # Written by `python -m tests.deploy.gcp_access` from sinks/buckets/access_policy.py.
  access = jsondecode(file("${path.module}/access.json"))
  actions = toset(flatten([
    for rules in values(local.access) : [for rule in rules : rule.action]
  ]))
}

resource "google_storage_bucket" "this" {
  #checkov:skip=CKV_GCP_78:versioning would keep what is deleted
  #checkov:skip=CKV_GCP_62:access logs would name objects in another bucket, which outlives them; Cloud Audit Logs record access
  for_each                    = local.buckets
  name                        = each.value
  location                    = var.location
  public_access_prevention    = "enforced"
  uniform_bucket_level_access = true
  default_event_based_hold    = false
  enable_object_retention     = false
  force_destroy               = false

  soft_delete_policy {
    retention_duration_seconds = 0
  }

  versioning {
    enabled = false
  }

  encryption {
    default_kms_key_name = google_kms_crypto_key.storage.id
  }

  # From this network only; from the internet from nowhere.
  ip_filter {
    mode                           = "Enabled"
    allow_cross_org_vpcs           = false
    allow_all_service_agent_access = false

    public_network_source {
      allowed_ip_cidr_ranges = []
    }

    vpc_network_sources {
      network                = var.network
      allowed_ip_cidr_ranges = var.network_ranges
    }
  }

  lifecycle {
    prevent_destroy = true
  }

  depends_on = [google_kms_crypto_key_iam_binding.storage]
}

# One permission each: predefined roles hold more than a stage needs.
resource "google_project_iam_custom_role" "action" {
  for_each    = local.actions
  role_id     = "erasestream_${replace(each.value, ".", "_")}"
  title       = "erasestream: ${each.value}"
  permissions = [each.value]
}

# The whole policy of a bucket: the bindings of project owners, editors and viewers, which Cloud Storage
# gives every new bucket, go.
data "google_iam_policy" "bucket" {
  for_each = local.buckets

  dynamic "binding" {
    for_each = local.access[each.key]
    content {
      role    = google_project_iam_custom_role.action[binding.value.action].id
      members = [for role in binding.value.roles : local.member[role]]

      dynamic "condition" {
        for_each = binding.value.prefix == "" ? [] : [binding.value.prefix]
        content {
          title      = trimsuffix(condition.value, "/")
          expression = "resource.name.startsWith(\"projects/_/buckets/${each.value}/objects/${condition.value}\")"
        }
      }
    }
  }
}

resource "google_storage_bucket_iam_policy" "this" {
  for_each    = local.buckets
  bucket      = google_storage_bucket.this[each.key].name
  policy_data = data.google_iam_policy.bucket[each.key].policy_data
}
