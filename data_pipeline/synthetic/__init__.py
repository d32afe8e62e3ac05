"""Makes a synthetic hospital's records in the shape of a MIMIC-IV 3.1 extract, and the truth about them beside it.

``patients`` holds the causal model; the other modules turn it into tables: where patients
were and what was billed (``hospital``), what they were given (``treatments``), what was measured (``laboratory``,
``charts``), what was written (``notes``), and what is wrong with it all (``dirt``). It is read through
``sources/mimic_iv.yaml`` like the real thing, with two documented extensions: a ``note/admission`` table, and ward
vital signs in ``icu/chartevents`` with an empty stay_id.

The same parameters give the same bytes. Nothing but ``evaluate`` may read the truth.
"""

import gzip
import hashlib
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
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

    from data_pipeline.synthetic.clinical_notes import Note
    from data_pipeline.synthetic.patients import Subjects, Visits

SUBJECTS = {"tiny": 250, "small": 6_000, "large": 40_000}
BLOCK = 3_000
"""Patients made at a time: memory stays that of the small size."""
FINISHED = "EXTRACT.json"


class Params(Frozen):
    size: RuntimeInput[Literal["tiny", "small", "large"]] = "small"
    """250, 6,000 or 40,000 patients; about 1.4 visits each."""
    seed: int = Field(20260101, ge=0)
    dataset: RuntimeInput[str] = Field("synthetic", pattern=DATASET_PATTERN)
    patients: int | None = Field(None, ge=1)
    """Instead of the size's number."""
    days: int | None = Field(None, ge=30)
    """Within which they come for the first time, from 2022-01-01 on; None: in three and a half years."""
    notes: bool = True
    """Whether anybody writes them; without them the extract has no files of them."""
    reads_high_from: NaiveDatetime | None = None
    """From when on an analyser of the laboratory reads high (``analyser``); None: never."""


class Result(Frozen):
    source: str
    dataset: str
    path: str
    """Folder of the extract, relative to the home folder."""
    extract_digest: Digest
    oracle: str
    """File of the true probabilities, relative to the home folder: subject_id, hadm_id (of the first admission of a
    merged stay), task, prediction_time, probability."""
    visits: int
    patients: int
    pseudonym_secret: str = secrets.PUBLISHED
    """The fingerprint of a published secret: synthetic patients need no confidential one."""


class _Finished(Frozen):
    """Written last into a finished extract: whose work it is, and what its files and the truth must be."""

    key: str
    files: dict[str, str]
    result: Result


@dataclass(frozen=True)
class Block:
    """Some patients' share of every table (by its path without extension), of the truth, and their notes' spans."""

    tables: "dict[str, pl.DataFrame]"
    truth: "pl.DataFrame"
    notes: "list[Note]"
    visits: int


def run(params: Params, settings: Settings, key: str) -> Result:
    """Writes the extract to ``<home>/extracts``, unless this very call has done so before.

    A killed run leaves a folder without its last file, which is thrown away; a finished one appears all at once.
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
    """What a finished call left, if its files are still those that it wrote."""
    with suppress(FileNotFoundError, ValidationError):
        left = _Finished.model_validate_json((folder / FINISHED).read_bytes())
        if left.key == key and left.files == _digests(folder, truth):
            return left
    return None


def _digests(folder: Path, truth: Path) -> dict[str, str]:
    files = {str(file.relative_to(folder)): file for file in sorted(folder.rglob("*.csv.gz"))}
    digests = {}
    for name, file in {**files, "truth": truth}.items():
        with file.open("rb") as stream:
            digests[name] = hashlib.file_digest(stream, "sha256").hexdigest()
    return digests


def _extract_digest(folder: Path) -> str:
    from data_pipeline.ingest.source import digest_of

    return digest_of(str(folder), "mimic-iv")


def _publish(made: Path, made_truth: Path, folder: Path, truth: Path, key: str, result: Result) -> None:
    """Puts the finished extract in its place. An older one under the same name, made by other code, goes first."""
    record = _Finished(key=key, files=_digests(made, made_truth), result=result)
    (made / FINISHED).write_text(record.model_dump_json(indent=1))
    shutil.rmtree(folder, ignore_errors=True)
    made_truth.replace(truth)
    made.replace(folder)


def _write(params: Params, folder: Path, truth: Path) -> tuple[int, int]:
    """Appends block after block to the files; returns how many patients and visits they hold."""
    counts = (0, 0)
    subjects = params.patients or SUBJECTS[params.size]
    with ExitStack() as stack:
        streams: dict[str, IO[bytes]] = {}
        for block in generate(subjects, params.seed, params.days):
            tables = {**_kept(params, block.tables), "truth": block.truth}
            fresh = tables.keys() - streams.keys()
            for name in sorted(fresh):
                path = truth if name == "truth" else folder / f"{name}.csv.gz"
                streams[name] = stack.enter_context(_gzip(path, stack))
            append = partial(_append, streams, fresh)
            with ThreadPoolExecutor(2) as pool:
                list(pool.map(append, tables, tables.values()))
            counts = (counts[0] + len(block.tables["hosp/patients"]), counts[1] + block.visits)
    return counts


def _kept(params: Params, tables: "dict[str, pl.DataFrame]") -> "dict[str, pl.DataFrame]":
    """The tables that this hospital keeps, as its laboratory's analyser reads."""
    if not params.notes:
        tables = {name: table for name, table in tables.items() if not name.startswith("note/")}
    if params.reads_high_from is None:
        return tables
    from data_pipeline.synthetic.analyser import read_high

    return tables | {"hosp/labevents": read_high(tables["hosp/labevents"], params.reads_high_from)}


