"""Synthetic data generator: a hospital's records in the layout of a MIMIC-IV 3.1 extract, and the true risks.

``patients`` holds the causal model. The other modules turn it into tables: transfers and billing (``hospital``), orders
and treatments (``treatments``), measurements (``laboratory``, ``vital_signs``), notes (``clinical_notes``), and defects
of data quality (``dirt``); ``blocks`` has all tables of some patients at a time. The extract is read through
``sources/mimic_iv.yaml`` like a real one, with two documented extensions: a table ``note/admission``, and ward vital
signs in ``icu/chartevents`` with an empty stay_id.

The same parameters give the same bytes. Only ``evaluate`` may read the true risks.
"""

import gzip
import hashlib
import shutil
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from threading import Lock
from typing import IO, TYPE_CHECKING, Literal, cast

from pydantic import Field, NaiveDatetime, ValidationError

from data_pipeline.notes.deidentification import pseudonym_secret as secrets
from mediscale.core.annotations import Digest, RuntimeInput
from mediscale.core.datasets import DATASET_PATTERN
from mediscale.core.refs import Frozen
from mediscale.core.settings import Settings
from mediscale.core.stage import SPARK, Stage

if TYPE_CHECKING:
    import polars as pl

    from data_pipeline.synthetic.blocks import Draw

SUBJECTS = {"tiny": 250, "small": 6_000, "large": 40_000}
_DRAWING = Lock()
"""To draw a table takes several times the memory that its rows do; beside it others are compressed."""
SLICE = 1 << 14
"""Rows of a table that are a text of CSV at once."""
FINISHED = "EXTRACT.json"


class Params(Frozen):
    size: RuntimeInput[Literal["tiny", "small", "large"]] = "small"
    """250, 6,000 or 40,000 patients; about 1.4 visits each."""
    seed: int = Field(20260101, ge=0, lt=2**31)
    dataset: RuntimeInput[str] = Field("synthetic", pattern=DATASET_PATTERN)
    patients: int | None = Field(None, ge=1)
    """The number of patients, where it is not that of ``size``."""
    days: int | None = Field(None, ge=30)
    """The days from 2022-01-01 in which patients come for the first time; None: three and a half years."""
    notes: bool = True
    """Whether the extract has clinical notes; without them it lacks their files."""
    reads_high_from: NaiveDatetime | None = None
    """The time from which a laboratory analyser reads high (module ``analyser``); None: never."""


class Result(Frozen):
    source: str
    dataset: str
    path: str
    """Folder of the extract, relative to the home folder."""
    extract_digest: Digest
    oracle: str
    """The file of true probabilities, relative to the home folder.

    Its columns are subject_id, hadm_id (of the first admission of a merged stay), task, prediction_time,
    probability."""
    visits: int
    patients: int
    pseudonym_secret: str = secrets.PUBLISHED
    """The fingerprint of a published secret: synthetic patients need no confidential one."""


class _Finished(Frozen):
    """The completion record, written last into an extract: its call's key, the digests of its files, and the result."""

    key: str
    files: dict[str, str]
    result: Result


def run(params: Params, settings: Settings, key: str) -> Result:
    """Writes the extract to ``<home>/extracts``, unless a call with this key did so before.

    The extract appears atomically. What a killed run leaves lacks the completion record and is deleted.
    """
    name = f"{params.dataset}-{params.size}-{params.seed}"
    folder = settings.home / "extracts" / name
    truth = folder.with_name(f"{name}.truth.csv.gz")
    finished = _finished(folder, truth, key)
    if finished is not None:
        return finished.result
    partial_folder, partial_truth = (
        folder.with_name(f".{name}.partial"),
        folder.with_name(f".{name}.truth.partial"),
    )
    shutil.rmtree(partial_folder, ignore_errors=True)
    partial_folder.mkdir(parents=True)
    try:
        subjects, visits = _write(params, partial_folder, partial_truth)
        result = Result(
            source="mimic-iv",
            dataset=params.dataset,
            path=str(folder.relative_to(settings.home)),
            extract_digest=_extract_digest(partial_folder),
            oracle=str(truth.relative_to(settings.home)),
            visits=visits,
            patients=subjects,
        )
        _publish(partial_folder, partial_truth, folder, truth, key, result)
    finally:
        shutil.rmtree(partial_folder, ignore_errors=True)
        partial_truth.unlink(missing_ok=True)
    return result


