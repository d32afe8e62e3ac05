"""Evaluation on held-out patients: performance, subgroups, baselines, robustness, the evaluation report."""
