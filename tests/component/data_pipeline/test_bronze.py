"""Landing: as it came, with provenance; and every kind of damaged extract, refused before anything is written."""

import gzip
import os
import signal
import threading
from collections.abc import Callable, Iterator
from itertools import repeat
from pathlib import Path
from time import sleep
from typing import TYPE_CHECKING

import pytest

from data_pipeline.ingest import bronze, extract_files, extract_parts
from mediscale.core.errors import InputError
from mediscale.core.settings import Settings
from mediscale.storage import lake

if TYPE_CHECKING:
    import pyarrow as pa
    from fixtures.drawn_hospitals import Hospital


def land(folder: Path, settings: Settings, digest: str = "") -> bronze.Result:
    digest = digest or extract_files.digest_of(str(folder), "mimic-iii")
    given = {"source": "mimic-iii", "dataset": "mimic-iii", "path": str(folder), "extract_digest": digest}
    return bronze.run(bronze.Params(**given), settings, "key")


def test_every_column_lands_as_text_in_lower_case_with_file_and_line(iii: "Hospital") -> None:
    patients = sorted(iii.rows(iii.bronze.bronze["patients"]), key=lambda row: row["line"])
    assert patients[1] == {
        "file": "PATIENTS.csv.gz",
        "line": 3,
        "subject_id": "2",
        "gender": "M",
        "dob": "1860-02-01 00:00:00",
        "dod": None,
        "not_named_in_the_yaml": "x",
    }


def test_a_note_that_spans_lines_is_one_record(iv: "Hospital") -> None:
    notes = sorted(iv.rows(iv.bronze.bronze["discharge"]), key=lambda row: row["line"])
    assert [(row["line"], row["text"]) for row in notes] == [
        (2, 'First line\nsecond line, "quoted"'),
        (3, "Third"),
    ]


def test_what_is_absent_is_said(iii: "Hospital", iv: "Hospital") -> None:
    assert "noteevents" in iii.bronze.absent
    assert "icu/chartevents" in iv.bronze.absent
    assert iii.bronze.rows == 37


def test_landing_again_with_the_same_key_finds_its_own_commits(iii: "Hospital") -> None:
    digest = extract_files.digest_of(str(iii.extract), "mimic-iii")
    given = {
        "source": "mimic-iii",
        "dataset": "mimic-iii",
        "path": str(iii.extract),
        "extract_digest": digest,
    }
    assert bronze.run(bronze.Params(**given), iii.settings, "landed") == iii.bronze


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz"])
def test_a_file_that_is_not_all_utf_8_lands_and_only_the_row_concerned_is_marred(
    extract: Callable[..., Path], settings: Settings, suffix: str
) -> None:
    folder = extract(DIAGNOSES_ICD=None)
    header = b"\xef\xbb\xbfROW_ID,SUBJECT_ID,HADM_ID,ICD9_CODE,REMARQU\xc9\r\n"
    content = header + b'501,1,11,4280,Andr\xe9\r\n502,1,11,0389,"Ren\xc3\xa9e\xff,\r\n\xe9t\xe9"\r\n'
    (folder / f"DIAGNOSES_ICD{suffix}").write_bytes(
        gzip.compress(content) if suffix.endswith("gz") else content
    )
    result = land(folder, settings)
    rows = lake.read(settings, result.bronze["diagnoses_icd"]).sort_by("line").to_pylist()
    assert [(row["row_id"], row["icd9_code"], row["remarqu\ufffd"]) for row in rows] == [
        ("501", "4280", "Andr\ufffd"),
        ("502", "0389", "Ren\u00e9e\ufffd,\n\ufffdt\ufffd"),
    ]


def refused(folder: Path, settings: Settings, digest: str = "") -> str:
    with pytest.raises(InputError) as error:
        land(folder, settings, digest)
    assert not (settings.home / "lake").exists()
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_torn_file_is_refused(extract: Callable[..., Path], settings: Settings) -> None:
    folder = extract()
    for torn in ("LABEVENTS.csv.gz", "ICUSTAYS.csv.gz"):
        content = (folder / torn).read_bytes()
        (folder / torn).write_bytes(content[: len(content) - 20])
        assert f"{torn} is torn" in refused(folder, settings)
        (folder / torn).write_bytes(content)


def test_more_columns_than_a_table_can_have_are_refused(
    extract: Callable[..., Path], settings: Settings
) -> None:
    """Ten thousand; as many as there may be are landed."""
    header, row = "ROW_ID,SUBJECT_ID,HADM_ID,ICD9_CODE", "501,1,11,4280"
    more = extract_parts.MAX_COLUMNS - 4
    folder = extract(DIAGNOSES_ICD=f"{header}{',x' * 9_996}\n{row}{',1' * 9_996}")
    assert "DIAGNOSES_ICD.csv.gz has 10,000 columns, and a table at most 2,000" in refused(folder, settings)
    folder = extract(DIAGNOSES_ICD=f"{header}{',x' * more}\n{row}{',1' * more}")
    landed = lake.read(settings, land(folder, settings).bronze["diagnoses_icd"])
    assert landed[f"x_{more}"].to_pylist() == ["1"]


def test_a_renamed_column_is_refused_with_the_nearest_name(
    extract: Callable[..., Path], settings: Settings
) -> None:
    folder = extract(DIAGNOSES_ICD="ROW_ID,SUBJECT_ID,HADM_ID,ICD9CODE\n501,1,11,4280")
    assert "has no column icd9_code (is it now called icd9code?)" in refused(folder, settings)


def test_a_file_without_a_header_is_refused(extract: Callable[..., Path], settings: Settings) -> None:
    assert "is empty" in refused(extract(DIAGNOSES_ICD=""), settings)


def test_a_header_without_rows_is_said_and_refused_where_the_source_requires_the_table(
    extract: Callable[..., Path], settings: Settings
) -> None:
    header = "SUBJECT_ID,GENDER,DOB,DOD"
    assert "PATIENTS" in refused(extract(PATIENTS=header), settings).upper()
    assert "a header and no rows" in refused(extract(PATIENTS=header), settings)
    result = land(extract(DIAGNOSES_ICD="ROW_ID,SUBJECT_ID,HADM_ID,ICD9_CODE"), settings)
    assert result.empty == ("diagnoses_icd",)
    assert "diagnoses_icd" not in result.bronze
    assert "diagnoses_icd" in result.absent
    assert "a header and no rows: diagnoses_icd" in bronze.STAGE.summary(result)


def test_files_that_changed_since_their_digest_are_refused(
    extract: Callable[..., Path], settings: Settings
) -> None:
    assert "changed since its digest was taken" in refused(extract(), settings, digest="of other files")


@pytest.mark.usefixtures("keyboard")
def test_ctrl_c_stops_every_file_and_leaves_nothing_of_them(
    extract: Callable[..., Path], settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, landed = extract(), extract_parts.Part.landed

    def endless(part: extract_parts.Part, columns: list[str]) -> "Iterator[pa.RecordBatch]":
        return (batch for batches in repeat(list(landed(part, columns))) for batch in batches)

    def press_once_it_writes() -> None:
        while not list(settings.home.rglob("*.parquet")):
            sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(extract_parts.Part, "landed", endless)
    threading.Thread(target=press_once_it_writes, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        land(folder, settings)
    assert not list(settings.home.rglob("*.parquet"))
