"""Answers of risk models: the versions that are served, a patient's record, a risk with its reasons."""
