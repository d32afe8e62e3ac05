"""Source check: what a source makes of an extract, before anything is landed.

Everything is computed as a run would, in memory: the files' headers and records, the facts and the rules that they
break, the distribution of each concept, the cohort flow of each task and the features that are filled. Nothing is
written. Every record is read once; of a large extract, all that follows is of a sample of patients.
"""

import logging
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data_pipeline import shards
from data_pipeline.cohort import cohort_flow, labels
from data_pipeline.cohort.bitemporal import HOUR, Bools, Floats, microseconds
from data_pipeline.features import kernel
from data_pipeline.ingest import (
    bronze,
    engine,
    extract_files,
    extract_parts,
    facts,
    left_out_patients,
    placing,
)
from data_pipeline.ingest.source import Source
from mediscale.core import task_names, tasks
from mediscale.core.concepts import CONCEPTS
from mediscale.core.errors import InputError
from mediscale.core.refs import TableRef
from mediscale.core.settings import Settings
from mediscale.core.tables import EVENTS, FACTS
from mediscale.core.tasks import Task
from mediscale.storage import lake

if TYPE_CHECKING:
    import duckdb

log = logging.getLogger(__name__)

MAX_FACTS = 500_000
"""Facts that are looked at; of an extract with more, those of a sample of the patients."""
FOLD = 2.0
"""Medians of one concept in two items that are further apart than this are told of."""
FILLED = 0.1
"""A feature that has a value in at least this share of the cohort counts as filled."""
_LEAST_EVENTS = 30
_PERCENTILES = (0.01, 0.5, 0.99)
_EVENTS = pa.schema([EVENTS.arrow_schema().field(name) for name in kernel.COLUMNS])
_CHECKED = "check"
"""The dataset's name in pseudonyms; nothing of it is kept."""


@dataclass(frozen=True)
class TableCheck:
    """A table's files and what of their columns is read."""

    name: str
    files: int
    bytes: int
    rows: int
    unread_columns: tuple[str, ...]


@dataclass(frozen=True)
class FactCheck:
    """What became of a table's rows as one fact."""

    table: str
    fact: str
    rows: int
    """Of the table."""
    candidates: int
    """Facts that the rows state: without those that ``when``, an unlisted item or a missing number leaves out; with
    unpivot, each column of a row may be one."""
    usable: int
    broken: Mapping[str, int]
    """By rule, the facts that break it."""
    at_midnight: float
    """Share of the usable facts whose time is a midnight."""


@dataclass(frozen=True)
class ConceptCheck:
    """A concept as one item of a table measures it; ``percentiles`` are 1, 50 and 99, in the concept's unit."""

    concept: str
    unit: str
    table: str
    item: str
    n: int
    patients: int
    percentiles: tuple[float, float, float]


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
    by_hour: "tuple[HourCheck, ...]" = ()
    """Where predictions come every few hours."""
    features: "tuple[FeatureCheck, ...]" = ()
    suspicious_above: float = 1.0

    @property
    def filled(self) -> int:
        """Features that have a value, or a count that is not 0, in at least ``FILLED`` of the cohort."""
        return sum(feature.filled >= FILLED for feature in self.features)

    @property
    def suspicious(self) -> dict[str, float]:
        """Features that alone tell the outcome better than any should: their AUROC."""
        return {one.name: one.auroc for one in self.features if one.auroc > self.suspicious_above}


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
class SourceCheck:
    """What a source makes of an extract: the result of ``check``."""

    tables: tuple[TableCheck, ...]
    absent: tuple[str, ...]
    unread_files: tuple[tuple[str, int], ...]
    unlisted_words: Mapping[str, int]
    facts: tuple[FactCheck, ...]
    concepts: tuple[ConceptCheck, ...]
    tasks: tuple[TaskCheck, ...]
    one_in: int = 1
    """Facts, concepts and tasks are of one in so many patients."""

    @property
    def yielding_nothing(self) -> tuple[str, ...]:
        """Tables with rows and facts, none of which can be used."""
        by_table: dict[str, int] = {}
        for fact in self.facts:
            by_table[fact.table] = by_table.get(fact.table, 0) + fact.usable
        return tuple(table for table, usable in by_table.items() if not usable)

    @property
    def apart(self) -> tuple[tuple[ConceptCheck, ConceptCheck], ...]:
        """Pairs of items of one concept whose medians are more than ``FOLD`` apart: a unit is probably wrong."""
        pairs = []
        for concept in dict.fromkeys(one.concept for one in self.concepts):
            items = [one for one in self.concepts if one.concept == concept and one.n >= 30]
            ordered = sorted(items, key=lambda one: one.percentiles[1])
            if len(ordered) > 1 and ordered[-1].percentiles[1] > FOLD * max(ordered[0].percentiles[1], 1e-9):
                pairs.append((ordered[0], ordered[-1]))
        return tuple(pairs)


