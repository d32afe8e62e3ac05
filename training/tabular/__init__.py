"""The XGBoost risk model on the tabular features."""
