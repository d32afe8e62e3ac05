"""Labels: the cohort of one task with prediction times and outcomes, in the label columns of MEDS.

The task's file declares who is at risk, when it is predicted and which outcome counts (``mediscale.core.tasks``). Every
task takes inpatient stays of adults with transfers merged (``stays``).

With ``as_of``, the stage uses only what was known at that time, and leaves out stays whose outcome was not certain
then.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache, partial
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data_pipeline import shards
from data_pipeline.cohort import at_risk, prediction_times
from data_pipeline.cohort.at_risk import Assertions
from data_pipeline.cohort.bitemporal import HOUR, BitemporalTime, Ints, latest_as_of
from data_pipeline.cohort.stays import TRANSFER_GAP, Patient, Stay, patients
from data_pipeline.ingest import source as sources
from data_pipeline.ingest.source import Source, SourceName
from mediscale.core import tasks
from mediscale.core.annotations import CohortFlow, OutcomeCounts, PatientCount, RuntimeInput
from mediscale.core.errors import QualityError, UsageError
from mediscale.core.outcomes import (
    DeathInHospital,
    DeathInIcu,
    DeclaredOutcome,
    FlowStep,
    LongStay,
    Readmission,
    ValueRise,
)
from mediscale.core.privacy import count, count_of
from mediscale.core.refs import Frozen, TableRef
from mediscale.core.settings import Settings
from mediscale.core.splits import assign_split
from mediscale.core.stage import SPARK, Stage
from mediscale.core.tables import LABELS
from mediscale.core.tasks import Task, TaskName
from mediscale.storage import table_files
from mediscale.storage.table_files import TableFile


class Params(Frozen):
    dataset: RuntimeInput[str]
    source: RuntimeInput[SourceName]
    events: RuntimeInput[TableRef]
    task: RuntimeInput[TaskName]
    absent: RuntimeInput[tuple[str, ...]] = ()
    """Files that the extract does not have, as bronze reports them."""
    as_of: datetime | None = None
    """Only what was known at this time (naive UTC) is used.

    None: everything is used, and every stay is taken to be completely followed up."""


class Result(Frozen):
    labels: TableRef
    flow: CohortFlow
    """The cohort flow in order: visits left after each step; where stays have several predictions, predictions left
    after each step."""
    outcomes: OutcomeCounts
    """The stays, or predictions, of the last step with each outcome."""
    at_risk: PatientCount
    """Stays in the cohort."""
    predictions: PatientCount | None = None
    """Of these stays, where each may have several."""
    positives: PatientCount
    """Stays, or predictions, with the outcome."""
    contradictions: PatientCount
    """Ended stays of adults about whose death two columns disagree, whether or not a time decides (``deaths``)."""


def run(params: Params, settings: Settings, key: str) -> Result:
    """Labels every shard and writes ``labels_<task>``.

    Raises:
        QualityError: the extract lacks tables that the task needs, or no stay of it is in the cohort; the error names
        the
            step that lost the last one.
    """
    refuse_lacking(params)
    task, table = tasks.load(params.task), f"labels_{params.task}"
    groups = list(shards.map_shards(settings, params.events, partial(_write_group, settings, params)))
    flow, outcomes = flow_of(task, [count for group in groups for count in group.counts])
    files = [file for group in groups for file in group.files]
    try:
        _refuse_empty(params, task, flow)
    except QualityError:
        table_files.discard(settings, params.dataset, table, files)
        raise
    labels = table_files.commit(settings, params.dataset, table, key, files, LABELS.arrow_schema())
    return Result(
        labels=labels,
        flow=flow,
        outcomes=outcomes,
        at_risk=flow[task.outcome.labelled.name],
        predictions=flow[task.prediction_steps[-1].name] if task.prediction_steps else None,
        positives=outcomes[task.outcome.positive.name],
        contradictions=sum(group.contradictions for group in groups),
    )


def refuse_lacking(params: Params) -> None:
    """Refuses an extract without any of the files that the task's features need, and a source without a calendar where
    the task compares visits or the call asks for what was known at a date.

    Raises:
        QualityError: the extract has none of them, or the task can't be computed from this source.
        UsageError: ``as_of`` is given and the source has no calendar.
    """
    source = sources.load(params.source)
    if reason := unsupported(source, tasks.load(params.task)):
        raise QualityError(f"{params.task} can't be computed from {params.source}: {reason}.")
    if source.clock == "relative" and params.as_of is not None:
        raise UsageError(
            f"{params.source} has no calendar (clock: relative), so nothing of it was known as of a date; leave as_of "
            "out."
        )
    if reason := lacking(source, tasks.load(params.task), params.absent):
        raise QualityError(f"{reason[0].upper()}{reason[1:]}; add one of these files and run again.")


def lacking(source: Source, task: Task, absent: Sequence[str]) -> str:
    """That the extract has none of the files that the task's features need; empty where it has one."""
    files = source.lacks((), *task.needs) if task.needs and absent else ()
    if not files or not set(files) <= set(absent):
        return ""
    return (
        f"the extract has no {' and no '.join(task.needs).replace('_', ' ')} ({', '.join(files)} are absent), and "
        f"{task.name} can't be predicted without any"
    )


