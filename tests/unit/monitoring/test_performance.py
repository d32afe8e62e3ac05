"""Matured outcomes: which predictions count, and what is estimated from how many."""

from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from mediscale.core.errors import InputError
from mediscale.core.refs import ModelRef, TableRef
from mediscale.core.settings import Settings
from mediscale.core.table import Table
from mediscale.core.tables import LABELS, PREDICTIONS
from mediscale.storage import commits
from mediscale.storage.logged_predictions import Question
from monitoring import outcomes
from monitoring.drift import prediction_window

DAY = datetime(2026, 11, 1)
MODEL = ModelRef(name="a-mortality", version=1, uri="", digest="")
WHOLE = Question(MODEL, "mortality", DAY, DAY + timedelta(days=1))
LATER = DAY + timedelta(days=90)


def write(settings: Settings, declared: Table, name: str, n: int, **columns: Any) -> TableRef:
    usual = {
        "worker": "w",
        "prediction_id": "",
        "predicted_at": DAY,
        "task": "mortality",
        "model": MODEL.name,
        "model_version": 1,
        "prediction_time": DAY,
        "admission_time": DAY,
        "known_time": DAY + timedelta(days=30),
        "split": "held_out",
    }
    arrays = []
    for field in declared.arrow_schema():
        value = columns.get(field.name, usual.get(field.name))
        values = value if isinstance(value, list) else [value] * n
        arrays.append(pa.array(values, field.type))
    rows = pa.table(arrays, schema=declared.arrow_schema())
    found = commits.append(settings, name, rows, "a", "test", 1)
    assert found is not None
    return found


def hospital(settings: Settings, n: int, informative: bool) -> tuple[TableRef, TableRef]:
    rng = np.random.default_rng(n)
    risk = rng.random(n) * 0.6
    outcome = rng.random(n) < (risk if informative else 0.3)
    predictions = write(
        settings,
        PREDICTIONS,
        "predictions",
        n,
        subject_id=list(range(n)),
        sequence=list(range(n)),
        risk=list(risk),
    )
    labels = write(
        settings, LABELS, "labels_mortality", n, subject_id=list(range(n)), boolean_value=outcome.tolist()
    )
    return predictions, labels


def test_outcomes_count_from_the_day_on_which_they_are_certain(settings: Settings) -> None:
    tables = hospital(settings, 400, informative=True)
    early = outcomes.measure(settings, *tables, WHOLE, DAY + timedelta(days=29))
    assert (early.n, early.auroc) == (0, None)
    assert early.summary.startswith("AUROC not estimable yet (0 predictions")
    found = outcomes.measure(settings, *tables, WHOLE, LATER)
    assert found.n == 400
    assert found.auroc is not None
    assert found.auroc.low is not None
    assert 0.5 < found.auroc.low < found.auroc.value < found.auroc.high < 0.9
    told = (
        f"AUROC {found.auroc.value:.3f} ({found.auroc.low:.3f} to {found.auroc.high:.3f}) on 400 predictions"
    )
    assert found.summary.startswith(told), "an AUROC of few outcomes says nothing without its interval"


def test_predictions_of_which_only_the_first_outcomes_are_certain_do_not_count(settings: Settings) -> None:
    """Stays of 1 to 20 days, one of each a day: by the end, of the last 20 days only the short ones have ended."""
    days, stay = np.repeat(np.arange(60), 20), np.tile(np.arange(1, 21), 60)
    asked = [DAY + timedelta(days=int(day)) for day in days]
    known = [at + timedelta(days=int(length)) for at, length in zip(asked, stay, strict=True)]
    n = len(asked)
    predictions = write(
        settings,
        PREDICTIONS,
        "predictions",
        n,
        subject_id=list(range(n)),
        sequence=list(range(n)),
        prediction_time=asked,
        predicted_at=asked,
        risk=[0.5] * n,
    )
    labels = write(
        settings,
        LABELS,
        "labels_mortality",
        n,
        subject_id=list(range(n)),
        prediction_time=asked,
        known_time=known,
        boolean_value=[bool(length > 15) for length in stay],
    )
    sixty = Question(MODEL, "mortality", DAY, DAY + timedelta(days=60))
    found = outcomes.measure(settings, predictions, labels, sixty, sixty.end)
    assert found.events / found.n == pytest.approx(0.25, abs=0.01)


