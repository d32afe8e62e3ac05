"""Dataset names, and the sizes of a synthetic dataset.

Standard library only: Airflow's environment reads this while it parses the DAGs.
"""

DATASET_PATTERN = "^[a-z0-9][a-z0-9-]{0,99}$"
"""A dataset's name is part of paths, keys and model names."""

SIZES = ("tiny", "small", "large")
"""Of a synthetic hospital: 250, 6,000 or 40,000 patients."""
