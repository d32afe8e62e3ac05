"""Point-in-time features: the kernel, its windows, comorbidity, gold and the training set."""
