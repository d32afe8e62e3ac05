# Read over infra/terraform/aws where moto stands in for Amazon: what it has not, and what it forgets.

resource "aws_efs_backup_policy" "shared" {
  count = 0
}

resource "aws_eks_addon" "this" {
  for_each = {}
}

resource "aws_eks_pod_identity_association" "this" {
  for_each = {}
}

resource "aws_eks_pod_identity_association" "driver" {
  for_each = {}
}

# Its clusters have no security group.
resource "aws_security_group" "database" {
  ingress {
    from_port       = 5432
    to_port         = 5432
    protocol        = "tcp"
    security_groups = [aws_security_group.operators.id]
  }
}

resource "aws_security_group" "shared" {
  ingress {
    from_port       = 2049
    to_port         = 2049
    protocol        = "tcp"
    security_groups = [aws_security_group.operators.id]
  }
}

resource "aws_eks_cluster" "this" {
  lifecycle {
    ignore_changes = [access_config]
  }
}

# It answers with a key of SSH that nobody gave.
resource "aws_eks_node_group" "this" {
  lifecycle {
    ignore_changes = [scaling_config[0].desired_size, remote_access]
  }
}

resource "aws_launch_template" "node" {
  lifecycle {
    ignore_changes = [tag_specifications]
  }
}

resource "aws_db_instance" "this" {
  lifecycle {
    ignore_changes = [performance_insights_enabled, performance_insights_kms_key_id]
  }
}

resource "aws_db_parameter_group" "this" {
  lifecycle {
    ignore_changes = [parameter]
  }
}

resource "aws_vpc_endpoint" "service" {
  lifecycle {
    ignore_changes = [dns_options]
  }
}
