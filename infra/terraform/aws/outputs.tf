output "cluster" {
  description = "Name of the Kubernetes cluster."
  value       = aws_eks_cluster.this.name
}

output "lake" {
  description = "MEDISCALE_LAKE."
  value       = "s3://${aws_s3_bucket.data["lake"].id}/lake"
}

output "models" {
  description = "MEDISCALE_ARTIFACT_ROOT."
  value       = "s3://${aws_s3_bucket.data["models"].id}/models"
}

output "database" {
  description = "Host of the PostgreSQL behind MLflow and Airflow."
  value       = aws_db_instance.this.address
}

output "images" {
  description = "What stands before an image's name in overlays/production."
  value       = "${data.aws_caller_identity.this.account_id}.dkr.ecr.${var.region}.amazonaws.com/${var.name}"
}

output "shared_files" {
  description = "The file system behind the shared claims."
  value       = aws_efs_file_system.shared.id
}

output "serving_identity" {
  description = "Who the server is in the cloud."
  value       = aws_iam_role.workload["serving"].arn
}

output "stages_identity" {
  description = "Who a stage is in the cloud."
  value       = aws_iam_role.workload["stages"].arn
}

output "encryption_key" {
  description = "The key that encrypts what lies here."
  value       = aws_kms_key.data.arn
}
