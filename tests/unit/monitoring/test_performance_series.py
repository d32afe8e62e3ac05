"""Performance over time: what is measured, what is estimated, what is told of a few, and what raises an alarm."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from data_pipeline.features import kernel, training_set
from mediscale.core.refs import ModelRef, TableRef
from mediscale.core.settings import Settings
from mediscale.core.tables import EVENTS, LABELS, PREDICTIONS
from mediscale.pipeline import runtime_inputs
from mediscale.storage import calls, commits, lake, registry
from mediscale.storage.logged_predictions import Question
from monitoring import estimated_performance, outcomes, performance_series, retrain_decision
from monitoring.drift import drift
from monitoring.performance_figures import PerformanceAlarm
from training.statistics import metrics

PROMOTED = datetime(2026, 1, 1)
WEEK = timedelta(days=7)
FOLLOW_UP = timedelta(days=30)
"""From a prediction until its label is certain."""
NAMES = kernel.names("mortality")


class Hospital:
    """A promoted version, and a log with as many questions in each week, half of them about women."""

    def __init__(self, settings: Settings, model: ModelRef) -> None:
        self.settings, self.model = settings, model

    def answers(self, weeks: int, per_week: int, fooled_from: int = 99) -> tuple[TableRef, TableRef]:
        """The log and the labels. Risks mean what they say, but those of women from a week on say nothing."""
        rng = np.random.default_rng(3)
        n = weeks * per_week
        week = np.repeat(np.arange(weeks), per_week)
        risk, female = rng.uniform(0.02, 0.6, n), np.arange(n) % 2 == 0
        died = rng.random(n) < risk
        fooled = female & (week >= fooled_from)
        risk[fooled] = rng.permutation(risk[fooled])
        at = [PROMOTED + int(w) * WEEK + timedelta(minutes=i % per_week) for i, w in enumerate(week)]
        features = np.full((n, len(NAMES)), np.nan)
        features[:, NAMES.index("sex_female")], features[:, NAMES.index("age_years")] = (
            female,
            50 + 30 * female,
        )
        about = {"subject_id": np.arange(n), "prediction_time": at}
        logged = {**about, "risk": risk, "features": features.tolist(), "sequence": np.arange(n)}
        usual = {"worker": "w", "task": "mortality", "model": self.model.name, "prediction_id": ""}
        version = {"model_version": self.model.version, "predicted_at": at}
        labelled = {**about, "stay_id": np.arange(n), "boolean_value": died, "split": "held_out"}
        known = {"known_time": [one + FOLLOW_UP for one in at]}
        return (
            self._write(PREDICTIONS.name, PREDICTIONS, n, {**usual, **version, **logged}),
            self._write("labels_mortality", LABELS, n, {**labelled, **known}),
        )

    def races(self, n: int) -> TableRef:
        """Events that state a race of each second patient, and of the first one another race that was retracted."""
        about = [*range(0, n, 2), 0]
        codes = ["RACE//BLACK/AFRICAN AMERICAN"] * (len(about) - 1) + ["RACE//WHITE"]
        at = [PROMOTED] * (len(about) - 1) + [PROMOTED + WEEK]
        stated = {"subject_id": about, "code": codes, "time": at, "available_time": at}
        others = {"event_id": range(len(about)), "source": "patients", "shard": 0}
        retracted = {"retracted": [False] * (len(about) - 1) + [True]}
        return self._write("events", EVENTS, len(about), {**stated, **others, **retracted})

    def _write(self, name: str, declared: Any, n: int, columns: dict[str, Any]) -> TableRef:
        def values(value: Any) -> Any:
            return [value] * n if value is None or isinstance(value, str | int) else list(value)

        schema = declared.arrow_schema()
        arrays = [pa.array(values(columns.get(field.name)), field.type) for field in schema]
        written = commits.append(self.settings, name, pa.table(arrays, schema=schema), "synthetic", "test", 1)
        assert written is not None
        return written

    def params(self, tables: tuple[TableRef, TableRef], as_of: datetime) -> performance_series.Params:
        return performance_series.Params(
            dataset="synthetic",
            task="mortality",
            model=self.model,
            since=PROMOTED,
            as_of=as_of,
            predictions=tables[0],
            labels=tables[1],
            window_days=7,
        )

    def follow(self, params: performance_series.Params, key: str = "k") -> tuple[Any, list[dict[str, Any]]]:
        result = performance_series.run(params, self.settings, key)
        return result, lake.read(self.settings, result.performance).to_pylist()


@pytest.fixture
def hospital(settings: Settings, promote: Callable[..., Any]) -> Hospital:
    promote("mortality")
    move = registry.current(settings, "synthetic", "mortality", "production")
    assert move is not None
    return Hospital(settings, move.version)


def of(rows: list[dict[str, Any]], **wanted: Any) -> list[dict[str, Any]]:
    """The rows that have these values, oldest window first."""
    chosen = [row for row in rows if all(row[name] == value for name, value in wanted.items())]
    return sorted(chosen, key=lambda row: row["window_start"])


def test_a_window_is_measured_once_all_of_its_outcomes_have_matured_and_estimated_before(
    hospital: Hospital,
) -> None:
    tables = hospital.answers(weeks=4, per_week=200)
    as_of = PROMOTED + 2 * WEEK + FOLLOW_UP
    result, rows = hospital.follow(hospital.params(tables, as_of))
    assert (result.measured, result.estimated) == (2, 2)
    measured = of(rows, metric="auroc", attribute="", basis="measured")
    assert [row["window_start"] for row in measured] == [PROMOTED, PROMOTED + WEEK]
    first = Question(hospital.model, "mortality", PROMOTED, PROMOTED + WEEK)
    same = outcomes.measure(hospital.settings, *tables, first, as_of)
    assert same.auroc is not None
    assert measured[0]["estimate"] == same.auroc.value
    assert measured[0]["n"] == same.n == 200
    assert measured[0]["low"] < measured[0]["estimate"] < measured[0]["high"]
    assert {row["metric"] for row in of(rows, basis="measured", attribute="", window_start=PROMOTED)} == {
        "auroc", "auprc", "log_loss", "brier", "calibration_slope", "calibration_intercept", "ppv"
    }  # fmt: skip
    assert {row["value"] for row in of(rows, metric="auroc", attribute="sex")} == {"female", "male"}
    opened = of(rows, basis="estimated")
    assert {row["metric"] for row in opened} == {"auroc", "log_loss", "brier"}
    assert {row["events"] for row in opened} == {None}
    later = hospital.params(tables, as_of + 2 * WEEK)
    result, rows = hospital.follow(later, "later")
    assert (result.measured, result.estimated) == (4, 0)
    assert of(rows, basis="estimated") == []


def test_the_groups_of_ethnicity_are_those_that_events_state(hospital: Hospital) -> None:
    tables = hospital.answers(weeks=1, per_week=200)
    params = hospital.params(tables, PROMOTED + WEEK + FOLLOW_UP)
    _, rows = hospital.follow(params.model_copy(update={"events": hospital.races(200)}))
    groups = of(rows, metric="auroc", attribute="ethnicity")
    assert {(row["value"], row["n"]) for row in groups} == {("black", 100), ("unknown", 100)}


def test_a_series_is_written_once_and_leaves_other_versions_theirs(hospital: Hospital) -> None:
    tables = hospital.answers(weeks=1, per_week=50)
    params = hospital.params(tables, PROMOTED + WEEK)
    first, rows = hospital.follow(params)
    assert hospital.follow(params)[0] == first
    commits.commit(
        hospital.settings,
        "performance_mortality",
        pa.Table.from_pylist(
            [row | {"model_version": 7} for row in rows],
            lake.dataset(hospital.settings, first.performance).schema,
        ),
        "synthetic",
        {"another": 1},
    )
    _, both = hospital.follow(params, "again")
    assert len(of(both, model_version=7)) == len(of(both, model_version=1)) == len(rows)


def test_an_alarm_is_of_the_newest_measured_window_and_names_the_subgroup(hospital: Hospital) -> None:
    tables = hospital.answers(weeks=4, per_week=1200, fooled_from=2)
    calm, _ = hospital.follow(hospital.params(tables, PROMOTED + 2 * WEEK + FOLLOW_UP))
    assert calm.performance_alarms == ()
    result, rows = hospital.follow(hospital.params(tables, PROMOTED + 4 * WEEK + FOLLOW_UP), "later")
    raised = {(alarm.metric, alarm.attribute, alarm.value) for alarm in result.performance_alarms}
    assert ("auroc_gap", "sex", "female") in raised
    assert {value for _, _, value in raised} <= {"female", "80+", ""}  # women are those of 80 here
    alarm = next(alarm for alarm in result.performance_alarms if alarm.value == "female")
    assert alarm.sentence.startswith("auroc gap of sex female -0.")
    assert "2026-01-22 to 2026-01-29, where -0.05 was promised" in alarm.sentence
    assert [row["alarm"] for row in of(rows, metric="auroc_gap", value="female")] == [
        False,
        False,
        True,
        True,
    ]


def test_no_alarm_rests_on_an_estimate_and_nothing_is_told_of_a_few(hospital: Hospital) -> None:
    tables = hospital.answers(weeks=2, per_week=9)
    _, opened = hospital.follow(hospital.params(tables, PROMOTED + WEEK))
    assert {(row["basis"], row["n"], row["estimate"], row["alarm"]) for row in opened} == {
        ("estimated", None, None, False)
    }
    result, rows = hospital.follow(hospital.params(tables, PROMOTED + 9 * WEEK), "later")
    assert result.measured == 2
    assert {(row["n"], row["events"], row["estimate"], row["alarm"]) for row in rows} == {
        (None, None, None, False)
    }


def test_the_newest_drift_stands_beside_the_outcomes(hospital: Hospital) -> None:
    window = drift.Result(
        dataset="synthetic", task="mortality", model=hospital.model, start=PROMOTED, end=PROMOTED + WEEK, n=400,
        judged=400, n_ad_hoc=0, drifted=True, summary="", watched=31,
        drifted_columns=(
            drift.ColumnDrift(column="creatinine_last_stay", values=9, statistic=1, threshold=0.5, drifted=True),
        ),
    )  # fmt: skip
    params = hospital.params(hospital.answers(weeks=1, per_week=50), PROMOTED + WEEK)
    _, rows = hospital.follow(params.model_copy(update={"window": window}))
    (row,) = of(rows, basis="inputs")
    assert (row["metric"], row["estimate"], row["n"], row["alarm"]) == ("drifted_columns", 1.0, 400, True)
    quiet = window.model_copy(update={"drifted": False, "drifted_columns": ()})
    _, rows = hospital.follow(params.model_copy(update={"window": quiet}), "quiet")
    assert [row["alarm"] for row in of(rows, basis="inputs")] == [False]


def test_the_estimate_is_what_outcomes_show_later_where_risks_mean_what_they_say() -> None:
    rng = np.random.default_rng(5)
    risk = rng.beta(1, 6, 20_000)
    outcome = (rng.random(len(risk)) < risk).astype(np.float64)
    expected = estimated_performance.estimate(risk, np.arange(len(risk)), 50)
    for name, metric in estimated_performance.METRICS.items():
        measured = metrics.point_estimate(metric, outcome, risk)
        assert expected[name].value == pytest.approx(measured, abs=0.02), name
    assert expected["auroc"].value != pytest.approx(0.5, abs=0.1)


def test_ages_fall_into_the_bands_of_the_training_set() -> None:
    ages = np.array([18, 44.9, 45, 64.9, 65, 80, 90, np.nan])
    bands = ["18-44", "18-44", "45-64", "45-64", "65-79", "80+", "80+", "unknown"]
    assert training_set.age_bands(ages).tolist() == bands


def test_an_alarm_is_a_reason_to_retrain(settings: Settings) -> None:
    model = ModelRef(name="a-mortality", version=1, uri="", digest="")
    quiet = drift.Result(
        dataset="a", task="mortality", model=model, start=PROMOTED, end=PROMOTED + WEEK, n=400, judged=400,
        n_ad_hoc=0, drifted=False, summary="",
    )  # fmt: skip
    params = retrain_decision.Params(dataset="a", task="mortality", windows=(quiet,))
    alarm = PerformanceAlarm(
        metric="auroc_gap", attribute="sex", value="female", sentence="women fell behind"
    )
    assert not retrain_decision.run(params, settings, "k").retrain
    raised = retrain_decision.run(params.model_copy(update={"performance_alarms": (alarm,)}), settings, "k")
    assert raised.retrain
    assert "; women fell behind." in raised.reason


def recorded(settings: Settings, stage: str, params: dict[str, Any], result: dict[str, Any]) -> None:
    """The record of a finished call."""
    calls.write(
        settings,
        calls.Call(
            stage=stage, key=stage, run_id="r", params=params, result=result, code="", lock="", inputs=(), produced=(),
            outputs=(), started_at=PROMOTED, seconds=1,
        ),
    )  # fmt: skip


def test_a_caller_looks_up_the_served_version_its_log_labels_evidence_and_drift(hospital: Hospital) -> None:
    settings, about = hospital.settings, {"dataset": "synthetic", "task": "mortality"}
    predictions, labels = hospital.answers(weeks=1, per_week=10)
    events = {"dataset": "synthetic", "table": "events", "table_id": "t", "version": 3}
    bare = runtime_inputs.filled("performance_series", about, [], settings)
    assert (bare["model"], bare["predictions"]) == (hospital.model, predictions)
    assert not {"labels", "evidence", "window"} & bare.keys()
    recorded(settings, "labels", {**about, "events": events}, {"labels": labels.model_dump()})
    found = {"evidence": "evidence/k/evidence.json", "evidence_digest": "d" * 64}
    recorded(
        settings,
        "evaluate",
        {"model": hospital.model.model_dump()},
        {**found, "metrics": {"auroc_low": None}},
    )
    window = drift.Result(
        dataset="synthetic", task="mortality", model=hospital.model, start=PROMOTED, end=PROMOTED + WEEK, n=9,
        judged=9, n_ad_hoc=0, drifted=False, summary="",
    )  # fmt: skip
    recorded(settings, "drift", {"predictions": {"dataset": "synthetic"}}, window.model_dump(mode="json"))
    filled = runtime_inputs.filled("performance_series", about, [], settings)
    params = performance_series.Params.model_validate({**about, **filled})
    assert (params.labels, params.events, params.window) == (labels, TableRef.model_validate(events), window)
    assert (params.evidence, params.evidence_digest) == tuple(found.values())
    assert params.since == datetime(2026, 11, 22, 8)


def test_the_retrain_decision_hears_the_alarms_of_the_served_version_s_series(hospital: Hospital) -> None:
    settings, about = hospital.settings, {"dataset": "synthetic", "task": "mortality"}
    hospital.answers(weeks=1, per_week=10)
    window = drift.Result(
        dataset="synthetic", task="mortality", model=hospital.model, start=PROMOTED, end=PROMOTED + WEEK, n=9,
        judged=9, n_ad_hoc=0, drifted=False, summary="",
    )  # fmt: skip
    recorded(settings, "drift", {"predictions": {"dataset": "synthetic"}}, window.model_dump(mode="json"))
    alarm = {"metric": "auroc", "attribute": "", "value": "", "sentence": "auroc 0.5 was not promised"}
    for version, raised in ((2, None), (1, [alarm])):
        model = hospital.model.model_copy(update={"version": version}).model_dump()
        recorded(settings, "performance_series", {**about, "model": model}, {"performance_alarms": [alarm]})
        filled = runtime_inputs.filled("retrain_decision", about, [], settings)
        assert filled.get("performance_alarms") == raised
