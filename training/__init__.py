"""Training: from a frozen training set to a promoted model, by fitting, evaluation and promotion."""
