"""Watches what serving saw: drift of inputs and outputs, and the verdict whether to retrain."""
