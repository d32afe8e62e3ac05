"""Bedside rules: the published scores that a task may name for its models to beat, and the features that each reads.

``training/evaluation/baselines.py`` computes them. They are named here so that a task's file is refused where it is
read, and not when a model is there to be compared.
"""

import math
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

Bands = tuple[tuple[float, int], ...]
"""(largest value, points), from the smallest value on."""
NEWS2: dict[str, Bands] = {
    "respiratory_rate": ((8, 3), (11, 1), (20, 0), (24, 2), (math.inf, 3)),
    "oxygen_saturation": ((91, 3), (93, 2), (95, 1), (math.inf, 0)),
    "systolic_blood_pressure": ((90, 3), (100, 2), (110, 1), (219, 0), (math.inf, 3)),
    "heart_rate": ((40, 3), (50, 1), (90, 0), (110, 1), (130, 2), (math.inf, 3)),
    "temperature": ((35, 3), (36, 1), (38, 0), (39, 1), (math.inf, 2)),
}
"""The vital signs of the National Early Warning Score 2 (Royal College of Physicians 2017), SpO2 by its scale 1; by
concept, in the concept's unit. Beside them the score counts oxygen that is given, and consciousness."""
