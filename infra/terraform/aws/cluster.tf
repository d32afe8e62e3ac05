resource "aws_cloudwatch_log_group" "cluster" {
  name              = "/aws/eks/${var.name}/cluster"
  retention_in_days = 400
  kms_key_id        = aws_kms_key.data.arn
}

resource "aws_eks_cluster" "this" {
  name                      = var.name
  version                   = var.kubernetes_version
  role_arn                  = aws_iam_role.cluster.arn
  enabled_cluster_log_types = ["api", "audit", "authenticator", "controllerManager", "scheduler"]

  vpc_config {
    subnet_ids              = aws_subnet.private[*].id
    security_group_ids      = [aws_security_group.operators.id]
    endpoint_private_access = true
    endpoint_public_access  = false
  }
  encryption_config {
    resources = ["secrets"]
    provider {
      key_arn = aws_kms_key.data.arn
    }
  }
  access_config {
    authentication_mode                         = "API"
    bootstrap_cluster_creator_admin_permissions = true
  }
  depends_on = [aws_cloudwatch_log_group.cluster, aws_iam_role_policy_attachment.cluster]
}

resource "aws_security_group" "operators" {
  name        = "${var.name}-operators"
  description = "Operators to the cluster's API"
  vpc_id      = aws_vpc.this.id
  ingress {
    description = "Kubernetes API"
    from_port   = 443
    to_port     = 443
    protocol    = "tcp"
    cidr_blocks = var.operator_cidrs
  }
}

# Disks encrypted, and no pod gets the node's credentials: one hop, and only with a token (IMDSv2).
resource "aws_launch_template" "node" {
  name_prefix = "${var.name}-node-"
  metadata_options {
    http_tokens                 = "required"
    http_put_response_hop_limit = 1
  }
  block_device_mappings {
    device_name = "/dev/xvda"
    ebs {
      volume_size = 200
      volume_type = "gp3"
      encrypted   = true
      kms_key_id  = aws_kms_key.data.arn
    }
  }
}

resource "aws_eks_node_group" "this" {
  for_each = {
    general = { type = var.node_type, least = 3, most = var.nodes_most, ami = "AL2023_x86_64_STANDARD" }
    gpu     = { type = var.gpu_node_type, least = 0, most = var.gpu_nodes_most, ami = "AL2023_x86_64_NVIDIA" }
  }
  cluster_name    = aws_eks_cluster.this.name
  node_group_name = each.key
  node_role_arn   = aws_iam_role.node.arn
  subnet_ids      = aws_subnet.private[*].id
  instance_types  = [each.value.type]
  ami_type        = each.value.ami
  labels          = { pool = each.key }

  scaling_config {
    min_size     = each.value.least
    desired_size = each.value.least
    max_size     = max(each.value.most, 1)
  }
  launch_template {
    id      = aws_launch_template.node.id
    version = aws_launch_template.node.latest_version
  }
  dynamic "taint" {
    for_each = each.key == "gpu" ? [1] : []
    content {
      key    = "nvidia.com/gpu"
      value  = "present"
      effect = "NO_SCHEDULE"
    }
  }
  lifecycle {
    ignore_changes = [scaling_config[0].desired_size] # the autoscaler's
  }
  depends_on = [aws_iam_role_policy_attachment.node]
}

resource "aws_eks_addon" "this" {
  for_each = {
    vpc-cni                = jsonencode({ enableNetworkPolicy = "true" }) # else NetworkPolicies do nothing
    coredns                = null
    kube-proxy             = null
    eks-pod-identity-agent = null
    aws-ebs-csi-driver     = null
    aws-efs-csi-driver     = null
  }
  cluster_name         = aws_eks_cluster.this.name
  addon_name           = each.key
  configuration_values = each.value
  depends_on           = [aws_eks_pod_identity_association.driver] # a pod that starts before it gets no identity
}

# Who a pod is: the account that its manifest names, with no key to keep.
resource "aws_eks_pod_identity_association" "this" {
  for_each        = aws_iam_role.workload
  cluster_name    = aws_eks_cluster.this.name
  namespace       = "mediscale"
  service_account = "mediscale-${each.key}"
  role_arn        = each.value.arn
}

resource "aws_eks_pod_identity_association" "driver" {
  for_each        = aws_iam_role.driver
  cluster_name    = aws_eks_cluster.this.name
  namespace       = "kube-system"
  service_account = "${lower(each.key)}-csi-controller-sa"
  role_arn        = each.value.arn
}
