output "service_accounts" {
  description = "Service account of each role; annotate its Kubernetes service account with it."
  value       = { for role, account in google_service_account.role : role => account.email }
}

output "master_keys" {
  description = "Cloud KMS keys that wrap the keys of grants and of epochs."
  value = {
    grants = google_kms_crypto_key.grants.id
    epochs = google_kms_crypto_key.epochs.id
  }
}
