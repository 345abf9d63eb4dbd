variable "project" {
  description = "Project of the buckets, the keys and the service accounts; nothing else should be in it."
  type        = string
}

variable "location" {
  description = "Region of the buckets and of the key ring, such as europe-west4."
  type        = string
}

variable "images_bucket" {
  description = "Name of the bucket of sealed images."
  type        = string
}

variable "vault_bucket" {
  description = "Name of the bucket of wrapped keys and erasure markers."
  type        = string
}

variable "network" {
  description = "The only network that reaches the buckets: projects/PROJECT/global/networks/NAME."
  type        = string
}

variable "network_ranges" {
  description = "Ranges of that network in which the stages run, pods included."
  type        = list(string)
}

variable "access_policy" {
  description = "Number of the organization's access policy, which holds the service perimeter."
  type        = string
}

variable "namespace" {
  description = "Kubernetes namespace of the stages."
  type        = string
  default     = "default"
}

variable "workload_project" {
  description = "Project of the cluster that runs the stages, for its workload identity pool."
  type        = string
}
