"""Bronze: raw ingestion of every table that the source declares, one Delta table each, with file and record number.

The stage reads the whole extract before it commits anything: a truncated file, a missing column or an empty table stops
it with one sentence. Bytes that are not UTF-8 do not stop it: they become U+FFFD, and each row is validated
later. Three things are said and stop nothing: columns that had to be renamed, words that no list of the source has, and
optional tables with a header and no rows.
Of a dataset that an extract of the same source has landed in before, only files that are new or changed are read
(``data_pipeline.ingest.landing``): the same extract again writes nothing.
A patient who was erased (``mediscale erase``) is left out of every table.
"""

import logging
import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field, NaiveDatetime

from data_pipeline.ingest import extract_files, landing, left_out_patients, parsing, stream_record
from data_pipeline.ingest import source as sources
from data_pipeline.ingest.bronze_tables import BronzeTable
from data_pipeline.ingest.extract_parts import Part, columns_of, part_of
from data_pipeline.ingest.landing import Landed, LandedFile, Plan
from data_pipeline.ingest.source import Source, SourceName
from data_pipeline.ingest.source_tables import SourceTable
from mediscale.core.annotations import Digest, PatientCount, RuntimeInput
from mediscale.core.errors import InputError, StorageError
from mediscale.core.privacy import count
from mediscale.core.refs import Frozen, TableRef
from mediscale.core.settings import Settings
from mediscale.core.stage import SPARK, Context, Stage
from mediscale.core.tables import BRONZE, LANDED_FILES
from mediscale.storage import exclusions, history, table_files, workers
from mediscale.storage.exclusions import Exclusions
from mediscale.storage.history_entries import Erasure
from mediscale.storage.table_files import TableFile

if TYPE_CHECKING:
    import pyarrow as pa

log = logging.getLogger(__name__)


class Extract(Frozen):
    """A hospital's files, as a run begins with them."""

    source: RuntimeInput[SourceName]
    """Name of a shipped source, or of one that the home keeps."""
    dataset: RuntimeInput[str]
    path: RuntimeInput[str]
    """Folder of the extract, absolute or relative to the home folder."""
    extract_digest: RuntimeInput[Digest]
    """``data_pipeline.ingest.extract_files.digest_of`` the folder, so that changed files are ingested again."""
    excluded: RuntimeInput[str] = ""
    """Fingerprint of the list of erased patients, which the caller looks up; empty where nobody was erased."""


class Params(Extract):
    rebuild: bool = False
    """Whether the dataset begins anew: every file is read, and nothing that earlier extracts said stays in silver."""
    min_rows_share: float = Field(0.8, ge=0, le=1)
    """Of the rows that a table had in the extract before: with fewer it is refused as cut off."""
    before: RuntimeInput[dict[str, TableRef]] = {}
    """The tables of bronze that the extract before left, which the caller looks up; none: the dataset begins."""
    landed: RuntimeInput[TableRef | None] = None
    """Whose rows are in them (``landed_files``)."""
    seen_at: RuntimeInput[NaiveDatetime | None] = None
    """When this extract was first seen here (UTC)."""


class Result(Frozen):
    bronze: dict[str, TableRef]
    landed: TableRef | None
    """The files whose rows are in bronze (``landed_files``)."""
    begins: bool
    """Whether the dataset begins with this extract."""
    seen_at: NaiveDatetime | None
    n_files_read: int
    """Files that are new or changed."""
    absent: tuple[str, ...]
    """Files of optional tables that the extract does not have, or that have no rows."""
    empty: tuple[str, ...] = ()
    """Those of them that have a header and no rows."""
    rows: int
    """Records of all files that are in bronze, without headers."""
    renamed: tuple[str, ...] = ()
    """Columns, as ``table.column``, whose header a table can't have or has twice, under their new names."""
    unlisted_words: dict[str, PatientCount] = {}
    """By ``table.column``, the records of files that were read whose word no list of the source has: its category is
    ``OTHER``."""