def test_too_few_outcomes_are_said_and_not_estimated(settings: Settings) -> None:
    found = outcomes.measure(settings, *hospital(settings, 25, informative=True), WHOLE, LATER)
    assert (found.n, found.auroc) == (25, None)
    assert found.summary.startswith("AUROC not estimable yet (25 predictions")
    assert 0 < found.events < 10
    assert "fewer than 10 of which happened" in found.summary


def test_other_moments_versions_and_requests_by_values_do_not_count(settings: Settings) -> None:
    labels = write(settings, LABELS, "labels_mortality", 5, subject_id=[1, 2, 3, 4, 5], boolean_value=True)
    predictions = write(
        settings,
        PREDICTIONS,
        "predictions",
        6,
        sequence=list(range(6)),
        subject_id=[1, 1, 2, 3, None, 5],
        prediction_time=[DAY, DAY, DAY + timedelta(hours=1), DAY, None, DAY],
        model_version=[1, 1, 1, 2, 1, 1],
        predicted_at=[DAY] * 5 + [DAY + timedelta(days=1)],
        risk=[0.1, 0.2, 0.3, 0.4, 0.5, 0.6],
    )
    assert outcomes.measure(settings, predictions, labels, WHOLE, LATER).n == 1


def test_a_question_that_was_asked_again_counts_by_its_newest_answer(settings: Settings) -> None:
    """The newest by the clock: worker a, whose rows the log has first, answered last; drift and outcomes agree."""
    n, hour = 40, timedelta(hours=1)
    asked = {"subject_id": list(range(n)) * 2, "sequence": [*range(n), *range(n)]}
    died = [i % 2 == 0 for i in range(n)]
    newest, older = [0.9 if one else 0.1 for one in died], [0.1 if one else 0.95 for one in died]
    predictions = write(
        settings,
        PREDICTIONS,
        "predictions",
        2 * n,
        **asked,
        worker=["a"] * n + ["b"] * n,
        predicted_at=[DAY + 2 * hour] * n + [DAY + hour] * n,
        risk=newest + older,
        features=[[0.0]] * (2 * n),
    )
    labels = write(settings, LABELS, "labels_mortality", n, subject_id=list(range(n)), boolean_value=died)
    found = outcomes.measure(settings, predictions, labels, WHOLE, LATER)
    assert found.auroc is not None
    assert (found.n, found.auroc.value) == (n, 1.0)
    window = prediction_window.load(settings, predictions, WHOLE, 1, np.random.default_rng(0))
    assert (window.predictions, window.risks.tolist()) == (2 * n, newest)


def test_an_infinite_input_is_a_sentence(settings: Settings) -> None:
    features = [[float("inf")]] * 12 + [[0.0]] * 8
    predictions = write(settings, PREDICTIONS, "predictions", 20, sequence=list(range(20)), features=features)
    with pytest.raises(InputError, match=r"^12 predictions in .* hold an infinite input"):
        prediction_window.load(settings, predictions, WHOLE, 1, np.random.default_rng(0))


def test_many_predictions_of_few_patients_are_the_outcomes_of_few(settings: Settings) -> None:
    """Nine patients of twenty days each, with outcomes enough by rows: their AUROC would be that of nine people."""
    n, hours = 180, [DAY + timedelta(hours=i) for i in range(180)]
    moment = {"subject_id": [i % 9 for i in range(n)], "prediction_time": hours}
    risk = np.random.default_rng(0).random(n).tolist()
    predictions = write(settings, PREDICTIONS, "predictions", n, sequence=list(range(n)), risk=risk, **moment)
    died = [i % 9 < 4 for i in range(n)]
    known = {"known_time": [at + timedelta(days=30) for at in hours]}
    labels = write(settings, LABELS, "labels_mortality", n, boolean_value=died, **moment, **known)
    measured = outcomes.measure(settings, predictions, labels, WHOLE, LATER)
    assert (measured.n, measured.events, measured.auroc, measured.brier) == (180, 80, None, None)
