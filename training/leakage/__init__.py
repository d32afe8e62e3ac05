"""Leak checks: what a promotion demands about the training set that a version was fitted and judged on."""
