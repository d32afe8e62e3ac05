"""Task check: the cohort flow of a task, its predictions and the features that are filled, before a model is made.

Everything is computed as a run would, on events in memory. Nothing is written.
"""

import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data_pipeline import shards
from data_pipeline.cohort import cohort_flow, labels
from data_pipeline.cohort.bitemporal import HOUR, Bools, Floats, microseconds
from data_pipeline.features import kernel
from data_pipeline.ingest.source import Source
from mediscale.core.refs import TableRef
from mediscale.core.settings import Settings
from mediscale.core.task_features import code_pattern
from mediscale.core.tasks import Task
from mediscale.storage import lake

log = logging.getLogger(__name__)

MAX_EVENTS = 500_000
"""Events that are looked at; of a dataset with more, those of the first shards."""
FILLED = 0.1
"""A feature that has a value in at least this share of the cohort counts as filled."""
_LEAST_OUTCOMES = 30
"""Of each kind, with fewer of which a feature's AUROC says nothing."""


@dataclass(frozen=True)
class HourCheck:
    """The predictions at one hour after admission."""

    hour: int
    n: int
    with_outcome: int


@dataclass(frozen=True)
class FeatureCheck:
    """A feature over the cohort."""

    name: str
    missing: float
    """Share of the cohort without a value."""
    filled: float
    """Share with a value that is not 0."""
    auroc: float
    """Of the feature alone, in the direction that tells more; NaN with too few outcomes to say so."""


@dataclass(frozen=True)
class TaskCheck:
    """Whether a task can be computed, its cohort and its features."""

    task: str
    refused: str = ""
    flow: Mapping[str, int] = field(default_factory=dict)
    """By step."""
    outcomes: Mapping[str, int] = field(default_factory=dict)
    at_risk: int = 0
    """Rows of the cohort: stays, or predictions where a stay has several."""
    prevalence: float = float("nan")
    """Share of these with the outcome."""
    patients: int = 0
    patients_with_outcome: int = 0
    repeated: bool = False
    """Whether a stay may have several predictions."""
    by_hour: tuple[HourCheck, ...] = ()
    """Where predictions come every few hours."""
    features: tuple[FeatureCheck, ...] = ()
    suspicious_above: float = 1.0
    without_events: tuple[str, ...] = ()
    """Codes of who is left out (exclusions, destinations) that no event has: perhaps another spelling is meant."""

    @property
    def filled(self) -> int:
        """Features that have a value, or a count that is not 0, in at least ``FILLED`` of the cohort."""
        return sum(feature.filled >= FILLED for feature in self.features)

    @property
    def suspicious(self) -> dict[str, float]:
        """Features that alone tell the outcome better than any should: their AUROC."""
        return {one.name: one.auroc for one in self.features if one.auroc > self.suspicious_above}


def of_dataset(
    settings: Settings, events: TableRef, source: Source, absent: Sequence[str], task: Task
) -> TaskCheck:
    """Checks a task on the events of a dataset that was landed already; of a large one, on a sample of its shards."""
    n_shards, read, parts = lake.fact(settings, events, shards.SHARD_COUNT), 0, []
    for shard in range(n_shards):
        parts.append(shards.read(settings, events, shard, kernel.COLUMNS))
        read += parts[-1].num_rows
        if read > MAX_EVENTS:
            break
    log.info("%d of %d shards of patients are looked at", len(parts), n_shards)
    return check(source, absent, pa.concat_tables(parts).unify_dictionaries(), task)


def check(source: Source, absent: Sequence[str], events: pa.Table, task: Task) -> TaskCheck:
    """Checks a task on events as silver would have them; ``absent`` are the files that the extract does not have."""
    if reason := labels.unsupported(source, task) or labels.lacking(source, task, absent):
        return TaskCheck(task.name, refused=reason)
    rows = cohort_flow.cohort(events, task.name, None, 0)
    counted = zip(*(rows[name].to_pylist() for name in ("steps", "outcome", "further")), strict=True)
    flow, outcomes = cohort_flow.flow_of(
        task,
        [
            cohort_flow.FlowCount(steps, outcome, further, n)
            for (steps, outcome, further), n in Counter(counted).items()
        ],
    )
    cohort = rows.filter(pc.equal(rows["steps"], len(task.steps)))
    if not cohort.num_rows:
        return TaskCheck(task.name, refused="nobody is left in the cohort", flow=flow)
    values = kernel.compute(events, cohort, task.name)
    names = kernel.names(task.name)
    outcome = np.asarray(cohort["boolean_value"].to_numpy(zero_copy_only=False), dtype=np.bool_)
    subjects = cohort["subject_id"].to_numpy()
    return TaskCheck(
        task.name,
        flow=flow,
        outcomes=outcomes,
        at_risk=cohort.num_rows,
        prevalence=float(outcome.mean()),
        patients=len(np.unique(subjects)),
        patients_with_outcome=len(np.unique(subjects[outcome])),
        repeated=task.prediction_time.repeated,
        by_hour=tuple(_by_hour(cohort, outcome)) if task.prediction_time.every_hours else (),
        features=tuple(_features(names, values, outcome)),
        suspicious_above=task.policy.suspicious_above,
        without_events=tuple(_without_events(task, events)),
    )


def _without_events(task: Task, events: pa.Table) -> Iterator[str]:
    there = pc.unique(events["code"]).to_pylist()
    left_out = dict.fromkeys(code for exclusion in task.at_risk.excluded for code in exclusion.codes)
    left_out |= dict.fromkeys(f"HOSPITAL_DISCHARGE//{one}" for one in task.at_risk.excluded_destinations)
    for code in left_out:
        pattern = code_pattern(code)
        if not any(pattern.fullmatch(one) for one in there):
            yield code


def _by_hour(cohort: pa.Table, outcome: Bools) -> Iterator[HourCheck]:
    hours = (microseconds(cohort["prediction_time"]) - microseconds(cohort["admission_time"])) // HOUR
    for hour in np.unique(hours):
        there = hours == hour
        yield HourCheck(int(hour), int(there.sum()), int(outcome[there].sum()))


def _features(names: Sequence[str], values: Floats, outcome: Bools) -> Iterator[FeatureCheck]:
    for name, column in zip(names, values.T, strict=True):
        missing = np.isnan(column)
        filled = float((~missing & (column != 0)).mean())
        yield FeatureCheck(name, float(missing.mean()), filled, _auroc(column, outcome))


def _auroc(column: Floats, outcome: Bools) -> float:
    """AUROC of a single feature, if there are events enough; a missing value counts as the median."""
    from scipy.stats import rankdata

    events, others = int(outcome.sum()), int((~outcome).sum())
    if min(events, others) < _LEAST_OUTCOMES:
        return float("nan")
    ranks = rankdata(np.nan_to_num(column, nan=np.nanmedian(column) if np.isfinite(column).any() else 0.0))
    auroc = (ranks[outcome].sum() - events * (events + 1) / 2) / (events * others)
    return float(max(auroc, 1 - auroc))