def run(params: Params, settings: Settings, key: str) -> Result:
    """Checks the files that are new or changed, then brings ``bronze_<table>`` up to date for each table.

    Raises:
        InputError: the source is unknown, a directory, table or column is missing, a file is truncated or empty,
            files changed since the digest was taken, or a table lost most of its rows since the extract before.
        StorageError: the list of erased patients is not the one that the caller saw, or lacks some.
    """
    stream_record.refuse_replacing(settings, params.dataset)
    left_out = _exclusions(settings, params)
    source = sources.load(params.source)
    root = settings.home / params.path
    files = extract_files.locate(source, root)
    before = {} if params.rebuild else params.before
    landed = {name: own for name, own in landing.read(settings, params.landed).items() if name in before}
    digests = extract_files.file_digests(files) if landed else {}
    plan = landing.plan(source, files, root, digests, landed)
    to_open = plan.read if left_out is None else files
    parts = {name: tuple(part_of(source, name, file, root) for file in own) for name, own in to_open.items()}
    leave_out = None if left_out is None else left_out_patients.leave_out_rows(left_out, source, parts)
    new = {name: tuple(part for part in parts[name] if part.path in own) for name, own in plan.read.items()}
    tables = {
        name: BronzeTable(settings, params.dataset, name, before.get(name), plan) for name in source.tables
    }
    schemas = {name: tables[name].schema(columns_of(own)) for name, own in new.items()}
    written = _write(settings, source, params.dataset, new, schemas, leave_out)
    try:
        rows = {name: _n_rows(plan, name, written) for name in {*plan.kept, *written}}
        empty = {name for name, n in rows.items() if not n}
        digests |= extract_files.file_digests(plan.read)
        _check_whole(source, params, extract_files.digest(files, root, digests), empty)
        plan.check_not_cut(
            {name: sum(p.rows for p in own) for name, own in written.items()}, params.min_rows_share
        )
        log.info("%d tables with %s rows are whole", len(rows) - len(empty), f"{sum(rows.values()):,}")
    except BaseException:
        _discard(settings, params.dataset, written)
        raise
    _discard(settings, params.dataset, {name: written.get(name, ()) for name in empty})
    bronze = {
        name: tables[name].commit(
            key, [one.file for one in written.get(name, ())], columns_of(new.get(name, ()))
        )
        for name in source.tables
        if rows.get(name)
    }
    now = _landed(plan, written, digests)
    return Result(
        bronze=bronze,
        landed=_record(settings, params, key, now, unchanged=now == landed),
        begins=not before,
        seen_at=params.seen_at,
        n_files_read=sum(map(len, new.values())),
        absent=source.lacks(bronze),
        empty=tuple(source.tables[name].file for name in source.tables if name in empty),
        rows=sum(rows.values()),
        renamed=tuple(dict.fromkeys(chain.from_iterable(
            (f"{name}.{column}" for column in part.renamed) for name, own in new.items() for part in own
        ))),
        unlisted_words=unlisted_words({name: [part.unlisted for part in own] for name, own in written.items()}),
    )  # fmt: skip


def _n_rows(plan: Plan, name: str, written: "Mapping[str, Sequence[UncommittedFile]]") -> int:
    kept = sum(one.rows for one in plan.kept.get(name, {}).values())
    return kept + sum(one.rows for one in written.get(name, ()))


def _landed(
    plan: Plan, written: "Mapping[str, Sequence[UncommittedFile]]", digests: Mapping[Path, str]
) -> Landed:
    """The files whose rows are in bronze now."""
    landed = {name: dict(own) for name, own in plan.kept.items()}
    for name, own in written.items():
        landed.setdefault(name, {}).update(
            {one.part.shown.as_posix(): LandedFile(digests[one.part.path], one.rows) for one in own}
        )
    return landed


def _record(settings: Settings, params: Params, key: str, landed: Landed, unchanged: bool) -> TableRef:
    """Writes down, last, whose rows bronze has."""
    if params.landed is not None and unchanged:
        return params.landed
    return table_files.write(settings, params.dataset, LANDED_FILES.name, key, [landing.rows(landed)])


