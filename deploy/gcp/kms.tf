# The master key of grants, and the key under which Cloud Storage encrypts both buckets.
#
# destroy_scheduled_duration is explicit: a version that is destroyed can be restored until then, and
# nothing that it wrapped is unrecoverable before.  A day is the shortest that Cloud KMS allows.

resource "google_kms_key_ring" "erasestream" {
  name     = "erasestream"
  location = var.location
}

# Wraps the keys of grants.  Those of epochs have master keys that are files: a version of Cloud KMS can be
# restored for a day after its hour.  The rotator adds and destroys versions, so Cloud KMS itself adds none.
resource "google_kms_crypto_key" "grants" {
  #checkov:skip=CKV_GCP_43:the rotator makes a version each week, rewraps every key and destroys the old version
  name                       = "grants"
  key_ring                   = google_kms_key_ring.erasestream.id
  purpose                    = "ENCRYPT_DECRYPT"
  destroy_scheduled_duration = "86400s"

  lifecycle {
    prevent_destroy = true
  }
}

# Under it Cloud Storage encrypts what the sink has sealed already, and the vault.
resource "google_kms_crypto_key" "storage" {
  name                       = "storage"
  key_ring                   = google_kms_key_ring.erasestream.id
  purpose                    = "ENCRYPT_DECRYPT"
  rotation_period            = "7776000s"
  destroy_scheduled_duration = "86400s"

  lifecycle {
    prevent_destroy = true
  }
}

data "google_storage_project_service_account" "this" {}

resource "google_kms_crypto_key_iam_binding" "storage" {
  crypto_key_id = google_kms_crypto_key.storage.id
  role          = "roles/cloudkms.cryptoKeyEncrypterDecrypter"
  members       = [data.google_storage_project_service_account.this.member]
}

resource "google_kms_crypto_key_iam_binding" "grants_wrap" {
  crypto_key_id = google_kms_crypto_key.grants.id
  role          = "roles/cloudkms.cryptoKeyEncrypterDecrypter"
  members       = [local.member["sink"], local.member["rotator"]]
}

resource "google_kms_crypto_key_iam_binding" "grants_unwrap" {
  crypto_key_id = google_kms_crypto_key.grants.id
  role          = "roles/cloudkms.cryptoKeyDecrypter"
  members       = [local.member["reader"]]
}

resource "google_kms_crypto_key_iam_binding" "grants_rotate" {
  crypto_key_id = google_kms_crypto_key.grants.id
  role          = google_project_iam_custom_role.rotation.id
  members       = [local.member["rotator"]]
}

# Each names the version under which it wraps, and so has to know which there are.
resource "google_kms_crypto_key_iam_binding" "grants_versions" {
  crypto_key_id = google_kms_crypto_key.grants.id
  role          = google_project_iam_custom_role.versions.id
  members       = [local.member["sink"], local.member["reader"], local.member["rotator"]]
}

resource "google_project_iam_custom_role" "rotation" {
  role_id     = "erasestreamRotation"
  title       = "erasestream: rotation of a master key"
  description = "Adds and destroys versions of a key; cannot restore one."
  permissions = [
    "cloudkms.cryptoKeyVersions.create",
    "cloudkms.cryptoKeyVersions.destroy",
    "cloudkms.cryptoKeys.get",
  ]
}

resource "google_project_iam_custom_role" "versions" {
  role_id     = "erasestreamVersions"
  title       = "erasestream: versions of a master key"
  description = "Sees the versions of a key and their states."
  permissions = [
    "cloudkms.cryptoKeyVersions.get",
    "cloudkms.cryptoKeyVersions.list",
  ]
}
