"""Labels: the cohort of one task with prediction times and outcomes, in the label columns of MEDS.

The task's file declares who is at risk, when it is predicted and which outcome counts (``mediscale.core.tasks``). Every
task takes inpatient stays of adults with transfers merged (``stays``), step by step (``cohort_flow``), and labels those
of the last step (``outcome_labels``).

With ``as_of``, the stage uses only what was known at that time, and leaves out stays whose outcome was not certain
then.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import NaiveDatetime

from data_pipeline import shards
from data_pipeline.cohort import prediction_times
from data_pipeline.cohort.cohort_flow import FlowCount, cohort, flow_of
from data_pipeline.ingest import source as sources
from data_pipeline.ingest.source import Source, SourceName
from mediscale.core import task_names, tasks
from mediscale.core.annotations import CohortFlow, OutcomeCounts, PatientCount, RuntimeInput
from mediscale.core.errors import QualityError, UsageError
from mediscale.core.outcomes import DeclaredOutcome
from mediscale.core.privacy import count, count_of
from mediscale.core.refs import Frozen, TableRef
from mediscale.core.settings import Settings
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
    as_of: NaiveDatetime | None = None
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
            the step that lost the last one.
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
        raise QualityError(
            f"{params.task} can't be computed from {params.source}: {reason}{_computable(source)}."
        )
    if source.clock == "relative" and params.as_of is not None:
        raise UsageError(
            f"{params.source} has no calendar (clock: relative), so nothing of it was known as of a date; leave as_of "
            "out."
        )
    if reason := lacking(source, tasks.load(params.task), params.absent):
        raise QualityError(f"{reason[0].upper()}{reason[1:]}; add one of these files and run again.")


def lacking(source: Source, task: Task, absent: Sequence[str]) -> str:
    """A sentence where the extract has none of the files that the task's features need; empty where it has one."""
    files = source.lacks((), *task.needs) if task.needs and absent else ()
    if not files or not set(files) <= set(absent):
        return ""
    absence = f"{', '.join(files)} {'is' if len(files) == 1 else 'are'} absent"
    return (
        f"the extract has no {' and no '.join(task.needs).replace('_', ' ')} ({absence}), and "
        f"{task.name} can't be predicted without any"
    )


def unsupported(source: Source, task: Task) -> str:
    """Why a task can't be computed from a source whatever its extract holds; empty where it can."""
    if source.clock == "relative" and task.unit == "stay":
        return (
            "it has no calendar (clock: relative), so which visit came first, and what happened before and after it, "
            "is not known"
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


def _computable(source: Source) -> str:
    """The end of a sentence about a task that the source does not support: the tasks that it does."""
    others = [name for name in task_names.all_names() if not unsupported(source, tasks.load(name))]
    return f"; of the tasks here, `--task {' --task '.join(others)}` can" if others else ""


@dataclass(frozen=True)
class _Group:
    """What the visits of some shards came to."""

    files: list[TableFile]
    """The labels, not committed yet."""
    counts: list[FlowCount]
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
    display_name="who is at risk, and with which outcome",
    summary=_summary,
    resources=SPARK,
)