def unsupported(source: Source, task: Task) -> str:
    """Why a task can't be computed from a source whatever its extract holds; empty where it can."""
    if source.clock == "relative" and task.unit == "stay":
        return (
            "it has no calendar (clock: relative), so which visit came first, and what happened before and after it, "
            "is not known; choose a task whose unit is the encounter"
        )
    if task.unit == "encounter" and any(table.note for table in source.tables.values()):
        return "it has notes, which are a patient's and not one encounter's; leave their tables out of the source"
    if task.needs and not source.lacks((), *task.needs):
        return f"it maps no {' and no '.join(task.needs).replace('_', ' ')}"
    if isinstance(task.outcome, DeclaredOutcome):
        codes = " ".join(fact.code for table in source.tables.values() for fact in table.facts.values())
        if task.outcome.code not in codes:
            return f"it declares no outcome {task.outcome.code}"
    return ""


def cohort(events: pa.Table, task: TaskName, as_of: datetime | None, shard: int) -> pa.Table:
    """The cohort flow of a shard's visits, one row for each: label columns, ``steps`` passed, ``outcome``, and whether
    columns make a ``contradiction`` about a death.

    ``events`` has ``prediction_times.COLUMNS``, in any order of rows. ``as_of`` is naive UTC. Only a row that passed
    all steps has the columns of ``LABELS`` filled; a merged stay passes them as its first visit, whose ``visit_id`` is
    the ``stay_id``. Where a stay has several predictions, each has a row: one that passed most steps is the stay's in
    the flow, and the others are ``further`` ones.
    """
    if as_of is not None:
        events = events.filter(pc.less_equal(events["available_time"], pa.scalar(as_of, pa.timestamp("us"))))
    declared = tasks.load(task)
    records = at_risk.assertions(events, declared)
    rows = [
        row
        for patient in patients(latest_as_of(events, None))
        for row in _rows(patient, declared, records.get(patient.subject_id, at_risk.NOTHING), as_of, shard)
    ]
    return pa.Table.from_pylist(rows, schema=_arrow_schema())


@dataclass(frozen=True)
class _Group:
    """What the visits of some shards came to."""

    files: list[TableFile]
    """The labels, not committed yet."""
    counts: "list[FlowCount]"
    contradictions: int


def _write_group(settings: Settings, params: Params, group: Sequence[int]) -> _Group:
    parts = [
        cohort(
            shards.read(settings, params.events, shard, prediction_times.COLUMNS),
            params.task,
            params.as_of,
            shard,
        )
        for shard in group
    ]
    visits = pa.concat_tables(parts)
    alike = visits.group_by(["steps", "outcome", "further"]).aggregate([([], "count_all")])
    names = ("steps", "outcome", "further", "count_all")
    counts = [FlowCount(*(row[name] for name in names)) for row in alike.to_pylist()]
    labelled = visits.filter(pc.equal(visits["steps"], len(tasks.load(params.task).steps)))
    schema = LABELS.arrow_schema()
    files = shards.write(
        settings, params.dataset, f"labels_{params.task}", schema, [labelled.select(schema.names)]
    )
    return _Group(files, counts, pc.sum(visits["contradiction"], min_count=0).as_py())


@cache
def _arrow_schema() -> pa.Schema:
    flow = {"steps": pa.int64(), "outcome": pa.string(), "contradiction": pa.bool_(), "further": pa.bool_()}
    return pa.schema([*LABELS.arrow_schema(), *(pa.field(name, kind) for name, kind in flow.items())])


