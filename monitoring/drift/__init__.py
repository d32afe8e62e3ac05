"""Drift of inputs and answered risks, with thresholds calibrated by resampling."""
