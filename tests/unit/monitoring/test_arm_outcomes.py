"""Outcomes by arm: each arm's own patients, whichever version answered, and the difference between them."""

from datetime import datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest

from mediscale.core.refs import ModelRef, TableRef
from mediscale.core.settings import Settings
from mediscale.core.table import Table
from mediscale.core.tables import LABELS, PREDICTIONS
from mediscale.storage import commits
from mediscale.storage.logged_predictions import Question
from monitoring import arm_outcomes

DAY = datetime(2026, 11, 1)
ANSWERS = Question(
    ModelRef(name="a-mortality", version=2, uri="", digest=""), "mortality", DAY, DAY + timedelta(days=1)
)
LATER = DAY + timedelta(days=90)
N = 1200


def write(settings: Settings, declared: Table, name: str, columns: dict[str, object]) -> TableRef:
    usual = {
        "worker": "w", "prediction_id": "", "predicted_at": DAY, "task": "mortality", "model": "a-mortality",
        "prediction_time": DAY, "admission_time": DAY, "known_time": DAY + timedelta(days=30), "split": "held_out",
        "subject_id": list(range(N)), "sequence": list(range(N)),
    }  # fmt: skip
    arrays = []
    for field in declared.arrow_schema():
        value = {**usual, **columns}.get(field.name)
        arrays.append(pa.array(value if isinstance(value, list) else [value] * N, field.type))
    written = commits.append(settings, name, pa.table(arrays, schema=declared.arrow_schema()), "a", "test", 1)
    assert written is not None
    return written


def hospital(settings: Settings, other: str) -> tuple[TableRef, TableRef]:
    """A third of the patients each: control, the other arm, where the outcome is half as frequent, and neither."""
    arm = np.arange(N) % 3
    rng = np.random.default_rng(0)
    risk = rng.random(N) * 0.8
    outcome = rng.random(N) < np.where(arm == 1, risk / 2, risk)
    predictions = write(
        settings,
        PREDICTIONS,
        "predictions",
        {
            "risk": risk.tolist(),
            "arm": [("control", other, None)[i] for i in arm],
            "model_version": [1 if i != 1 or n % 10 == 0 else 2 for n, i in enumerate(arm)],
        },
    )
    return predictions, write(settings, LABELS, "labels_mortality", {"boolean_value": outcome.tolist()})


def test_arms_are_compared_by_intention_to_treat(settings: Settings) -> None:
    tables = hospital(settings, "canary")
    compared = arm_outcomes.compare(settings, *tables, ANSWERS, "canary", LATER)
    assert (compared.control.n, compared.other.n) == (400, 400), (
        "production answered some of the canary's patients"
    )
    difference = compared.risk_difference
    assert difference is not None
    assert difference.value == pytest.approx((compared.other.events - compared.control.events) / 400)
    assert difference.low is not None
    assert difference.high is not None
    assert -0.3 < difference.low < difference.value < difference.high < 0
    assert compared.control.auroc is not None
    assert "percentage points in the other (-" in compared.summary


def test_before_outcomes_mature_nothing_is_compared(settings: Settings) -> None:
    tables = hospital(settings, "canary")
    early = arm_outcomes.compare(settings, *tables, ANSWERS, "canary", DAY + timedelta(days=5))
    assert (early.control.n, early.other.n, early.risk_difference) == (0, 0, None)
    assert "not estimable yet" in early.summary
    assert early.summary.startswith("production's arm, 400 answers: "), (
        "that there are answers is seen before"
    )
    assert "; the other, 400: " in early.summary


def test_a_shadow_changes_nobodys_outcome(settings: Settings) -> None:
    tables = hospital(settings, "shadow")
    compared = arm_outcomes.compare(settings, *tables, ANSWERS, "shadow", LATER)
    assert compared.other.auroc is not None
    assert compared.risk_difference is None