@dataclass(frozen=True)
class _Label:
    outcome: str
    positive: bool
    outcome_time: datetime | None
    certain: datetime
    """When the label is known, which is the same time after the stay for every outcome.

    If one outcome were known sooner than the other, the newest days of the cohort would hold only that outcome."""


def _rows(
    patient: Patient, task: Task, record: Assertions, as_of: datetime | None, shard: int
) -> Iterator[dict[str, Any]]:
    for visit in patient.visits:
        if not visit.inpatient:
            yield _left_out(1)
    units = patient.units(task.unit)
    for i, stay in enumerate(units):
        following = units[i + 1] if i + 1 < len(units) else None
        yield from (_left_out(2) for _ in stay.visits[1:])
        rows = _rows_of_stay(patient, stay, following, task, record, as_of)
        furthest = max(rows, key=lambda row: int(row["steps"]))
        for row in rows:
            yield (
                row
                | {"shard": shard}
                | ({} if row is furthest else {"contradiction": False, "further": True})
            )


def _left_out(steps: int, contradiction: bool = False) -> dict[str, Any]:
    """Of a visit, or a prediction, that passed so many steps of the flow."""
    return {"steps": steps, "outcome": "", "contradiction": contradiction, "further": False}


def _rows_of_stay(
    patient: Patient,
    stay: Stay,
    following: Stay | None,
    task: Task,
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
    steps = {step.name: passed for passed, step in enumerate(task.steps)}
    rows, rises = [], _Rises.of(record, stay, task.outcome) if isinstance(task.outcome, ValueRise) else None
    for at in prediction_times.of_stay(patient, stay, task):
        failed = at_risk.failed_step(record, stay, task, at) or (rises and rises.failed_step(at))
        label = None
        if failed is None:
            label = (
                rises.label(stay, ended, at) if rises else _label(patient, stay, ended, following, task, at)
            )
        if label is None or (as_of is not None and label.certain > as_of):
            failed = failed or task.outcome.labelled
            rows.append(_left_out(steps[failed.name], contradiction))
        else:
            row = _row(patient, stay, ended, at, label)
            rows.append(row | {"steps": len(steps), "contradiction": contradiction, "further": False})
    return rows or [_left_out(steps["at_risk"], contradiction)]


def _row(patient: Patient, stay: Stay, ended: BitemporalTime, at: datetime, label: _Label) -> dict[str, Any]:
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


def _label(
    patient: Patient, stay: Stay, ended: BitemporalTime, following: Stay | None, task: Task, at: datetime
) -> _Label | None:
    """The label of an ended stay, predicted at a time; None where the source does not give its outcome."""
    match task.outcome:
        case Readmission():
            return _readmission(patient, ended, following, task.outcome)
        case LongStay():
            return _long_stay(stay, ended, task.outcome)
        case DeclaredOutcome():
            return _declared(stay, ended, task.outcome)
        case DeathInHospital():
            return _death_in_hospital(stay, ended, task.outcome)
        case DeathInIcu():
            return _death_in_icu(stay, ended, task.outcome, at)
    raise TypeError(task.outcome)


@dataclass(frozen=True)
class _Rises:
    """The values of a stay, and of before it, as they are finally known, and which of the stay's had risen."""

    outcome: ValueRise
    values: Assertions
    onsets: Ints

    @classmethod
    def of(cls, record: Assertions, stay: Stay, outcome: ValueRise) -> "_Rises":
        values = record.final().values(at_risk.beginning(stay) - outcome.lookback_hours * HOUR)
        return cls(outcome, values, at_risk.onsets(values, stay, outcome))

    def failed_step(self, at: datetime) -> FlowStep | None:
        """The step of the flow that a prediction does not pass because the value had risen by then, though nobody knew
        it yet: what began before is no outcome to predict."""
        risen = (self.onsets <= at_risk.in_microseconds(at)).any()
        return self.outcome.first_onset if risen else None

    def label(self, stay: Stay, ended: BitemporalTime, at: datetime) -> _Label | None:
        """The label of a prediction before the first onset; None where nothing was measured in its hours."""
        horizon = at + timedelta(hours=self.outcome.within_hours)
        start, end = (at_risk.in_microseconds(time) for time in (at, min(horizon, ended.time)))
        values = self.values.where(self.values.time <= end)
        if not (values.time > start).any():
            return None
        certain = max(ended.available + TRANSFER_GAP, _datetime(values.available.max()))
        if len(self.onsets) and self.onsets[0] <= end:
            return _Label(self.outcome.positive.name, True, _datetime(self.onsets[0]), certain)
        died, left = stay.death is not None and stay.death.time <= horizon, ended.time <= horizon
        category = self.outcome.negative
        if died or left:
            category = self.outcome.competing_event if died else self.outcome.discharged
        return _Label(category.name, False, None, certain)


def _datetime(time: np.int64) -> datetime:
    """Naive UTC, of microseconds since 1970."""
    return datetime(1970, 1, 1) + timedelta(microseconds=int(time))


def _declared(stay: Stay, ended: BitemporalTime, outcome: DeclaredOutcome) -> _Label | None:
    declared = stay.first.outcomes.get(outcome.code)
    if declared is None:
        return None
    category = outcome.positive if declared.happened else outcome.negative
    certain = max(ended.available, declared.known.available)
    return _Label(
        category.name, declared.happened, declared.known.time if declared.happened else None, certain
    )


def _long_stay(stay: Stay, ended: BitemporalTime, outcome: LongStay) -> _Label:
    certain = ended.available + TRANSFER_GAP
    end = stay.admitted.time + timedelta(days=outcome.longer_than_days)
    # A visit that lies around that in which the patient died may be booked to an end long after.
    last = min(ended.time, stay.death.time) if stay.death else ended.time
    if last > end:
        return _Label(outcome.positive.name, True, end, certain)
    category = outcome.competing_event if stay.death else outcome.negative
    return _Label(category.name, False, None, certain)


def _death_in_hospital(stay: Stay, ended: BitemporalTime, outcome: DeathInHospital) -> _Label:
    # Until the transfer gap has passed, the discharge may yet turn out to be a transfer.
    certain, death = ended.available + TRANSFER_GAP, stay.death
    if death:
        return _Label(outcome.positive.name, True, death.time, max(certain, death.available))
    return _Label(outcome.negative.name, False, None, certain)


def _death_in_icu(stay: Stay, ended: BitemporalTime, outcome: DeathInIcu, at: datetime) -> _Label:
    """Without a tolerance: in both demos of MIMIC who dies in intensive care is booked out of it afterwards."""
    there = [icu for icu in stay.icu_stays if icu.admitted.time <= at][-1]
    left, death = there.discharged or ended, stay.death
    certain = max(ended.available + TRANSFER_GAP, left.available)
    if death and death.time <= left.time:
        return _Label(outcome.positive.name, True, death.time, max(certain, death.available))
    category = outcome.died_later if death else outcome.negative
    return _Label(category.name, False, None, max(certain, death.available) if death else certain)


def _readmission(
    patient: Patient, ended: BitemporalTime, following: Stay | None, outcome: Readmission
) -> _Label:
    end = ended.time + timedelta(days=outcome.within_days)
    returned = following.first if following and following.admitted.time <= end else None
    if returned and returned.admission_type in outcome.unplanned_admissions:
        return _Label(
            outcome.positive.name, True, returned.admitted.time, max(end, returned.admitted.available)
        )
    died = patient.death is not None and patient.death.time <= end
    category = outcome.planned_return if returned else outcome.competing_event if died else outcome.negative
    return _Label(category.name, False, None, end)


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


def _refuse_empty(params: Params, task: Task, flow: dict[str, int]) -> None:
    lost_at = next((i for i, step in enumerate(task.steps) if not flow[step.name]), None)
    if lost_at is not None:
        step, before = task.steps[lost_at], task.steps[max(lost_at - 1, 0)]
        raise QualityError(
            f"{params.source} can't support the {task.name} task on dataset {params.dataset}: it has no {step.words} "
            f"({count(flow[before.name])} left at the step before, {before.name!r}). "
            "Check which tables the extract has, or leave this task out."
        )


def _summary(result: Result) -> str:
    unlike = (
        f"; columns disagree about the death of {count(result.contradictions)}"
        if result.contradictions
        else ""
    )
    repeated = f" with {count(result.predictions)} predictions" if result.predictions is not None else ""
    positives = count_of(result.positives, result.predictions or result.at_risk)
    return f"{count(result.at_risk)} stays at risk{repeated}, {positives} with the outcome{unlike}"


STAGE = Stage(
    Params,
    Result,
    run,
    display_name="who is at risk, what came",
    summary=_summary,
    resources=SPARK,
)