def _check_whole(source: Source, params: Params, digest: str, empty: Collection[str]) -> None:
    if required := [source.tables[name].file for name in sorted(empty) if source.tables[name].required]:
        raise InputError(
            f"{', '.join(required)}: a header and no rows, and the source {source.name} requires them; nothing was "
            "landed. Extract it again."
        )
    if params.extract_digest != digest:
        raise InputError(
            f"The extract of {params.dataset} changed since its digest was taken; nothing was landed. Wait until its "
            "copy is complete and run again."
        )


def _exclusions(settings: Settings, params: Params) -> Exclusions | None:
    """Whom to leave out; where the history of the dataset knows of more erasures than the list, nothing is landed."""
    if exclusions.fingerprint(settings, params.dataset) != params.excluded:
        raise StorageError(
            f"The list of erased patients {exclusions.file(settings, params.dataset)} is not the one that this call "
            "was made for; nothing was landed. Run again."
        )
    left_out = exclusions.load(settings, params.dataset)
    listed = len(left_out.digests) if left_out else 0
    erased = sum(entry.kind == Erasure.kind for entry in history.entries(settings, params.dataset))
    if erased > listed:
        raise StorageError(
            f"{erased} patients of {params.dataset} were erased, and {exclusions.file(settings, params.dataset)} lists "
            f"{listed}; nothing was landed, for the others would come back. Restore or mount the folder of trust."
        )
    return left_out


def check_records(
    source: Source, tables: Mapping[str, tuple[Part, ...]]
) -> tuple[dict[str, int], dict[str, int]]:
    """Reads every file to its end; returns the number of records by table, and by ``table.column`` that of the records
    whose word no list has.

    Raises:
        InputError: a file is torn.
    """
    counters = {
        name: [CountedRecords(source.tables[name], part) for part in own] for name, own in tables.items()
    }
    with ThreadPoolExecutor() as pool:
        for _ in pool.map(CountedRecords.read, chain.from_iterable(counters.values())):
            pass
    rows = {name: sum(one.rows for one in own) for name, own in counters.items()}
    return rows, unlisted_words({name: [one.unlisted for one in own] for name, own in counters.items()})


def unlisted_words(by_table: Mapping[str, Iterable[Mapping[str, int]]]) -> dict[str, int]:
    """Counts of the records whose word no list has, by ``table.column``, from those of each file."""
    total = Counter[str]()
    for name, files in by_table.items():
        for words in files:
            total.update({f"{name}.{column}": n for column, n in words.items()})
    return {column: total[column] for column in sorted(total) if total[column]}


@dataclass
class CountedRecords:
    """A file's records, counted as they are read, and those of them whose word no list has, by column."""

    table: SourceTable
    part: Part
    rows: int = 0
    unlisted: Counter[str] = field(default_factory=Counter)

    def look(self, batches: "Iterator[pa.RecordBatch]") -> "Iterator[pa.RecordBatch]":
        lists = self._lists()
        for batch in batches:
            self.rows += batch.num_rows
            for column, listed in lists.items():
                self.unlisted[column] += parsing.unlisted(parsing.words(batch.column(column)), listed)
            yield batch

    def read(self) -> None:
        """Reads the file to its end, of its columns what has to be looked at."""
        for _ in self.look(self.part.records([*self._lists()] or self.part.columns[:1])):
            pass

    def _lists(self) -> dict[str, dict[str, tuple[str, ...]]]:
        lists = self.table.vocabularies
        return {column: lists[column] for column in lists if column in self.part.columns}


@dataclass(frozen=True)
class UncommittedFile:
    """A file of the extract, written to bronze and not committed yet."""

    part: Part
    file: TableFile
    rows: int
    """Records that were read; those of patients who are left out are not in ``file``."""
    unlisted: Mapping[str, int]


LeaveOut = Callable[[str, "Iterator[pa.RecordBatch]"], "Iterator[pa.RecordBatch]"]


