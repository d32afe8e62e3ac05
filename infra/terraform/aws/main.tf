# MediScale on AWS: a private network without a way to the internet, EKS with a group of GPU nodes, encrypted buckets, a
# shared file system, PostgreSQL, image repositories, and a role of least rights for the server and for the stages.
#
#     terraform init && terraform apply -var-file hospital.tfvars

terraform {
  required_version = ">= 1.9"
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "~> 5.100"
    }
  }
}

provider "aws" {
  region = var.region
  default_tags {
    tags = local.labels
  }
}

locals {
  labels = merge({ application = var.name }, var.labels)
  images = ["mediscale-platform", "mediscale-serving", "mediscale-serving-language", "mediscale-airflow"]
}

data "aws_caller_identity" "this" {}

data "aws_partition" "this" {}

data "aws_availability_zones" "this" {
  state = "available"
}

# One key for everything at rest; its use is in CloudTrail.
resource "aws_kms_key" "data" {
  description             = "${var.name}: data at rest"
  enable_key_rotation     = true
  deletion_window_in_days = 30
  policy                  = data.aws_iam_policy_document.key.json
}

resource "aws_kms_alias" "data" {
  name          = "alias/${var.name}"
  target_key_id = aws_kms_key.data.key_id
}

data "aws_iam_policy_document" "key" {
  statement {
    sid       = "Account"
    actions   = ["kms:*"]
    resources = ["*"]
    principals {
      type        = "AWS"
      identifiers = ["arn:${data.aws_partition.this.partition}:iam::${data.aws_caller_identity.this.account_id}:root"]
    }
  }
  statement {
    sid       = "Logs"
    actions   = ["kms:Encrypt*", "kms:Decrypt*", "kms:ReEncrypt*", "kms:GenerateDataKey*", "kms:Describe*"]
    resources = ["*"]
    principals {
      type        = "Service"
      identifiers = ["logs.${var.region}.amazonaws.com", "cloudtrail.amazonaws.com"]
    }
  }
}
