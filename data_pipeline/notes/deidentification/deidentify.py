"""De-identification: clinical notes from bronze with surrogates in place of identifiers.

Later stages get the notes only in this form. The notes of a patient are read together, and a name in one of them is
replaced in all of them, because a name that stays in one note would reveal it in the others. So a later note can decide
which words an earlier note lacks; ``TOGETHER`` says so in the evidence. A note that can't be used goes to quarantine
with the reason and its place in the extract, never with its text.
"""

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, NaiveDatetime

from data_pipeline.ingest import engine, extract_facts, facts
from data_pipeline.ingest import source as sources
from data_pipeline.ingest.source import Source, SourceName
from data_pipeline.ingest.source_tables import NoteMapping
from data_pipeline.notes.deidentification import deidentifier as deidentifiers
from data_pipeline.notes.deidentification import pseudonym_secret as secrets
from data_pipeline.notes.deidentification.deidentifier import Deidentifier
from mediscale.core.annotations import PatientCount, RuntimeInput
from mediscale.core.errors import QualityError
from mediscale.core.privacy import count
from mediscale.core.refs import Frozen, TableRef
from mediscale.core.settings import Settings
from mediscale.core.stage import SPARK, Context, Stage
from mediscale.core.tables import NOTES
from mediscale.storage import lake, table_files, workers
from mediscale.storage.table_files import TableFile

if TYPE_CHECKING:
    import duckdb

log = logging.getLogger(__name__)

TOGETHER = (
    "names in notes: a name that one of a patient's notes tells is replaced in all of them, in earlier ones too, so "
    "that none gives it away; which words an earlier note lacks may follow from a later one."
)
"""The assumption that this reveals nothing about the outcome; evidence of versions that read notes quotes it."""


class Params(Frozen):
    source: RuntimeInput[SourceName]
    dataset: RuntimeInput[str]
    bronze: RuntimeInput[dict[str, TableRef]]
    pseudonym_secret: RuntimeInput[str]
    """The fingerprint of the secret (module ``pseudonym_secret``), which the caller gives."""
    deidentifier: RuntimeInput[str]
    """What replaces identifiers (module ``deidentifier``), which the settings name."""
    misdated_after: NaiveDatetime | None = None
    """Notes dated later than this (naive UTC) are misdated. None for extracts with shifted dates."""
    max_quarantine_share: float = Field(0.05, ge=0, le=1)
    """The share of notes that may be quarantined."""


class Result(Frozen):
    """The tables and counts; an extract without notes has no tables."""

    notes: TableRef | None
    note_quarantine: TableRef | None
    note_count: PatientCount
    notes_quarantined: PatientCount
    reasons: dict[str, PatientCount]
    replaced: int
    """The number of identifiers that were replaced in all notes."""


_NOTHING = Result(notes=None, note_quarantine=None, note_count=0, notes_quarantined=0, reasons={}, replaced=0)