def _write(
    settings: Settings,
    source: Source,
    dataset: str,
    tables: Mapping[str, tuple[Part, ...]],
    schemas: "Mapping[str, pa.Schema]",
    leave_out: "LeaveOut | None",
) -> dict[str, list[UncommittedFile]]:
    """Reads every file and writes its records, as many files at once as there are cores, the largest first.

    A record may span lines, so one file is read by one worker. Where one raises, or Ctrl-C is pressed, the others stop
    at their next batch, and nothing is left of them.
    """
    parts = sorted(chain.from_iterable(tables.values()), key=lambda part: -part.path.stat().st_size)
    stopped = threading.Event()
    running: list[tuple[str, Future[UncommittedFile]]] = []
    try:
        with ThreadPoolExecutor(workers.cores(settings)) as pool:
            write = partial(_write_part, settings, source, dataset, leave_out, stopped)
            try:
                running += [(part.table, pool.submit(write, part, schemas[part.table])) for part in parts]
                for one in as_completed(one for _, one in running):
                    one.result()
            finally:
                stopped.set()
                for _, waiting in running:
                    waiting.cancel()
    except BaseException:
        _discard(settings, dataset, _files(tables, running))
        raise
    return _files(tables, running)


def _files(
    tables: Iterable[str], ended: "Sequence[tuple[str, Future[UncommittedFile]]]"
) -> dict[str, list[UncommittedFile]]:
    """What was written of each table, in the order in which it was begun."""
    whole = [
        (name, one) for name, one in ended if one.done() and not one.cancelled() and one.exception() is None
    ]
    return {table: [one.result() for name, one in whole if name == table] for table in tables}


def _write_part(
    settings: Settings,
    source: Source,
    dataset: str,
    leave_out: "LeaveOut | None",
    stopped: threading.Event,
    part: Part,
    schema: "pa.Schema",
) -> UncommittedFile:
    counted = CountedRecords(source.tables[part.table], part)
    batches = counted.look(_until(stopped, part.landed(schema.names[len(BRONZE.columns) :])))
    if leave_out is not None:
        batches = leave_out(part.table, batches)
    file = table_files.write_file(settings, dataset, f"bronze_{part.table}", batches, schema)
    return UncommittedFile(part, file, counted.rows, counted.unlisted)


def _until(stopped: threading.Event, batches: "Iterator[pa.RecordBatch]") -> "Iterator[pa.RecordBatch]":
    for batch in batches:
        if stopped.is_set():
            raise CancelledError
        yield batch


def _discard(settings: Settings, dataset: str, written: Mapping[str, Iterable[UncommittedFile]]) -> None:
    for name, parts in written.items():
        table_files.discard(settings, dataset, f"bronze_{name}", [part.file for part in parts])


def runtime_inputs(params: Mapping[str, Any], settings: Settings) -> Iterator[Context]:
    """Gives the fingerprint of the list of erased patients, and what the extract before left."""
    if "dataset" not in params:
        return
    erased = {"excluded": exclusions.fingerprint(settings, params["dataset"])}
    if "source" not in params or not Path(params.get("path", "")).is_absolute():
        yield Context(erased)  # of a synthetic hospital, in the home: another size or seed has other patients
        return
    rebuild = bool(params.get("rebuild"))
    for context in landing.contexts(settings, params["dataset"], params["source"], rebuild):
        yield Context({**erased, **context.params})


def _summary(result: Result) -> str:
    missing = [file for file in result.absent if file not in result.empty]
    absent = f"; not in the extract: {', '.join(missing)}" if missing else ""
    absent += f"; a header and no rows: {', '.join(result.empty)}" if result.empty else ""
    words = ", ".join(f"{column} in {count(n)} rows" for column, n in result.unlisted_words.items())
    unlisted = f"; words that no list of the source has: {words}" if words else ""
    renamed = f"; renamed: {', '.join(result.renamed)}" if result.renamed else ""
    tables = f"{result.rows:,} rows of {len(result.bronze)} tables landed as they came"
    news = "" if result.begins else f"; files that are new or changed: {result.n_files_read:,}"
    return f"{tables}{news}{absent}{unlisted}{renamed}"


STAGE = Stage(
    Params,
    Result,
    run,
    display_name="land the extract as it came",
    summary=_summary,
    resources=SPARK,
    runtime_inputs=runtime_inputs,
)
