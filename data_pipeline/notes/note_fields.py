"""Analysis of the lake's notes: what ``/analyze`` reads from one note, as a table over all of them.

One row for each field of each note, with the place in the de-identified note that supports it. The analyser is the one
that serves.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import pyarrow as pa

from data_pipeline.clinical_text import languages
from data_pipeline.notes import analysis, notes_files
from data_pipeline.notes.analysis.fields import (
    ClinicalFinding,
    Evidence,
    Medication,
    NoteAnalysis,
    RiskFactor,
    Statement,
)
from mediscale.core.annotations import PatientCount, RuntimeInput
from mediscale.core.privacy import count
from mediscale.core.refs import Frozen, TableRef
from mediscale.core.settings import Settings
from mediscale.core.stage import SPARK, Context, Stage
from mediscale.core.tables import NOTE_FIELDS, NOTES
from mediscale.storage import lake, workers

_OF_NOTE = ("note_id", "subject_id", "visit_id", "time", "available_time", "note_type")
_USE = ("status", "is_history", "dose", "route", "frequency")
"""What only some fields have."""


class Params(Frozen):
    dataset: RuntimeInput[str]
    notes: RuntimeInput[TableRef]


class Result(Frozen):
    note_fields: TableRef
    notes_read: PatientCount
    fields: PatientCount
    """Rows that were written."""


def run(params: Params, settings: Settings, key: str) -> Result:
    """Writes ``note_fields``.

    Raises:
        StorageError: the table of notes is not the one referred to.
    """
    written = notes_files.write_per_note(
        settings, params.notes, NOTE_FIELDS, params.dataset, key, _analyze, workers.cores(settings)
    )
    read = lake.dataset(settings, params.notes).count_rows()
    return Result(note_fields=written, notes_read=read, fields=lake.dataset(settings, written).count_rows())


def _analyze(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        notes = batch.select([*_OF_NOTE, "text"]).to_pylist()
        rows = [
            {**{name: note[name] for name in _OF_NOTE}, "rules_version": analysis.RULES_VERSION, **field}
            for note in notes
            for field in _fields(note["text"])
        ]
        yield pa.RecordBatch.from_pylist(rows, schema=NOTE_FIELDS.arrow_schema())


def _fields(text: str) -> Iterator[dict[str, Any]]:
    """The rows of one note; of a note in another language than English its language alone."""
    written_in = languages.language(text)
    if written_in == languages.ENGLISH:
        yield from rows_of(text, analysis.analyze(text))
    else:
        yield {"field": "language", "name": written_in}


def rows_of(text: str, analyzed: NoteAnalysis) -> Iterator[dict[str, Any]]:
    """The fields of one note as rows: where a level has no place of its own, its factors follow with theirs."""
    fields: dict[str, tuple[Evidence, ...]] = {
        "summary": analyzed.summary,
        "symptom": analyzed.symptoms,
        "condition": analyzed.conditions,
        "medication": analyzed.medications,
        "recommendation": analyzed.recommendations,
        "urgency factor": analyzed.urgency_factors,
        "risk factor": analyzed.risk.factors,
    }
    for field, values in fields.items():
        for one in values:
            yield _row(field, text, one)
    for vital in analyzed.vitals:
        yield {
            **_row("vital sign", text, vital),
            "name": vital.kind,
            "value": f"{vital.value} {vital.unit}".strip(),
        }
    yield {"field": "urgency", "name": analyzed.urgency}
    yield {"field": "risk", "name": analyzed.risk.level}


def _row(field: str, text: str, evidence: Evidence) -> dict[str, Any]:
    use = {name: getattr(evidence, name) for name in _USE if getattr(evidence, name, "") != ""}
    name = evidence.name if isinstance(evidence, ClinicalFinding | Medication | RiskFactor) else None
    words = evidence.text if isinstance(evidence, Statement) else text[evidence.start : evidence.end]
    return {"field": field, "name": name, "text": words, "start": evidence.start, "end": evidence.end, **use}


def runtime_inputs(params: Mapping[str, Any], settings: Settings) -> Iterator[Context]:
    """The dataset's newest notes, where none are named."""
    if "dataset" in params and "notes" not in params:
        yield Context({"notes": lake.latest(settings, params["dataset"], NOTES.name)})


STAGE = Stage(
    Params,
    Result,
    run,
    display_name="analyse the notes",
    summary=lambda r: f"{count(r.fields)} fields of {count(r.notes_read)} notes",
    resources=SPARK,
    runtime_inputs=runtime_inputs,
)
