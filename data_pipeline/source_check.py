"""Source check: what a source makes of an extract, before anything is landed.

Everything is computed as a run would, in memory: the files' headers and records, the facts and the rules that they
break, the distribution of each concept, the cohort flow of each task and the features that are filled. Nothing is
written. Every record is read once; of a large extract, all that follows is of a sample of patients.
"""

import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from data_pipeline import task_check
from data_pipeline.features import kernel
from data_pipeline.ingest import (
    counted_records,
    engine,
    extract_files,
    extract_parts,
    facts,
    left_out_patients,
    placing,
)
from data_pipeline.ingest.source import Source
from data_pipeline.task_check import TaskCheck
from mediscale.core import task_names, tasks
from mediscale.core.concepts import CONCEPTS
from mediscale.core.errors import InputError
from mediscale.core.settings import Settings
from mediscale.core.tables import EVENTS, FACTS

if TYPE_CHECKING:
    import duckdb

MAX_FACTS = 500_000
"""Facts that are looked at; of an extract with more, those of a sample of the patients."""
FOLD = 2.0
"""Medians of one concept in two items that are further apart than this are told of."""
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
    rows, unlisted = counted_records.count(source, parts)
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
        tasks=tuple(task_check.check(source, absent, events, tasks.load(name)) for name in tried),
        one_in=one_in,
    )


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