def _finished(folder: Path, truth: Path, key: str) -> _Finished | None:
    """The completion record of a call with this key, or None where there is none or its files have changed."""
    with suppress(FileNotFoundError, ValidationError):
        record = _Finished.model_validate_json((folder / FINISHED).read_bytes())
        if record.key == key and record.files == _digests(folder, truth):
            return record
    return None


def _digests(folder: Path, truth: Path) -> dict[str, str]:
    files = {str(file.relative_to(folder)): file for file in sorted(folder.rglob("*.csv.gz"))}
    digests = {}
    for name, file in {**files, "truth": truth}.items():
        with file.open("rb") as stream:
            digests[name] = hashlib.file_digest(stream, "sha256").hexdigest()
    return digests


def _extract_digest(folder: Path) -> str:
    from data_pipeline.ingest.extract_files import digest_of

    return digest_of(str(folder), "mimic-iv")


def _publish(written: Path, written_truth: Path, folder: Path, truth: Path, key: str, result: Result) -> None:
    """Moves the complete extract to its place; an older one of the same name is deleted first."""
    record = _Finished(key=key, files=_digests(written, written_truth), result=result)
    (written / FINISHED).write_text(record.model_dump_json(indent=1))
    shutil.rmtree(folder, ignore_errors=True)
    written_truth.replace(truth)
    written.replace(folder)


def _write(params: Params, folder: Path, truth: Path) -> tuple[int, int]:
    """Appends block after block to the files, and returns the numbers of patients and visits."""
    from data_pipeline.synthetic import blocks

    counts = (0, 0)
    subjects = params.patients or SUBJECTS[params.size]
    with ExitStack() as stack:
        streams: dict[str, IO[bytes]] = {}
        for block in blocks.generate(subjects, params.seed, params.days):
            draws = {**_recorded(params, block.draws), "truth": partial(getattr, block, "truth")}
            new_tables = draws.keys() - streams.keys()
            if params.notes:
                block.draw_notes()  # once, before two threads ask for them
            for name in sorted(new_tables):
                path = truth if name == "truth" else folder / f"{name}.csv.gz"
                streams[name] = stack.enter_context(_gzip(path, stack))
            append = partial(append_table, streams, new_tables)
            with ThreadPoolExecutor(2) as pool:
                list(pool.map(append, draws, draws.values()))
            counts = (counts[0] + block.subjects, counts[1] + block.visits)
    return counts


def _recorded(params: Params, draws: "Mapping[str, Draw]") -> "dict[str, Draw]":
    """The tables as the hospital records them: without notes, or with an analyser that reads high, where asked for."""
    recorded = {name: draw for name, draw in draws.items() if params.notes or not name.startswith("note/")}
    if params.reads_high_from is not None:
        recorded["hosp/labevents"] = partial(_read_high, recorded["hosp/labevents"], params.reads_high_from)
    return recorded


def _read_high(draw: "Draw", since: NaiveDatetime) -> "pl.DataFrame":
    from data_pipeline.synthetic.analyser import read_high

    return read_high(draw(), since)


def _gzip(path: Path, stack: ExitStack) -> IO[bytes]:
    """A gzip stream without a name or time in its header, so that equal contents give equal bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    raw = stack.enter_context(path.open("wb"))
    return cast("IO[bytes]", gzip.GzipFile(filename="", mode="wb", compresslevel=1, fileobj=raw, mtime=0))


def append_table(streams: dict[str, IO[bytes]], new_tables: set[str], name: str, draw: "Draw") -> None:
    """Writes one block of a table to its stream as CSV, under a header where the table is new."""
    with _DRAWING:
        table = draw()
    if name in new_tables:
        streams[name].write(table.clear().write_csv().encode())
    for rows in table.iter_slices(SLICE):
        text = rows.write_csv(include_header=False, datetime_format="%Y-%m-%d %H:%M:%S")
        streams[name].write(text.encode())


STAGE = Stage(
    Params,
    Result,
    run,
    display_name="make a synthetic hospital",
    summary=lambda r: f"{r.visits:,} visits of {r.patients:,} synthetic patients",
    resources=SPARK,
)
