data "aws_iam_policy_document" "assume" {
  for_each = toset(["eks", "ec2", "vpc-flow-logs", "pods.eks"])
  statement {
    actions = each.key == "pods.eks" ? ["sts:AssumeRole", "sts:TagSession"] : ["sts:AssumeRole"]
    principals {
      type        = "Service"
      identifiers = ["${each.key}.amazonaws.com"]
    }
  }
}

resource "aws_iam_role" "cluster" {
  name               = "${var.name}-cluster"
  assume_role_policy = data.aws_iam_policy_document.assume["eks"].json
}

resource "aws_iam_role_policy_attachment" "cluster" {
  role       = aws_iam_role.cluster.name
  policy_arn = "arn:${data.aws_partition.this.partition}:iam::aws:policy/AmazonEKSClusterPolicy"
}

resource "aws_iam_role" "node" {
  name               = "${var.name}-node"
  assume_role_policy = data.aws_iam_policy_document.assume["ec2"].json
}

resource "aws_iam_role_policy_attachment" "node" {
  for_each = toset([
    "AmazonEKSWorkerNodePolicy", "AmazonEKS_CNI_Policy", "AmazonEC2ContainerRegistryPullOnly",
  ])
  role       = aws_iam_role.node.name
  policy_arn = "arn:${data.aws_partition.this.partition}:iam::aws:policy/${each.key}"
}

# What makes disks and shares for claims is a pod, too, and gets no node's credentials.
resource "aws_iam_role" "driver" {
  for_each           = toset(["EBS", "EFS"])
  name               = "${var.name}-${lower(each.key)}"
  assume_role_policy = data.aws_iam_policy_document.assume["pods.eks"].json
}

resource "aws_iam_role_policy_attachment" "driver" {
  for_each   = aws_iam_role.driver
  role       = each.value.name
  policy_arn = "arn:${data.aws_partition.this.partition}:iam::aws:policy/service-role/Amazon${each.key}CSIDriverPolicy"
}

# Disks are encrypted with our key.
resource "aws_iam_role_policy" "driver" {
  for_each = aws_iam_role.driver
  name     = "key"
  role     = each.value.id
  policy   = data.aws_iam_policy_document.driver.json
}

data "aws_iam_policy_document" "driver" {
  statement {
    sid       = "Key"
    actions   = ["kms:Decrypt", "kms:DescribeKey", "kms:GenerateDataKeyWithoutPlaintext", "kms:ReEncryptFrom", "kms:ReEncryptTo"]
    resources = [aws_kms_key.data.arn]
  }
  statement {
    sid       = "Grant"
    actions   = ["kms:CreateGrant"]
    resources = [aws_kms_key.data.arn]
    condition {
      test     = "Bool"
      variable = "kms:GrantIsForAWSResource"
      values   = ["true"]
    }
  }
}

# The server reads models and appends to the lake's tables of answers; stages write both. Neither deletes a version of an
# object: what an erasure removes for good is removed by the lifecycle of old versions.
resource "aws_iam_role" "workload" {
  for_each           = toset(["serving", "stages"])
  name               = "${var.name}-${each.key}"
  assume_role_policy = data.aws_iam_policy_document.assume["pods.eks"].json
}

resource "aws_iam_role_policy" "workload" {
  for_each = aws_iam_role.workload
  name     = "lake-and-models"
  role     = each.value.id
  policy   = data.aws_iam_policy_document.workload[each.key].json
}

data "aws_iam_policy_document" "workload" {
  for_each = {
    serving = { models = ["s3:GetObject"], lake = ["s3:GetObject", "s3:PutObject"] }
    stages = {
      models = ["s3:GetObject", "s3:PutObject", "s3:DeleteObject"]
      lake   = ["s3:GetObject", "s3:PutObject", "s3:DeleteObject"]
    }
  }
  statement {
    sid       = "List"
    actions   = ["s3:ListBucket"]
    resources = [aws_s3_bucket.data["lake"].arn, aws_s3_bucket.data["models"].arn]
  }
  statement {
    sid       = "Lake"
    actions   = each.value.lake
    resources = ["${aws_s3_bucket.data["lake"].arn}/*"]
  }
  statement {
    sid       = "Models"
    actions   = each.value.models
    resources = ["${aws_s3_bucket.data["models"].arn}/*"]
  }
  statement {
    sid       = "Key"
    actions   = ["kms:Decrypt", "kms:GenerateDataKey"]
    resources = [aws_kms_key.data.arn]
  }
}
