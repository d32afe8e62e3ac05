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
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field, NaiveDatetime

from data_pipeline.ingest import bronze_files, extract_files, landing, left_out_patients, stream_record
from data_pipeline.ingest import source as sources
from data_pipeline.ingest.bronze_files import LeaveOut, UncommittedFile
from data_pipeline.ingest.bronze_tables import BronzeTable
from data_pipeline.ingest.counted_records import unlisted_words
from data_pipeline.ingest.extract_parts import Part, columns_of, part_of
from data_pipeline.ingest.landing import Landed, LandedFile, Plan
from data_pipeline.ingest.source import Source, SourceName
from mediscale.core.annotations import Digest, PatientCount, RuntimeInput
from mediscale.core.errors import InputError, StorageError
from mediscale.core.privacy import count
from mediscale.core.refs import Frozen, TableRef
from mediscale.core.settings import Settings
from mediscale.core.stage import SPARK, Context, Stage
from mediscale.core.tables import LANDED_FILES
from mediscale.storage import exclusions, history, table_files
from mediscale.storage.exclusions import Exclusions
from mediscale.storage.history_entries import Erasure

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
    source, root = sources.load(params.source), settings.home / params.path
    files = extract_files.locate(source, root)
    before = {} if params.rebuild else params.before
    landed = {name: own for name, own in landing.read(settings, params.landed).items() if name in before}
    digests = extract_files.file_digests(files) if landed else {}
    plan = landing.plan(source, files, root, digests, landed)
    new, leave_out = _parts_to_read(source, root, plan, files, left_out)
    tables = {
        name: BronzeTable(settings, params.dataset, name, before.get(name), plan) for name in source.tables
    }
    schemas = {name: tables[name].schema(columns_of(own)) for name, own in new.items()}
    written = bronze_files.write(settings, source, params.dataset, new, schemas, leave_out)
    try:
        digests |= extract_files.file_digests(plan.read)
        rows = _whole_tables(params, source, plan, written, extract_files.digest(files, root, digests))
    except BaseException:
        bronze_files.discard(settings, params.dataset, written)
        raise
    empty = {name for name, n in rows.items() if not n}
    bronze_files.discard(settings, params.dataset, {name: written.get(name, ()) for name in empty})
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
        renamed=tuple(dict.fromkeys(f"{name}.{c}" for name, own in new.items() for part in own for c in part.renamed)),
        unlisted_words=unlisted_words({name: [part.unlisted for part in own] for name, own in written.items()}),
    )  # fmt: skip


def _parts_to_read(
    source: Source, root: Path, plan: Plan, files: extract_files.Files, left_out: Exclusions | None
) -> tuple[dict[str, tuple[Part, ...]], LeaveOut | None]:
    """The files that are new or changed, by table, and what takes erased patients out of their rows.

    Where patients are left out every file is opened: a row's patient may be known by another table.
    """
    to_open = plan.read if left_out is None else files
    parts = {name: tuple(part_of(source, name, file, root) for file in own) for name, own in to_open.items()}
    leave_out = None if left_out is None else left_out_patients.leave_out_rows(left_out, source, parts)
    new = {name: tuple(part for part in parts[name] if part.path in own) for name, own in plan.read.items()}
    return new, leave_out


def _landed(
    plan: Plan, written: Mapping[str, Sequence[UncommittedFile]], digests: Mapping[Path, str]
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


def _whole_tables(
    params: Params, source: Source, plan: Plan, written: Mapping[str, Sequence[UncommittedFile]], digest: str
) -> dict[str, int]:
    """How many rows each table has, those of files that did not change included, once nothing speaks against them."""
    new = {name: sum(one.rows for one in own) for name, own in written.items()}
    rows = {name: plan.n_kept(name) + new.get(name, 0) for name in {*plan.kept, *new}}
    empty = sorted(name for name, n in rows.items() if not n)
    if required := [source.tables[name].file for name in empty if source.tables[name].required]:
        raise InputError(
            f"{', '.join(required)}: a header and no rows, and the source {source.name} requires them; nothing was "
            "landed. Extract it again."
        )
    if params.extract_digest != digest:
        raise InputError(
            f"The extract of {params.dataset} changed since its digest was taken; nothing was landed. Wait until its "
            "copy is complete and run again."
        )
    plan.check_not_cut(new, params.min_rows_share)
    log.info("%d tables with %s rows were read whole", len(rows) - len(empty), f"{sum(rows.values()):,}")
    return rows


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
    tables = f"{result.rows:,} rows of {len(result.bronze)} tables landed as received"
    news = "" if result.begins else f"; files that are new or changed: {result.n_files_read:,}"
    return f"{tables}{news}{absent}{unlisted}{renamed}"


STAGE = Stage(
    Params,
    Result,
    run,
    display_name="land the extract as received",
    summary=_summary,
    resources=SPARK,
    runtime_inputs=runtime_inputs,
)