def check(settings: Settings, source: Source, root: Path, of_tasks: Sequence[str] = ()) -> SourceCheck:
    """Checks a source on the extract in a folder; ``of_tasks`` (by default all) are the tasks that are tried.

    Raises:
        InputError: files lack columns (all are named at once), are torn or have none.
        UsageError: an expression of the source can't be computed.
    """
    files = extract_files.locate(source, root)
    parts = _parts(source, files, root)
    rows, unlisted = bronze.check_records(source, parts)
    present = {name: own for name, own in parts.items() if rows[name]}
    if lacking := {source.subjects.table, source.visits.table} - present.keys():
        raise InputError(
            f"{root} has no rows of {' and '.join(sorted(lacking))}, which list patients and visits."
        )
    one_in = max(1, -(-_expected_facts(source, rows) // MAX_FACTS))
    looked_at = Counter[str]()
    tables = _sampled(source, present, one_in, looked_at)
    with engine.connection(settings) as database:
        judged = facts.judged(database, source, tables, _CHECKED, named=True)
        database.execute(f"create table judged as {judged}")
        of_facts = _facts(database, source, looked_at)
        concepts = _concepts(database)
        events = _events(database, source)
    absent = source.lacks(present)
    tried = of_tasks or task_names.all_names()
    return SourceCheck(
        tables=tuple(_table(source, name, own, rows[name]) for name, own in parts.items()),
        absent=absent,
        unread_files=tuple(
            (file.relative_to(root).as_posix(), file.stat().st_size)
            for file in extract_files.unread(files, root)
        ),
        unlisted_words=unlisted,
        facts=of_facts,
        concepts=concepts,
        tasks=tuple(_task(source, absent, events, tasks.load(name)) for name in tried),
        one_in=one_in,
    )


def check_task(
    settings: Settings, events: TableRef, source: Source, absent: Sequence[str], task: Task
) -> TaskCheck:
    """Checks a task on the events of a dataset that was landed already; of a large one, on a sample of its shards."""
    n_shards, read, parts = lake.fact(settings, events, shards.SHARD_COUNT), 0, []
    for shard in range(n_shards):
        parts.append(shards.read(settings, events, shard, kernel.COLUMNS))
        read += parts[-1].num_rows
        if read > MAX_FACTS:
            break
    log.info("%d of %d shards of patients are looked at", len(parts), n_shards)
    return _task(source, absent, pa.concat_tables(parts).unify_dictionaries(), task)


def _expected_facts(source: Source, rows: Mapping[str, int]) -> int:
    """The largest possible number of facts: every fact of each row, and every column of a fact that unpivots."""
    return sum(
        n * sum(max(1, len(fact.unpivot)) for fact in source.tables[name].facts.values())
        for name, n in rows.items()
    )


@dataclass(frozen=True)
class _NotSampled:
    """The patients who are not looked at."""

    one_in: int

    def among(self, numbers: Iterable[str]) -> set[str]:
        return {number for number in numbers if zlib.crc32(number.encode()) % self.one_in}


def _sampled(
    source: Source, parts: Mapping[str, tuple[extract_parts.Part, ...]], one_in: int, looked_at: Counter[str]
) -> facts.TextBatches:
    """Readers of the tables' records, of one in so many patients, which count them by table."""
    leave_out = left_out_patients.leave_out_rows(_NotSampled(one_in), source, parts) if one_in > 1 else None

    def read(name: str) -> Iterator[pa.RecordBatch]:
        columns = extract_parts.columns_of(parts[name])
        batches = chain.from_iterable(part.landed(columns) for part in parts[name])
        for batch in batches if leave_out is None else leave_out(name, batches):
            looked_at[name] += batch.num_rows
            yield batch

    return {name: partial(read, name) for name in parts}


def _parts(
    source: Source, files: extract_files.Files, root: Path
) -> dict[str, tuple[extract_parts.Part, ...]]:
    """The files with their columns; all problems of all headers in one sentence."""
    parts: dict[str, list[extract_parts.Part]] = {name: [] for name in files}
    problems = []
    for name, own in files.items():
        for file in own:
            try:
                parts[name].append(extract_parts.part_of(source, name, file, root))
            except InputError as error:
                problems.append(str(error).partition(";")[0])
    if problems:
        raise InputError(
            f"{len(problems)} of the files can't be read as the source says: {'; '.join(problems)}."
        )
    return {name: tuple(own) for name, own in parts.items()}


def _table(source: Source, name: str, parts: tuple[extract_parts.Part, ...], rows: int) -> TableCheck:
    declared = source.tables[name].columns
    columns = dict.fromkeys(column for part in parts for column in part.columns)
    size = sum(part.path.stat().st_size for part in parts)
    return TableCheck(
        name, len(parts), size, rows, tuple(column for column in columns if column not in declared)
    )


def _facts(
    database: "duckdb.DuckDBPyConnection", source: Source, rows: Mapping[str, int]
) -> tuple[FactCheck, ...]:
    midnight = "count(*) filter (where broken is null and time = date_trunc('day', time))"
    grouped = database.execute(
        f"select source, fact, broken, count(*), {midnight} from judged group by all"
    ).fetchall()
    checks = []
    for name, table in source.tables.items():
        for fact in table.facts if rows.get(name) else ():
            own = [row for row in grouped if (row[0], row[1]) == (name, fact)]
            usable = sum(n for _, _, broken, n, _ in own if broken is None)
            broken = {
                rule.name: sum(n for _, _, names, n, _ in own if names and rule.name in names.split(","))
                for rule in FACTS.all_rules
            }
            checks.append(
                FactCheck(
                    name,
                    fact,
                    rows[name],
                    sum(row[3] for row in own),
                    usable,
                    {rule: n for rule, n in broken.items() if n},
                    sum(row[4] for row in own) / usable if usable else 0.0,
                )
            )
    return tuple(checks)


def _concepts(database: "duckdb.DuckDBPyConnection") -> tuple[ConceptCheck, ...]:
    measured = {concept.code: concept for concept in CONCEPTS}
    grouped = database.execute(
        "select code, source, item, count(*), count(distinct subject_id), "
        f"quantile_disc(numeric_value, {list(_PERCENTILES)}) from judged "
        "where broken is null and item is not null and list_contains($codes, code) group by all",
        {"codes": list(measured)},
    ).fetchall()
    checks = (
        ConceptCheck(measured[code].name, measured[code].unit, table, item, n, patients, tuple(percentiles))
        for code, table, item, n, patients, percentiles in grouped
    )
    order = {concept.name: i for i, concept in enumerate(CONCEPTS)}
    return tuple(sorted(checks, key=lambda one: (order[one.concept], one.table, -one.n)))


def _events(database: "duckdb.DuckDBPyConnection", source: Source) -> pa.Table:
    """The events, as silver would have them."""
    events = placing.placed_events(database, source, _CHECKED, "judged", n_shards=1)
    return pa.Table.from_batches([batch.select(kernel.COLUMNS) for batch in events], _EVENTS)


def _task(source: Source, absent: Sequence[str], events: pa.Table, task: Task) -> TaskCheck:
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
    )


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
    if min(events, others) < _LEAST_EVENTS:
        return float("nan")
    ranks = rankdata(np.nan_to_num(column, nan=np.nanmedian(column) if np.isfinite(column).any() else 0.0))
    auroc = (ranks[outcome].sum() - events * (events + 1) / 2) / (events * others)
    return float(max(auroc, 1 - auroc))
