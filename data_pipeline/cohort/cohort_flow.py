"""The cohort flow: which step of a task each visit, stay or prediction reaches, and the labels of those in the last."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from functools import cache
from typing import Any, NamedTuple

import pyarrow as pa

from data_pipeline.cohort import at_risk, prediction_times
from data_pipeline.cohort.at_risk import Assertions
from data_pipeline.cohort.bitemporal import BitemporalTime, available_by, latest_as_of
from data_pipeline.cohort.outcome_labels import Label, Rises, label_of
from data_pipeline.cohort.prediction_times import RevisedStays
from data_pipeline.cohort.stays import Patient, Stay, patients
from mediscale.core import tasks
from mediscale.core.outcomes import ValueRise
from mediscale.core.splits import assign_split
from mediscale.core.tables import LABELS
from mediscale.core.tasks import Task, TaskName


def cohort(events: pa.Table, task: TaskName, as_of: datetime | None, shard: int) -> pa.Table:
    """The cohort flow of a shard's visits, one row for each: label columns, ``steps`` passed, ``outcome``, and whether
    columns make a ``contradiction`` about a death.

    ``events`` has ``prediction_times.COLUMNS``, in any order of rows. ``as_of`` is naive UTC. Only a row that passed
    all steps has the columns of ``LABELS`` filled; a merged stay passes them as its first visit, whose ``visit_id`` is
    the ``stay_id``. Where a stay has several predictions, each has a row: one that passed most steps is the stay's in
    the flow, and the others are ``further`` ones.
    """
    events, declared = available_by(events, as_of), tasks.load(task)
    records, revised = at_risk.assertions(events, declared), RevisedStays.of(events, declared)
    rows = [
        row
        for patient in patients(latest_as_of(events, None))
        for row in _rows(patient, revised, records.get(patient.subject_id, at_risk.NOTHING), as_of, shard)
    ]
    return pa.Table.from_pylist(rows, schema=_arrow_schema())


@cache
def _arrow_schema() -> pa.Schema:
    flow = {"steps": pa.int64(), "outcome": pa.string(), "contradiction": pa.bool_(), "further": pa.bool_()}
    return pa.schema([*LABELS.arrow_schema(), *(pa.field(name, kind) for name, kind in flow.items())])


def _rows(
    patient: Patient, revised: RevisedStays, record: Assertions, as_of: datetime | None, shard: int
) -> Iterator[dict[str, Any]]:
    for visit in patient.visits:
        if not visit.inpatient:
            yield _left_out(1)
    units = patient.units(revised.task.unit)
    for i, stay in enumerate(units):
        following = units[i + 1] if i + 1 < len(units) else None
        yield from (_left_out(2) for _ in stay.visits[1:])
        rows = _rows_of_stay(patient, stay, following, revised, record, as_of)
        furthest = max(rows, key=lambda row: int(row["steps"]))
        for row in rows:
            yield (
                row
                | {"shard": shard}
                | ({} if row is furthest else {"contradiction": False, "further": True})
            )


def _left_out(steps: int, contradiction: bool = False) -> dict[str, Any]:
    """The flow's entry of a visit or prediction that was left out after so many steps."""
    return {"steps": steps, "outcome": "", "contradiction": contradiction, "further": False}


def _rows_of_stay(
    patient: Patient,
    stay: Stay,
    following: Stay | None,
    revised: RevisedStays,
    record: Assertions,
    as_of: datetime | None,
) -> list[dict[str, Any]]:
    """A row for each prediction of the stay, at least one."""
    if not prediction_times.is_adult(patient, stay):
        return [_left_out(3)]
    ended = stay.discharged
    if ended is None:
        return [_left_out(4)]
    contradiction = stay.end.contradiction
    if stay.end.unclear:
        return [_left_out(5, contradiction)]
    task = revised.task
    steps = {step.name: passed for passed, step in enumerate(task.steps)}
    rows, rises = [], Rises.of(record, stay, task.outcome) if isinstance(task.outcome, ValueRise) else None
    for at in revised.times(patient, stay):
        failed = at_risk.failed_step(record, stay, task, at) or (rises and rises.failed_step(at))
        label = None
        if failed is None:
            label = (
                rises.label(stay, ended, at) if rises else label_of(patient, stay, ended, following, task, at)
            )
        if label is None or (as_of is not None and label.certain > as_of):
            failed = failed or task.outcome.labelled
            rows.append(_left_out(steps[failed.name], contradiction))
        else:
            row = _row(patient, stay, ended, at, label)
            rows.append(row | {"steps": len(steps), "contradiction": contradiction, "further": False})
    return rows or [_left_out(steps["at_risk"], contradiction)]


def _row(patient: Patient, stay: Stay, ended: BitemporalTime, at: datetime, label: Label) -> dict[str, Any]:
    return {
        "outcome": label.outcome,
        "subject_id": patient.subject_id,
        "stay_id": stay.first.visit_id,
        "admission_time": stay.admitted.time,
        "discharge_time": ended.time,
        "prediction_time": at,
        "boolean_value": label.positive,
        "outcome_time": label.outcome_time,
        "known_time": label.certain,
        "split": assign_split(patient.subject_id),
    }


class FlowCount(NamedTuple):
    """How many rows of ``cohort`` are alike."""

    steps: int
    outcome: str
    further: bool
    n: int


def flow_of(task: Task, counts: Sequence[FlowCount]) -> tuple[dict[str, int], dict[str, int]]:
    """The cohort flow: how many are left after each step, and how many of the last have each outcome."""
    first = len(task.steps) - len(task.prediction_steps) + 1
    flow = {
        **{
            step.name: sum(c.n for c in counts if c.steps >= i and not c.further)
            for i, step in enumerate(task.steps, start=1)
        },
        **{
            step.name: sum(c.n for c in counts if c.steps >= i)
            for i, step in enumerate(task.prediction_steps, start=first)
        },
    }
    outcomes = {
        category.name: sum(c.n for c in counts if c.outcome == category.name)
        for category in task.outcome.categories
    }
    return flow, outcomes
