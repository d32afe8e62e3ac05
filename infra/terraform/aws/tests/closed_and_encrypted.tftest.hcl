# terraform test: with the provider's schemas and no cloud behind them.

mock_provider "aws" {
  mock_data "aws_availability_zones" {
    defaults = { names = ["a", "b", "c"] }
  }
  mock_data "aws_iam_policy_document" {
    defaults = { json = "{}" }
  }
  mock_data "aws_caller_identity" {
    defaults = { account_id = "123456789012" }
  }
  mock_data "aws_partition" {
    defaults = { partition = "aws" }
  }
  mock_resource "aws_iam_role" {
    defaults = { arn = "arn:aws:iam::123456789012:role/a" }
  }
  mock_resource "aws_kms_key" {
    defaults = { arn = "arn:aws:kms:eu-central-1:123456789012:key/a" }
  }
  mock_resource "aws_cloudwatch_log_group" {
    defaults = { arn = "arn:aws:logs:eu-central-1:123456789012:log-group:a" }
  }
  mock_resource "aws_eks_cluster" {
    defaults = { vpc_config = { cluster_security_group_id = "sg-1" } }
  }
  mock_resource "aws_launch_template" {
    defaults = { id = "lt-1", latest_version = 1 }
  }
}

variables {
  region         = "eu-central-1"
  account        = "123456789012"
  operator_cidrs = ["192.168.0.0/16"]
  node_type      = "m7i.2xlarge"
  gpu_node_type  = "g6.2xlarge"
  database_type  = "db.m7g.large"
}

run "nothing_is_public" {
  assert {
    condition     = !aws_eks_cluster.this.vpc_config[0].endpoint_public_access && aws_eks_cluster.this.vpc_config[0].endpoint_private_access
    error_message = "The cluster's API can be reached from the internet."
  }
  assert {
    condition     = !aws_db_instance.this.publicly_accessible
    error_message = "The database can be reached from the internet."
  }
  assert {
    condition     = alltrue([for one in aws_s3_bucket_public_access_block.data : one.block_public_acls && one.block_public_policy && one.ignore_public_acls && one.restrict_public_buckets])
    error_message = "A bucket may be made public."
  }
  assert {
    condition     = toset(keys(aws_s3_bucket_public_access_block.data)) == toset(["lake", "models", "audit"])
    error_message = "A bucket is not closed."
  }
}

run "a_closed_network_has_what_pods_need" {
  assert {
    condition     = alltrue([for one in aws_vpc_endpoint.service : one.vpc_endpoint_type == "Interface" && one.private_dns_enabled]) && contains(keys(aws_vpc_endpoint.service), "s3")
    error_message = "A service of the cloud has no address inside the network, which a NetworkPolicy could name."
  }
  assert {
    condition     = toset([for one in aws_eks_pod_identity_association.driver : one.service_account]) == toset(["ebs-csi-controller-sa", "efs-csi-controller-sa"])
    error_message = "What makes disks and shares has no identity, and nodes' credentials reach no pod."
  }
}

run "everything_at_rest_is_encrypted" {
  assert {
    condition     = aws_db_instance.this.storage_encrypted && aws_efs_file_system.shared.encrypted && aws_kms_key.data.enable_key_rotation
    error_message = "Something lies unencrypted, or its key never changes."
  }
  assert {
    condition     = alltrue(flatten([for one in aws_s3_bucket_server_side_encryption_configuration.data : [for rule in one.rule : rule.apply_server_side_encryption_by_default[0].sse_algorithm == "aws:kms"]]))
    error_message = "A bucket is not encrypted with our key."
  }
  assert {
    condition     = alltrue([for one in aws_s3_bucket_versioning.data : one.versioning_configuration[0].status == "Enabled"])
    error_message = "A bucket keeps no old versions."
  }
  assert {
    condition     = anytrue([for one in aws_db_parameter_group.this.parameter : one.name == "rds.force_ssl" && one.value == "1"])
    error_message = "The database takes connections without TLS."
  }
}

run "reads_of_patients_are_recorded" {
  assert {
    condition     = aws_cloudtrail.this.event_selector[0].read_write_type == "All" && length(aws_cloudtrail.this.event_selector[0].data_resource[0].values) == 2
    error_message = "Who reads an object of lake or models is not recorded."
  }
  assert {
    condition     = contains(aws_eks_cluster.this.enabled_cluster_log_types, "audit")
    error_message = "The cluster writes no audit log."
  }
}

run "the_internet_is_no_operator" {
  command = plan
  variables {
    operator_cidrs = ["0.0.0.0/0"]
  }
  expect_failures = [var.operator_cidrs]
}

run "no_accelerator_waits_for_work" {
  assert {
    condition     = aws_eks_node_group.this["gpu"].scaling_config[0].min_size == 0 && aws_eks_node_group.this["gpu"].taint != null
    error_message = "GPU nodes run while nothing trains, or run what needs none."
  }
}
