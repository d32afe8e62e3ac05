# What a hospital says of its cluster, whichever cloud it has: azure/ and gcp/ link to this file.

variable "name" {
  description = "Beginning of every name; lower-case letters, digits and dashes."
  type        = string
  default     = "mediscale"
  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{2,20}$", var.name))
    error_message = "name takes 3 to 21 lower-case letters, digits and dashes, and begins with a letter."
  }
}

variable "region" {
  description = "Where everything lies. Patient data leaves it only by a copy that somebody makes."
  type        = string
}

variable "account" {
  description = "Suffix that makes the names of buckets unique: the account's number, the project or the subscription."
  type        = string
}

variable "network_cidr" {
  description = "Addresses of the private network, a /16."
  type        = string
  default     = "10.40.0.0/16"
}

variable "operator_cidrs" {
  description = "Networks from which operators reach the cluster's API: the hospital's own, by VPN or a private line."
  type        = list(string)
  validation {
    condition     = length(var.operator_cidrs) > 0 && !contains(var.operator_cidrs, "0.0.0.0/0")
    error_message = "operator_cidrs names the hospital's own networks; the whole internet is not one."
  }
}

variable "kubernetes_version" {
  description = "Minor version of Kubernetes."
  type        = string
  default     = "1.34"
}

variable "node_type" {
  description = "Machine type of the nodes that serve and run stages."
  type        = string
}

variable "nodes_most" {
  description = "How many of them at most; three at least, one a zone."
  type        = number
  default     = 6
}

variable "gpu_node_type" {
  description = "Machine type of the nodes with an accelerator, on which the note and language models train."
  type        = string
}

variable "gpu_nodes_most" {
  description = "How many of them at most; none while nothing trains."
  type        = number
  default     = 1
}

variable "database_type" {
  description = "Machine type of the PostgreSQL behind MLflow and Airflow."
  type        = string
}

variable "retention_days" {
  description = "How long deleted or overwritten objects, backups of the database and logs are kept."
  type        = number
  default     = 35
}

variable "audit_retention_days" {
  description = "How long the record of who read which object is kept; HIPAA asks for six years."
  type        = number
  default     = 2192
}

variable "protected" {
  description = "Whether data stores refuse to be destroyed."
  type        = bool
  default     = true
}

variable "labels" {
  description = "Labels or tags of everything."
  type        = map(string)
  default     = {}
}
