"""Who is at risk, when it is predicted, and what happened: the cohort of one task, in MEDS label columns.

Both tasks take inpatient stays of adults (18 or older at admission) with transfers merged (``stays``).

``mortality``: predicted 24 h after admission for who is alive and still admitted then; the outcome is death in hospital
during the stay.

``readmission``: predicted at discharge for who left alive, not to hospice and not to another hospital; the outcome is
that the next inpatient stay begins within 30 days and is unplanned. Unplanned is what the source calls emergency or
urgent; where it does not say (``OTHER``), a next stay counts. Death within 30 days is a competing event: the patient
stays in the cohort as not readmitted, and is counted in the flow. Each row, readmitted or not, needs 30 days of
follow-up, else the newest patients would enter only if they came back.

With ``as_of``, only what was known by then is seen, and rows whose outcome was not yet certain are left out.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache, partial
from typing import Any, Literal

import pyarrow as pa

from data_pipeline import shards as by_shard
from data_pipeline.cohort import prediction_times
from data_pipeline.cohort.bitemporal import standing
from data_pipeline.cohort.prediction_times import ADULT_YEARS
from data_pipeline.cohort.stays import TRANSFER_GAP, Known, Patient, Stay, Visit, patients
from data_pipeline.ingest import source as sources
from data_pipeline.ingest.source import Provides, SourceName
from mediscale.core.annotations import PatientCount, RuntimeInput
from mediscale.core.errors import QualityError
from mediscale.core.privacy import count
from mediscale.core.refs import Frozen, TableRef
from mediscale.core.settings import Settings
from mediscale.core.stage import SPARK, Stage
from mediscale.core.tables import LABELS
from mediscale.core.tasks import Task

FOLLOW_UP = timedelta(days=30)
UNPLANNED = frozenset({"EMERGENCY", "URGENT", "OTHER"})
NOT_SENT_HOME = frozenset({"DIED", "HOSPICE", "TRANSFER"})

_SPLIT_SALT = "mediscale-split-1"
"""Never changed: held-out patients must be held out of every later model too."""

Split = Literal["train", "tuning", "held_out"]
STEPS: dict[Task, tuple[str, ...]] = {
    "mortality": ("visits", "inpatient", "stays", "adults", "ended", "at_risk", "certain"),
    "readmission": ("visits", "inpatient", "stays", "adults", "ended", "at_risk", "followed_up"),
}
"""What the flow counts: visits left after each step; the last is the cohort."""

_NEEDS = {
    "visits": "hospital admissions",
    "inpatient": "admissions other than observation stays and births",
    "stays": "hospital stays",
    "adults": f"patients of {ADULT_YEARS} or older at admission (births are needed to know)",
    "ended": "stays with a discharge",
    "at_risk": "patients at risk at the time of prediction",
    "certain": "stays whose outcome was certain by then",
    "followed_up": f"stays with {FOLLOW_UP.days} days of follow-up by then",
}


NEEDED: dict[Task, tuple[Provides, ...]] = {
    "mortality": ("laboratory", "vital_signs"),
    "readmission": ("laboratory", "vital_signs", "diagnoses", "medications"),
}
"""A task is refused when the extract has not one of these: what would be left is age and sex."""


class Params(Frozen):
    dataset: RuntimeInput[str]
    source: RuntimeInput[SourceName]
    events: RuntimeInput[TableRef]
    shards: RuntimeInput[int]
    task: RuntimeInput[Task]
    absent: RuntimeInput[tuple[str, ...]] = ()
    """Files that the extract does not have (bronze says so)."""
    as_of: datetime | None = None
    """Only what was known at this time (naive UTC) is seen; None: everything, taken to be completely followed up."""


class Result(Frozen):
    labels: TableRef
    flow: dict[str, PatientCount]
    """Counts in order: visits left after each step, then what happened in the cohort."""
    at_risk: PatientCount
    """Rows of the cohort."""
    positives: PatientCount


def run(params: Params, settings: Settings, key: str) -> Result:
    """Labels every shard.

    Raises:
        QualityError: the extract lacks what the task needs, or has nobody for it (which says at which step the last one
            was lost).
    """
    _refuse_lacking(params)
    from pyspark.sql import functions as f

    from mediscale.storage import spark

    work = partial(_shard, settings, params)
    visits = by_shard.each(settings, params.shards, work, _schema()).persist()
    with by_shard.own_errors():
        counts = [tuple(row) for row in visits.groupBy("steps", "outcome").count().collect()]
    flow = _flow(params.task, counts)
    _refuse_empty(params, flow)
    cohort = visits.filter(f.col("steps") == len(STEPS[params.task]))
    labels = spark.write(settings, cohort, params.dataset, f"labels_{params.task}", key)
    visits.unpersist()
    positive = "died_in_hospital" if params.task == "mortality" else "readmitted"
    return Result(labels=labels, flow=flow, at_risk=flow[STEPS[params.task][-1]], positives=flow[positive])


def _refuse_lacking(params: Params) -> None:
    if not params.absent:
        return
    needed = NEEDED[params.task]
    files = sources.load(params.source).lacks((), *needed)
    if set(files) <= set(params.absent):
        raise QualityError(
            f"The extract has no {' and no '.join(needed).replace('_', ' ')} ({', '.join(files)} are absent), and "
            f"{params.task} can't be predicted without any; add one of these files and run again."
        )


def split_of(subject_id: int) -> Split:
    """70 % train, 15 % tuning, 15 % held_out, the same for ever."""
    digest = hashlib.sha256(f"{_SPLIT_SALT}/{subject_id}".encode()).digest()
    share = int.from_bytes(digest[:8]) / 2**64
    return "train" if share < 0.70 else "tuning" if share < 0.85 else "held_out"


def cohort(events: pa.Table, task: Task, as_of: datetime | None, shard: int) -> pa.Table:
    """One row for each visit: the columns of ``LABELS``, how many ``steps`` of the flow it passed, and its ``outcome``.

    Only a visit that passed all steps has its label columns filled.
    """
    rows = [
        row for patient in patients(standing(events, as_of)) for row in _rows(patient, task, as_of, shard)
    ]
    return pa.Table.from_pylist(rows, schema=_arrow_schema())


def _shard(settings: Settings, params: Params, shard: int) -> pa.Table:
    events = by_shard.read(settings, params.events, shard, prediction_times.COLUMNS)
    return cohort(events, params.task, params.as_of, shard)


@cache
def _arrow_schema() -> pa.Schema:
    return (
        LABELS.arrow_schema().append(pa.field("steps", pa.int64())).append(pa.field("outcome", pa.string()))
    )


def _schema() -> Any:
    return LABELS.spark_schema().add("steps", "long").add("outcome", "string")


@dataclass(frozen=True)
class _Label:
    at: datetime
    outcome: str
    positive: bool
    outcome_time: datetime | None
    certain: datetime
    """When every stay like this one has a label, whatever its outcome: were one outcome certain sooner than the other,
    the newest days would hold nothing else."""


def _rows(patient: Patient, task: Task, as_of: datetime | None, shard: int) -> Iterator[dict[str, Any]]:
    lost = {"steps": 0, "outcome": ""}
    for visit in patient.visits:
        if not visit.inpatient:
            yield lost | {"steps": 1}
    for i, stay in enumerate(patient.stays):
        following = patient.stays[i + 1] if i + 1 < len(patient.stays) else None
        yield from (lost | {"steps": 2} for _ in stay.visits[1:])
        yield _row(patient, stay, following, task, as_of) | {"shard": shard}


def _row(
    patient: Patient, stay: Stay, following: Stay | None, task: Task, as_of: datetime | None
) -> dict[str, Any]:
    if not prediction_times.adult(patient, stay):
        return {"steps": 3, "outcome": ""}
    ended = stay.discharged
    if ended is None:
        return {"steps": 4, "outcome": ""}
    label = _mortality(stay, ended) if task == "mortality" else _readmission(patient, stay, ended, following)
    if label is None or prediction_times.dead_before(patient, label.at):
        return {"steps": 5, "outcome": ""}
    if as_of is not None and label.certain > as_of:
        return {"steps": 6, "outcome": ""}
    return {
        "steps": 7,
        "outcome": label.outcome,
        "subject_id": patient.subject_id,
        "visit_id": stay.first.visit_id,
        "admission_time": stay.admitted.time,
        "prediction_time": label.at,
        "boolean_value": label.positive,
        "outcome_time": label.outcome_time,
        "known_time": label.certain,
        "split": split_of(patient.subject_id),
    }


def _mortality(stay: Stay, ended: Known) -> _Label | None:
    at, death = prediction_times.reached_by(stay), stay.death
    if at is None:
        return None
    # Until a day has passed, the discharge may yet turn out to be a transfer.
    certain = ended.available + TRANSFER_GAP
    if death:
        return _Label(at, "died_in_hospital", True, death.time, max(certain, death.available))
    return _Label(at, "left_alive", False, None, certain)


def _readmission(patient: Patient, stay: Stay, ended: Known, following: Stay | None) -> _Label | None:
    if stay.destination in NOT_SENT_HOME or stay.death:
        return None
    at, end = ended.time, ended.time + FOLLOW_UP
    returned = following.first if following and following.admitted.time <= end else None
    if returned and _unplanned(returned):
        return _Label(at, "readmitted", True, returned.admitted.time, max(end, returned.admitted.available))
    died = patient.death is not None and patient.death.time <= end
    outcome = "planned_return" if returned else "died_after_discharge" if died else "not_readmitted"
    return _Label(at, outcome, False, None, end)


def _unplanned(visit: Visit) -> bool:
    return visit.kind in UNPLANNED


_OUTCOMES: dict[Task, tuple[str, ...]] = {
    "mortality": ("died_in_hospital", "left_alive"),
    "readmission": ("readmitted", "planned_return", "died_after_discharge", "not_readmitted"),
}


def _flow(task: Task, counts: list[tuple[Any, ...]]) -> dict[str, int]:
    flow = {
        step: sum(n for passed, _, n in counts if passed >= i) for i, step in enumerate(STEPS[task], start=1)
    }
    return flow | {name: sum(n for _, outcome, n in counts if outcome == name) for name in _OUTCOMES[task]}


def _refuse_empty(params: Params, flow: dict[str, int]) -> None:
    steps = STEPS[params.task]
    lost_at = next((step for step in steps if not flow[step]), None)
    if lost_at is not None:
        before = steps[max(steps.index(lost_at) - 1, 0)]
        raise QualityError(
            f"{params.source} can't support the {params.task} task on dataset {params.dataset}: it has no "
            f"{_NEEDS[lost_at]} ({count(flow[before])} left at the step before, {before!r}). "
            "Check which tables the extract has, or leave this task out."
        )


STAGE = Stage(
    Params,
    Result,
    run,
    display_name="who is at risk, what came",
    summary=lambda r: f"{count(r.at_risk)} stays at risk, {count(r.positives)} with the outcome",
    resources=SPARK,
)
