"""Statistics of risks and outcomes: metrics, curves, calibration, and intervals from resampled patients."""
