"""Point-in-time features: the feature kernel, its windows, comorbidity indices, gold and the training set."""
