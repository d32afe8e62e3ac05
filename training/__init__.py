"""From a frozen training set to a promoted model: fit, evaluate, decide."""
