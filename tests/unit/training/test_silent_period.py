"""A silent period counts what the version said of stays that it had never seen, once their outcome is certain."""

from datetime import datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest
from deltalake import write_deltalake
from fixtures import shadow_answers

from mediscale.core import tasks
from mediscale.core.policy import SilentPeriod as Asked
from mediscale.core.refs import ModelRef
from mediscale.core.settings import Settings
from mediscale.storage import lake
from training.evaluation.evaluation_report import SilentPeriod
from training.promotion import silent_period
from training.promotion.operation_floors import silent_floors
from training.statistics.estimate import Estimate

DAY, NOW = datetime(2026, 11, 1), datetime(2027, 3, 1)
MODEL = ModelRef(name="a-mortality", version=2, uri="", digest="")


@pytest.fixture
def shadow(settings: Settings) -> Any:
    """``shadow(trained_on, version)``: 400 answers by a version, of whose stays the first were trained on."""

    def make(trained_on: int = 0, version: int = 2, as_of: datetime = NOW) -> SilentPeriod:
        answering = MODEL.model_copy(update={"version": version})
        log, known = shadow_answers.write(settings, answering, DAY)
        uri = settings.table_uri("a", "training_set_mortality")
        seen = {"subject_id": pa.array(range(trained_on), pa.int64())}
        seen["stay_id"] = seen["subject_id"]
        write_deltalake(uri, pa.table(seen))
        trained = lake.latest(settings, "a", "training_set_mortality")
        return silent_period.measure(settings, log, known, trained, MODEL, "mortality", as_of)

    return make


def test_answers_that_matured_are_judged(shadow: Any) -> None:
    silent = shadow()
    assert silent.outcomes == 400
    assert silent.auroc.low < silent.auroc.value == pytest.approx(0.83, abs=0.05)
    assert silent.calibration_intercept.low < 0 < silent.calibration_intercept.high


def test_stays_that_it_was_trained_or_judged_on_don_t_count(shadow: Any) -> None:
    assert shadow(trained_on=390).outcomes == 10


def test_of_a_stay_that_is_predicted_again_the_outcome_counts_once(settings: Settings) -> None:
    """An hour later each stay is asked about again; the first ten were trained on at another time."""
    log, known = shadow_answers.write(settings, MODEL, DAY)
    tables = []
    for ref in (log, known):
        rows = lake.read(settings, ref)
        position = rows.schema.get_field_index("prediction_time")
        later = pa.array([DAY + timedelta(hours=1)] * rows.num_rows, pa.timestamp("us"))
        asked_again = rows.set_column(position, "prediction_time", later)
        write_deltalake(settings.table_uri(ref.dataset, ref.table), asked_again, mode="append")
        tables.append(lake.latest(settings, ref.dataset, ref.table))
    seen = {"subject_id": pa.array(range(10), pa.int64()), "stay_id": pa.array(range(10), pa.int64())}
    write_deltalake(settings.table_uri("a", "training_set_mortality"), pa.table(seen))
    trained = lake.latest(settings, "a", "training_set_mortality")
    silent = silent_period.measure(settings, tables[0], tables[1], trained, MODEL, "mortality", NOW)
    outcomes = lake.read(settings, known)["boolean_value"].to_pylist()
    assert (silent.outcomes, silent.events) == (780, sum(outcomes[10:]))


@pytest.mark.parametrize(
    "changes", [{"version": 1}, {"as_of": DAY + timedelta(days=29)}, {"trained_on": 400}]
)
def test_another_version_s_answers_and_outcomes_to_come_are_none(
    shadow: Any, changes: dict[str, Any]
) -> None:
    assert shadow(**changes) == SilentPeriod(outcomes=0, events=0)


@pytest.mark.parametrize(("outcome", "events"), [(False, 0), (True, 400)])
def test_outcomes_of_one_kind_are_counted_and_nothing_is_estimated_of_them(
    settings: Settings, outcome: bool, events: int
) -> None:
    log, known = shadow_answers.write(settings, MODEL, DAY)
    labels = lake.read(settings, known)
    of_one_kind = pa.array([outcome] * labels.num_rows)
    labels = labels.set_column(labels.schema.get_field_index("boolean_value"), "boolean_value", of_one_kind)
    write_deltalake(settings.table_uri(known.dataset, known.table), labels, mode="overwrite")
    trained = labels.select(["subject_id", "stay_id"]).slice(0, 0)
    write_deltalake(settings.table_uri("a", "training_set_mortality"), trained)
    known, seen = (lake.latest(settings, "a", t) for t in (known.table, "training_set_mortality"))
    assert silent_period.measure(settings, log, known, seen, MODEL, "mortality", NOW) == SilentPeriod(
        outcomes=400, events=events
    )


ASKED = Asked(min_outcomes=300, min_events=30, auroc_low=0.7, calibration_intercept=(-0.4, 0.4))
POLICY = tasks.load("mortality").policy.model_copy(update={"silent_period": ASKED})


def _at(value: float, width: float = 0.03) -> Estimate:
    return Estimate(value=value, low=value - width, high=value + width)


GOOD = SilentPeriod(outcomes=500, events=50, auroc=_at(0.8), calibration_intercept=_at(0.1))


@pytest.mark.parametrize(
    ("silent", "says"),
    [
        (GOOD, ""),
        (None, "it has no silent period: serve it with --alias staging"),
        (GOOD.model_copy(update={"outcomes": 300, "events": 30}), ""),
        (GOOD.model_copy(update={"outcomes": 299}), "299 matured outcomes in its silent period in shadow"),
        (GOOD.model_copy(update={"events": 3}), "fewer than 10 events in its silent period"),
        (GOOD.model_copy(update={"auroc": _at(0.72)}), "AUROC in the silent period in shadow 0.720"),
        (GOOD.model_copy(update={"auroc": None}), "AUROC in the silent period in shadow is not estimable"),
        (GOOD.model_copy(update={"calibration_intercept": _at(0.9)}), "lies outside -0.4 to 0.4"),
        (GOOD.model_copy(update={"calibration_intercept": None}), "is not estimable"),
        (SilentPeriod(outcomes=0, events=0), "0 matured outcomes"),
    ],
)
def test_the_policy_may_ask_for_a_silent_period(silent: SilentPeriod | None, says: str) -> None:
    problems = [floor.objection for floor in silent_floors(silent, POLICY) if floor.objection]
    assert any(says in problem for problem in problems) if says else not problems


def test_the_policies_here_ask_for_none() -> None:
    for task in ("mortality", "readmission"):
        assert list(silent_floors(None, tasks.load(task).policy)) == []
