"""Stage: performance over time: how good the answers of a version were, window after window, as outcomes mature.

A window whose outcomes have all matured is measured, by the code that judged the version on held-out patients: as a
whole, and by subgroup. An open window is estimated by its risks alone (``monitoring.estimated_performance``), under
that name, until it can be measured; no alarm rests on an estimate. The newest judgement of drift stands beside them.
The table holds no patient, and no count of a few: it is what the report charts, ``/metrics`` exports and alerts read.
"""

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, NaiveDatetime

from data_pipeline.features import training_set
from mediscale.core import tasks
from mediscale.core.annotations import Digest
from mediscale.core.caller import now
from mediscale.core.refs import Frozen, ModelRef, TableRef
from mediscale.core.settings import Settings
from mediscale.core.stage import Context, Stage
from mediscale.core.tables import PERFORMANCE, PREDICTIONS
from mediscale.core.tasks import TaskName
from mediscale.inference import tabular
from mediscale.storage import calls, commits, lake
from mediscale.storage.logged_predictions import Question
from monitoring import monitoring_inputs, performance_figures
from monitoring.drift import drift, judged_windows
from monitoring.performance_figures import Judge, PerformanceAlarm
from training.evaluation import evaluation_report, matured_outcomes
from training.evaluation.evaluation_report import Evidence

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Params(Frozen):
    dataset: str
    task: TaskName
    model: ModelRef
    since: NaiveDatetime
    """When the first window begins: when the version was promoted."""
    as_of: NaiveDatetime
    """Outcomes that became certain later are unknown."""
    predictions: TableRef
    labels: TableRef | None = None
    """Without them every window is open."""
    events: TableRef | None = None
    """Gives the ethnicity; without it that of every patient is unknown."""
    evidence: str | None = None
    """What held-out patients promised; without it nothing is held against the AUROC."""
    evidence_digest: Digest | None = None
    window: drift.Result | None = None
    """The newest judgement of drift."""
    window_days: int = Field(28, ge=1)
    max_windows: int = Field(26, ge=1)
    """The newest ones are kept."""


class Result(Frozen):
    performance: TableRef
    measured: int
    """Windows whose outcomes have matured."""
    estimated: int
    """Open windows."""
    performance_alarms: tuple[PerformanceAlarm, ...]


def run(params: Params, settings: Settings, key: str) -> Result:
    """Writes the version's part of ``performance_<task>`` anew.

    Raises:
        NotFoundError, StorageError: the model, its evidence or a table is not what is referred to.
    """
    answered = _answered(params, settings)
    labelled = None
    if params.labels is not None:
        labelled = matured_outcomes.certain_labels(settings, params.labels, params.as_of)
    judge = Judge(tasks.load(params.task).policy, _evidence(params, settings))
    windows = _windows(params)
    figures = [
        *judge.of_windows(windows, answered, labelled, params.as_of),
        *performance_figures.of_drift(params.window),
    ]
    table = f"{PERFORMANCE.name}_{params.task}"
    written = lake.find_commit(settings, params.dataset, table, key) or commits.commit(
        settings,
        table,
        performance_figures.rows(figures, params.model.version, params.as_of),
        params.dataset,
        {key: 1},
        replacing=f"model_version = {params.model.version}",
    )
    starts = {basis: {f.start for f in figures if f.basis == basis} for basis in ("measured", "estimated")}
    return Result(
        performance=written,
        measured=len(starts["measured"]),
        estimated=len(starts["estimated"]),
        performance_alarms=tuple(performance_figures.newest_alarms(figures)),
    )


def _windows(params: Params) -> list[tuple[datetime, datetime]]:
    """Beginning and end of the newest windows since the promotion, oldest first; the last one may still be going on."""
    length = timedelta(days=params.window_days)
    count = -((params.since - params.as_of) // length)
    starts = (params.since + i * length for i in range(max(0, count - params.max_windows), count))
    return [(start, start + length) for start in starts]


def _answered(params: Params, settings: Settings) -> pa.Table:
    """Answers about patients of the lake, with the attributes of their subgroups."""
    question = Question(params.model, params.task, params.since, params.as_of)
    rows = matured_outcomes.answers(settings, params.predictions, question, ["risk", "features"])
    features = tabular.load(settings, params.model, params.task).spec.features
    sex, age = (_input(rows["features"], features, name) for name in ("sex_female", "age_years"))
    sexes = np.array(["male", "female", "unknown"])[np.where(np.isnan(sex), 2, sex).astype(int)]
    return (
        rows.drop_columns(["features"])
        .append_column("sex", pa.array(sexes))
        .append_column("age_band", pa.array(training_set.age_bands(age)))
        .append_column("ethnicity", _ethnicity(settings, params.events, rows["subject_id"]))
    )


def _input(lists: pa.ChunkedArray, features: tuple[str, ...], name: str) -> "NDArray[np.float64]":
    if name not in features:
        return np.full(len(lists), np.nan)
    return np.asarray(pc.list_element(lists, features.index(name)).to_numpy(), dtype=np.float64)


def _ethnicity(settings: Settings, events: TableRef | None, subjects: pa.ChunkedArray) -> pa.Array:
    groups: dict[int, str] = {}
    if events is not None:
        races = pc.starts_with(pc.field("code"), "RACE//")
        rows = lake.dataset(settings, events).to_table(columns=[*training_set.RACE_COLUMNS], filter=races)
        stated = training_set.ethnicity_by_subject(rows)
        groups = dict(zip(stated["subject_id"].to_pylist(), stated["ethnicity"].to_pylist(), strict=True))
    return pa.array([groups.get(subject, "unknown") for subject in subjects.to_pylist()], pa.string())


def _evidence(params: Params, settings: Settings) -> Evidence | None:
    if params.evidence is None or params.evidence_digest is None:
        return None
    return evaluation_report.read(settings, params.evidence, params.evidence_digest)


def series_inputs(settings: Settings, dataset: str, task: TaskName, as_of: datetime) -> dict[str, Any]:
    """Parameters of this stage: the served version since its promotion, the log, the newest labels and the evidence.

    Raises:
        NotFoundError: no version is served, or nothing was logged yet.
    """
    move = monitoring_inputs.watched_move(settings, dataset, task)
    values: dict[str, Any] = {
        "model": move.version,
        "since": move.moved_at,
        "as_of": as_of,
        "predictions": lake.latest(settings, dataset, PREDICTIONS.name),
    }
    labelled = calls.newest_night(settings, "labels", dataset, task)
    if labelled is not None:
        values |= {"labels": labelled.result["labels"], "events": labelled.params["events"]}
    values |= monitoring_inputs.evidence_of(settings, move.version)
    windows = judged_windows.of_version(settings, dataset, task, move.version)
    return values | ({"window": windows[-1]} if windows else {})


def runtime_inputs(params: Mapping[str, Any], settings: Settings) -> Iterator[Context]:
    """The served version, its log, labels and evidence as they are now, where no log is named."""
    if {"dataset", "task"} <= params.keys() and "predictions" not in params:
        yield Context(series_inputs(settings, params["dataset"], params["task"], now()))


def _summary(result: Result) -> str:
    counted = f"{result.measured} windows measured, {result.estimated} open ones estimated"
    return "; ".join([counted, *(alarm.sentence for alarm in result.performance_alarms)])


STAGE = Stage(
    Params, Result, run, display_name="track performance", summary=_summary, runtime_inputs=runtime_inputs
)
