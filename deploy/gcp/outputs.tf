output "service_accounts" {
  description = "Service account of each role; annotate its Kubernetes service account with it."
  value       = { for role, account in google_service_account.role : role => account.email }
}

output "master_key" {
  description = "Cloud KMS key that wraps the keys of grants: storage.kms_key."
  value       = google_kms_crypto_key.grants.id
}
