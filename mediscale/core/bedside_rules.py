"""Bedside rules: the published scores that a task may name for its models to beat, and the features that each reads.

``training/evaluation/baselines.py`` computes them. They are named here so that a task's file is refused where it is
read, and not when a model is there to be compared.
"""

from typing import Literal

BedsideRule = Literal["news2", "lace", "creatinine_ratio", "prior_admissions"]

READ: dict[BedsideRule, tuple[str, ...]] = {
    "news2": (
        "gcs_eye_last_24h", "gcs_verbal_last_24h", "gcs_motor_last_24h", "respiratory_rate_last_24h",
        "oxygen_saturation_last_24h", "systolic_blood_pressure_last_24h", "heart_rate_last_24h",
        "temperature_last_24h", "fio2_last_24h",
    ),
    "lace": ("hours_since_admission",),
    "creatinine_ratio": ("creatinine_last_stay", "creatinine_min_stay"),
    "prior_admissions": ("prior_inpatient_stays_last_stay",),
}  # fmt: skip
"""Features that a task has to declare; of those that every task has a rule reads more."""
