"""Evaluation on held-out patients: metrics, intervals, calibration, baselines, the evaluation report."""
