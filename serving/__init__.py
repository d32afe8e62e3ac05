"""Answers predictions with the promoted model; imports neither Spark, Ray, MLflow nor the training code."""
