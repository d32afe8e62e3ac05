"""Published scores, as a nurse would add them up."""

import numpy as np
import pytest

from data_pipeline.features import kernel
from training.evaluation import baselines


def _row(task, **values: float) -> np.ndarray:
    names = kernel.names(task)
    row = np.full((1, len(names)), np.nan, dtype=np.float32)
    for name, value in values.items():
        row[0, names.index(name)] = value
    return row


@pytest.mark.parametrize(
    ("values", "points"),
    [
        ({}, 0),
        ({"respiratory_rate_last_24h": 8}, 3),
        ({"respiratory_rate_last_24h": 9}, 1),
        ({"respiratory_rate_last_24h": 20}, 0),
        ({"respiratory_rate_last_24h": 21}, 2),
        ({"respiratory_rate_last_24h": 25}, 3),
        ({"oxygen_saturation_last_24h": 91}, 3),
        ({"oxygen_saturation_last_24h": 92}, 2),
        ({"oxygen_saturation_last_24h": 95}, 1),
        ({"oxygen_saturation_last_24h": 96}, 0),
        ({"fio2_last_24h": 28}, 2),
        ({"systolic_blood_pressure_last_24h": 90}, 3),
        ({"systolic_blood_pressure_last_24h": 110}, 1),
        ({"systolic_blood_pressure_last_24h": 220}, 3),
        ({"heart_rate_last_24h": 40}, 3),
        ({"heart_rate_last_24h": 90}, 0),
        ({"heart_rate_last_24h": 131}, 3),
        ({"temperature_last_24h": 35.0}, 3),
        ({"temperature_last_24h": 38.5}, 1),
        ({"temperature_last_24h": 39.5}, 2),
        ({"gcs_verbal_last_24h": 4}, 3),
        ({"heart_rate_last_24h": 115, "respiratory_rate_last_24h": 26, "oxygen_saturation_last_24h": 90}, 8),
    ],
)
def test_news2(values, points) -> None:
    assert baselines.bedside(_row("mortality", **values), "mortality").tolist() == [points]


@pytest.mark.parametrize(
    ("days", "emergency", "charlson", "visits", "points"),
    [(0.9, 0, 0, 0, 0), (1, 1, 1, 1, 6), (6.5, 0, 3, 0, 7), (13, 0, 0, 9, 9), (14, 1, 4, 4, 19)],
)
def test_lace(days, emergency, charlson, visits, points) -> None:
    row = _row(
        "readmission",
        hours_since_admission=24 * days,
        emergency_admission=emergency,
        charlson_score=charlson,
        prior_visits_365d=visits,
    )
    assert baselines.bedside(row, "readmission").tolist() == [points]