def _gzip(path: Path, stack: ExitStack) -> IO[bytes]:
    """A gzip stream without name and time in its header, so that equal contents are equal bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    raw = stack.enter_context(path.open("wb"))
    return cast("IO[bytes]", gzip.GzipFile(filename="", mode="wb", compresslevel=1, fileobj=raw, mtime=0))


def _append(streams: dict[str, IO[bytes]], fresh: set[str], name: str, table: "pl.DataFrame") -> None:
    text = table.write_csv(include_header=name in fresh, datetime_format="%Y-%m-%d %H:%M:%S")
    streams[name].write(text.encode())


def generate(subjects: int, seed: int, days: int | None = None) -> Iterator[Block]:
    """All tables of a synthetic hospital, in blocks of patients; neither files nor clock."""
    from data_pipeline.synthetic.frames import stream
    from data_pipeline.synthetic.patients import DAYS, draw_subjects, simulate

    days = days or DAYS
    for block, first in enumerate(range(0, subjects, BLOCK)):
        size = min(BLOCK, subjects - first)
        people = draw_subjects(stream(seed, block, "subjects"), size, 10_000_000 + 3 * first, days)
        yield _block(seed, block, people, simulate(stream(seed, block, "visits"), people, days))


def _block(seed: int, block: int, people: "Subjects", visits: "Visits") -> Block:
    from data_pipeline.synthetic import clinical_notes as notes
    from data_pipeline.synthetic import hospital, laboratory, treatments, vital_signs
    from data_pipeline.synthetic.frames import stream
    from data_pipeline.synthetic.patients import truth

    random = partial(stream, seed, block)
    encounters = hospital.draw_encounters(random("encounters"), people, visits, block)
    clinics = laboratory.draw_clinics(random("clinics"), visits, encounters)
    hospitalised = (people, visits, encounters)
    written = notes.generate_notes(seed, block, *hospitalised)
    tables = {
        "hosp/patients": hospital.patients(people, visits),
        "hosp/admissions": hospital.admissions(random("admissions"), *hospitalised),
        "hosp/transfers": hospital.transfers(random("transfers"), *hospitalised),
        "hosp/services": hospital.services(*hospitalised),
        "hosp/diagnoses_icd": hospital.diagnoses_icd(random("diagnoses_icd"), *hospitalised),
        "hosp/procedures_icd": hospital.procedures_icd(random("procedures_icd"), *hospitalised),
        "hosp/prescriptions": treatments.prescriptions(random("prescriptions"), *hospitalised),
        "hosp/labevents": laboratory.labevents(
            random("labevents"), *hospitalised, clinics, block * 2_000_000 + 1
        ),
        "hosp/microbiologyevents": laboratory.microbiologyevents(
            random("microbiologyevents"), *hospitalised, block * 100_000 + 1
        ),
        "hosp/omr": laboratory.omr(random("omr"), people, visits, clinics),
        "icu/icustays": hospital.icustays(*hospitalised),
        "icu/chartevents": vital_signs.chartevents(random("chartevents"), *hospitalised),
        "icu/inputevents": treatments.inputevents(random("inputevents"), *hospitalised),
        "icu/outputevents": treatments.outputevents(random("outputevents"), *hospitalised),
        "icu/procedureevents": treatments.procedureevents(random("procedureevents"), *hospitalised),
        **{table: notes.note_frame(written, kind) for kind, table in notes.TABLES.items()},
    }
    if block == 0:
        tables |= {"hosp/d_labitems": laboratory.d_labitems(), "icu/d_items": vital_signs.d_items()}
    return Block(tables, truth(people, visits, encounters.hadm_id), written, len(visits))


STAGE = Stage(
    Params,
    Result,
    run,
    display_name="make a synthetic hospital",
    summary=lambda r: f"{r.visits:,} visits of {r.patients:,} synthetic patients",
    resources=SPARK,
)
