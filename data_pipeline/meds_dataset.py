"""Silver as a MEDS dataset (medical-event-data-standard.github.io, 0.4): what other tools of that standard read.

Per event it has the latest assertion, and beside the standard's columns when the hospital knew it (``available_time``),
the visit, the unit and which event it is: two may be equal in all else, such as two doses. ``source meds`` reads what
is written here.
"""

import json
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import parquet

from data_pipeline import exports, shards
from data_pipeline.cohort import bitemporal
from mediscale.core import caller
from mediscale.core.concepts import CONCEPTS
from mediscale.core.refs import TableRef
from mediscale.core.settings import Settings
from mediscale.core.splits import SPLITS, assign_split
from mediscale.core.tables import EVENTS
from mediscale.storage import lake

MEDS_VERSION = "0.4.1"

_READ = (
    *("subject_id", "time", "code", "numeric_value", "text_value"),
    *("available_time", "visit_id", "unit", "event_id", "retracted"),
)
DATA = pa.schema(
    [
        pa.field("subject_id", pa.int64()),
        pa.field("time", pa.timestamp("us")),
        pa.field("code", pa.string()),
        pa.field("numeric_value", pa.float32()),
        pa.field("text_value", pa.large_string()),
        pa.field("available_time", pa.timestamp("us")),
        pa.field("visit_id", pa.int64()),
        pa.field("unit", pa.string()),
        pa.field("event_id", pa.int64()),
    ]
)
"""The standard's five columns, then ours. A float32 is the standard's number, of some seven digits."""
CODES = pa.schema(
    [
        pa.field("code", pa.string()),
        pa.field("description", pa.string()),
        pa.field("parent_codes", pa.list_(pa.string())),
    ]
)
_DESCRIPTIONS = {concept.code: f"{concept.name}, {concept.unit}" for concept in CONCEPTS}
SUBJECT_SPLITS = pa.schema([pa.field("subject_id", pa.int64()), pa.field("split", pa.string())])


class ExportCounts(NamedTuple):
    """What an export holds."""

    rows: int
    subjects: int
    codes: int


def write(
    settings: Settings, dataset: str, output: Path, *, by: str, purpose: str, as_of: datetime | None = None
) -> ExportCounts:
    """Writes a dataset's events into a new folder: ``data/SPLIT/SHARD.parquet`` and ``metadata/``.

    Splits are the platform's own, by patient. An entry of the dataset's signed history, written before the folder
    appears, says who took them. ``as_of`` (naive UTC) leaves out what was not known by then.

    Raises:
        NotFoundError: the dataset has no events.
        InputError: the folder is there already.
        StorageError: it can't be written.
        UsageError: the key that signs here can't sign for ``by``; no folder is written.
    """
    events = lake.latest(settings, dataset, EVENTS.name)
    what = f"events of {events} as a MEDS dataset"
    return exports.write(
        settings,
        dataset,
        output,
        what,
        lambda folder: _write(settings, events, folder, as_of),
        by=by,
        purpose=purpose,
    )


def _write(settings: Settings, events: TableRef, folder: Path, as_of: datetime | None) -> ExportCounts:
    rows, splits, codes = 0, [SUBJECT_SPLITS.empty_table()], set[str]()
    for shard in range(lake.fact(settings, events, shards.SHARD_COUNT)):
        table = rows_of(shards.read(settings, events, shard, _READ), as_of)
        subjects = pc.unique(table["subject_id"])
        split = pa.array([assign_split(subject) for subject in subjects.to_pylist()], pa.string())
        splits.append(pa.table([subjects, split], schema=SUBJECT_SPLITS))
        for name in SPLITS:
            part = table.filter(pc.is_in(table["subject_id"], subjects.filter(pc.equal(split, name))))
            if part.num_rows:
                file = folder / "data" / name / f"{shard}.parquet"
                file.parent.mkdir(parents=True, exist_ok=True)
                parquet.write_table(part, file, compression="zstd")
        codes |= set(pc.unique(table["code"]).to_pylist())
        rows += table.num_rows
    everybody = pa.concat_tables(splits).sort_by("subject_id")
    about = folder / "metadata"
    about.mkdir(parents=True)
    parquet.write_table(everybody, about / "subject_splits.parquet")
    named = {
        "code": sorted(codes),
        "description": [_DESCRIPTIONS.get(code) for code in sorted(codes)],
        "parent_codes": [_parents(code) for code in sorted(codes)],
    }
    parquet.write_table(pa.table(named, schema=CODES), about / "codes.parquet")
    (about / "dataset.json").write_text(json.dumps(_about(events, as_of), indent=2))
    return ExportCounts(rows, everybody.num_rows, len(codes))


def rows_of(events: pa.Table, as_of: datetime | None = None) -> pa.Table:
    """A shard's assertions as MEDS rows: the latest of each event, by patient and time."""
    latest = bitemporal.latest_as_of(events, as_of)
    named = latest.set_column(latest.column_names.index("code"), "code", latest["code"].cast(pa.string()))
    ordered = named.sort_by(
        [("subject_id", "ascending"), ("time", "ascending"), ("code", "ascending"), ("event_id", "ascending")]
    )
    return ordered.select(DATA.names).cast(DATA)


def _parents(code: str) -> list[str]:
    """``ICD10CM//I50.1`` stands below ``ICD10CM/I50.1``, which is how OMOP's vocabularies are named in MEDS."""
    vocabulary, _, rest = code.partition("//")
    return [f"{vocabulary}/{rest}"] if vocabulary in ("LOINC", "ICD9CM", "ICD10CM", "RxNorm") and rest else []


def _about(events: TableRef, as_of: datetime | None) -> dict[str, str]:
    return {
        "dataset_name": events.dataset,
        "dataset_version": f"{events.version}" + (f" as of {as_of.isoformat()}" if as_of else ""),
        "etl_name": "mediscale",
        "etl_version": metadata.version("mediscale"),
        "meds_version": MEDS_VERSION,
        "created_at": caller.now().replace(tzinfo=None).isoformat(),
    }