def run(params: Params, settings: Settings, key: str) -> Result:
    """Writes ``notes`` and ``quarantine_notes``.

    Raises:
        QualityError: too large a share of the notes can't be used.
        StorageError: the home does not hold the pseudonym secret.
        UsageError: the deidentifier of the settings is not installed here.
    """
    secret = secrets.load(settings, params.pseudonym_secret)
    deidentifiers.load(params.deidentifier, secret)  # a wrong one is refused before anything is read
    source = sources.load(params.source)
    with_notes = tuple(_note_mappings(source, params.bronze))
    if not with_notes:
        return _NOTHING
    with engine.connection(settings) as database:
        _validate(database, settings, source, params)
        columns = "note_type as source, file, line, 'NOTE' as code, broken as reason"
        broken = f"select {columns} from judged where broken is not null"
        quarantine = table_files.write(
            settings, params.dataset, "quarantine_notes", key, engine.batches(database, broken)
        )
        reasons = dict(Counter(lake.read(settings, quarantine, ["reason"])["reason"].to_pylist()))
        n_notes = sum(lake.dataset(settings, params.bronze[name]).count_rows() for name in with_notes)
        _refuse_too_many(params, sum(reasons.values()), n_notes)
        whole = n_notes - sum(reasons.values())
        log.info("%s notes are whole; their identifiers are replaced", count(whole))
        notes = lake.find_commit(settings, params.dataset, NOTES.name, key)
        if notes is None:
            replace = partial(_write_replaced, settings, params, secret)
            processes = min(workers.cores(settings), -(-whole // _NOTES_OF_A_PIECE))
            files = list(workers.map_pieces(settings, replace, _by_patient(database), processes))
            schema = NOTES.arrow_schema()
            notes = table_files.commit(settings, params.dataset, NOTES.name, key, files, schema)
    replaced = lake.read(settings, notes, ["replaced"])["replaced"]
    return Result(
        notes=notes,
        note_quarantine=quarantine,
        note_count=len(replaced),
        notes_quarantined=sum(reasons.values()),
        reasons=reasons,
        replaced=pc.sum(replaced).as_py() or 0,
    )


def _refuse_too_many(params: Params, quarantined: int, total: int) -> None:
    if quarantined > max(1, params.max_quarantine_share * total):
        raise QualityError(
            f"{count(quarantined)} of the {count(total)} notes of {params.dataset} can't be used (table "
            "quarantine_notes names the rules and lines); correct the extract, or allow more with max_quarantine_share."
        )


def _note_mappings(source: Source, bronze: Iterable[str]) -> dict[str, NoteMapping]:
    return {name: note for name in bronze if (note := source.tables[name].note)}


def _validate(
    database: "duckdb.DuckDBPyConnection", settings: Settings, source: Source, params: Params
) -> None:
    """Keeps all notes as ``judged``: the columns of ``NOTES``, what its rules use, and the rules that each breaks."""
    mappings = _note_mappings(source, params.bronze)
    needed = (*mappings, source.subjects.table, source.visits.table)
    facts.load(
        database, source, facts.of_bronze(settings, source, params.bronze), params.dataset, names=needed
    )
    candidates = " union all ".join(
        _candidates(source, params, name, note) for name, note in mappings.items()
    )
    marked = f"""
        select candidates.*, listed.source_subject is not null as subject_listed,
          note_id is not null and row_number() over (partition by note_id, available_time order by line) > 1 as repeated
        from ({candidates}) as candidates
          left join ({extract_facts.subjects_query(source)}) as listed on named_subject = listed.source_subject"""
    flagged = f"select *, {NOTES.flags()} as flags from ({marked})"
    judged = engine.transpile(f"select *, {NOTES.broken_rules} as broken from ({flagged})")
    database.execute(f"create table judged as {judged}")


def _candidates(source: Source, params: Params, name: str, note: NoteMapping) -> str:
    """Spark SQL of a table's notes, with what the rules of ``NOTES`` use."""
    late = "coalesce(note_time > stored_time + interval 1 day, false)"
    if params.misdated_after is not None:
        latest = f"cast('{params.misdated_after.isoformat(' ')}' as timestamp_ntz)"
        late = f"({late} or coalesce(note_time > {latest}, false))"
    return f"""
        select if(natural_key is null, null, xxhash64('{params.dataset}', '{name}', natural_key)) as note_id,
          {extract_facts.SUBJECT} as subject_id, named_subject, {extract_facts.VISIT} as visit_id,
          note_time as time, greatest(note_time, known) as available_time, '{name}' as note_type, note_text as text,
          file, line, visit_listed, untimely, rounded, bit_length(note_text) / 8 as size, 0 as replaced,
          {_BLANK} as blank, {_UNREADABLE} as unreadable, {late} as future, marked_error
        from (
          select *, cast({note.id} as string) as natural_key, {source.subjects.id} as named_subject,
            cast({note.time} as timestamp_ntz) as note_time, {note.text} as note_text,
            cast({note.stored or "null"} as timestamp_ntz) as stored_time,
            coalesce({note.error}, false) as marked_error
          from ({extract_facts.rows_query(source, name)}))"""


_BLANK = r"not (note_text rlike '[\\p{L}\\p{N}]')"
_UNREADABLE = r"note_text rlike '[\\x00-\\x08\\x0E-\\x1F\\x7F\\uFFFD]'"

_NOTE_COLUMNS = ("time", "available_time", "note_id", "line", "visit_id", "note_type", "text", "file")
_NOTES_OF_A_PIECE = 1000


def _by_patient(database: "duckdb.DuckDBPyConnection") -> Iterator[pa.Table]:
    """The whole notes in pieces, all of a patient in one, in the order of their times."""
    order = ", ".join(("subject_id", *_NOTE_COLUMNS[:4], "file"))
    columns = ", ".join(("subject_id", *_NOTE_COLUMNS))
    waiting = database.sql(f"select {columns} from judged limit 0").to_arrow_table()
    for batch in engine.batches(
        database, f"select {columns} from judged where broken is null order by {order}"
    ):
        waiting = pa.concat_tables([waiting, pa.Table.from_batches([batch])])
        while len(waiting) > _NOTES_OF_A_PIECE:
            last = waiting["subject_id"][_NOTES_OF_A_PIECE - 1].as_py()
            n = pc.sum(pc.less_equal(waiting["subject_id"], last)).as_py()
            if n == len(waiting):  # more of that patient may come
                break
            yield waiting.slice(0, n)
            waiting = waiting.slice(n)
    if len(waiting):
        yield waiting


def _write_replaced(settings: Settings, params: Params, secret: bytes, piece: pa.Table) -> TableFile:
    """Writes the notes of some patients with surrogates to a file of ``notes``."""
    deidentifier = deidentifiers.load(params.deidentifier, secret)
    patients = groupby(piece.to_pylist(), key=itemgetter("subject_id"))
    rows = [
        note
        for subject, notes in patients
        for note in _deidentify_patient(deidentifier, subject, list(notes))
    ]
    batch = pa.RecordBatch.from_pylist(rows, schema=NOTES.arrow_schema())
    return table_files.write_file(settings, params.dataset, NOTES.name, [batch], NOTES.arrow_schema())


def _deidentify_patient(
    deidentifier: Deidentifier, subject: int, notes: Sequence[dict[str, Any]]
) -> Iterator[dict[str, Any]]:
    texts, times = [note["text"] for note in notes], [note["time"] for note in notes]
    for note, clean in zip(notes, deidentifier.deidentify(subject, texts, times), strict=True):
        yield {**note, "text": clean.text, "replaced": sum(clean.replaced.values())}


def _summary(result: Result) -> str:
    if result.notes is None:
        return "no notes in the extract"
    return (
        f"{count(result.note_count)} notes, {result.replaced:,} identifiers replaced; "
        f"{count(result.notes_quarantined)} set aside"
    )


def runtime_inputs(params: Mapping[str, Any], settings: Settings) -> Iterator[Context]:
    """Gives the deidentifier of the settings, and the fingerprint of the home's secret where the source brings none."""
    looked_up: dict[str, Callable[[Settings], str]] = {
        "deidentifier": deidentifiers.configured,
        "pseudonym_secret": secrets.home_fingerprint,
    }
    yield Context({name: look_up(settings) for name, look_up in looked_up.items() if name not in params})


STAGE = Stage(
    Params,
    Result,
    run,
    display_name="replace identifiers in notes",
    summary=_summary,
    resources=SPARK,
    runtime_inputs=runtime_inputs,
)
