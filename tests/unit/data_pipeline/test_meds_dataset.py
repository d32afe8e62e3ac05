"""A dataset of the lake in the MEDS standard: the latest assertion of each event, splits by patient, signed for."""

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds
import pytest
from deltalake import CommitProperties, write_deltalake
from fixtures import lake_patients
from pyarrow import parquet

from data_pipeline import exports, meds_dataset
from data_pipeline.ingest import messages, patient_facts, source
from mediscale.core import caller
from mediscale.core.errors import InputError, NotFoundError
from mediscale.core.settings import Settings
from mediscale.core.splits import assign_split
from mediscale.core.tables import EVENTS
from mediscale.storage import history
from mediscale.storage.history_entries import Export


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A lake of five patients in two shards; a creatinine was known late, corrected, and a heart rate was withdrawn."""
    settings = Settings(home=tmp_path / "home", trust=tmp_path / "trust")
    lines = [lake_patients.row_of(number, line) for number, line in enumerate(lake_patients.EVENT_LINES)]
    creatinine, pulse = lines[5], lines[8]
    corrected = creatinine | {"numeric_value": 1.5, "available_time": lake_patients.hours(50)}
    withdrawn = pulse | {"available_time": lake_patients.hours(60), "retracted": True}
    write_deltalake(
        settings.table_uri("synthetic", "events"),
        pa.Table.from_pylist([*lines, corrected, withdrawn], schema=EVENTS.arrow_schema()),
        partition_by="shard",
        commit_properties=CommitProperties(custom_metadata={"userMetadata": '{"shards": 2}'}),
    )
    return settings


def write(settings: Settings, folder: Path, **given: Any) -> meds_dataset.ExportCounts:
    return meds_dataset.write(settings, "synthetic", folder, by=caller.account(), purpose="research", **given)


def creatinines(folder: Path) -> list[float]:
    table = ds.dataset(folder / "data").to_table(filter=ds.field("code") == "LOINC//2160-0")
    return list(table["numeric_value"].to_pylist())


def test_each_patient_is_in_one_file_of_their_split_by_time(settings: Settings, tmp_path: Path) -> None:
    folder = tmp_path / "meds"
    written = write(settings, folder)
    assert written == (17, 4, 10), "an outpatient's only event was withdrawn"
    seen: dict[int, Path] = {}
    for file in folder.glob("data/*/*.parquet"):
        table = parquet.read_table(file, partitioning=None)
        assert table.schema.equals(meds_dataset.DATA)
        times = list(zip(table["subject_id"].to_pylist(), table["time"].to_pylist(), strict=True))
        assert times == sorted(times)
        for subject in set(table["subject_id"].to_pylist()):
            assert subject not in seen
            assert file.parent.name == assign_split(subject)
            seen[subject] = file
    assert set(seen) == {1, 3, 4, 5}
    splits = parquet.read_table(folder / "metadata" / "subject_splits.parquet").to_pylist()
    assert {row["subject_id"]: row["split"] for row in splits} == {n: f.parent.name for n, f in seen.items()}


def test_it_has_the_latest_assertions_as_of_a_time(settings: Settings, tmp_path: Path) -> None:
    for name, hour, expected in (("early", 29, []), ("late", 31, [3.5]), ("corrected", 50, [1.5])):
        write(settings, tmp_path / name, as_of=lake_patients.hours(hour))
        assert creatinines(tmp_path / name) == expected
    about = json.loads((tmp_path / "late" / "metadata" / "dataset.json").read_text())
    assert about["dataset_version"].endswith("as of 2150-03-02T15:00:00")
    assert datetime.fromisoformat(about["created_at"])


def test_codes_say_what_they_are(settings: Settings, tmp_path: Path) -> None:
    write(settings, tmp_path / "meds")
    codes = {
        row["code"]: row
        for row in parquet.read_table(tmp_path / "meds" / "metadata" / "codes.parquet").to_pylist()
    }
    assert codes["LOINC//8867-4"] == {
        "code": "LOINC//8867-4", "description": "heart_rate, /min", "parent_codes": ["LOINC/8867-4"]
    }  # fmt: skip
    assert codes["MEDS_BIRTH"]["parent_codes"] == []


def test_the_history_says_who_took_it_before_it_is_there(settings: Settings, tmp_path: Path) -> None:
    folder = tmp_path / "meds"
    written = write(settings, folder)
    (entry,) = history.entries(settings, "synthetic")
    export = entry.content
    assert isinstance(export, Export)
    assert (entry.actor, export.rows, export.purpose) == (caller.account(), written.rows, "research")
    assert export.digest == exports.digest(folder)
    with pytest.raises(InputError, match="is there already; name a folder that is not"):
        write(settings, folder)
    with pytest.raises(NotFoundError):
        meds_dataset.write(settings, "nobody", tmp_path / "x", by=caller.account(), purpose="research")
    assert len(history.entries(settings, "synthetic")) == 1


def test_our_own_source_reads_its_columns(settings: Settings, tmp_path: Path) -> None:
    """What is written is a dataset of the shipped source meds, with the times at which it was known."""
    write(settings, tmp_path / "meds")
    table = source.load("meds").tables["data"]
    written = set(meds_dataset.DATA.names)
    for column, headers in table.headers.items():
        assert written & set(headers), column


@pytest.mark.parametrize(("identities", "repeated"), [((None, None), 1), (("7", "8"), 0), (("7", "7"), 1)])
def test_equal_rows_are_one_event_unless_each_has_an_identity(
    tmp_path: Path, identities: tuple[str | None, ...], repeated: int
) -> None:
    """Two doses at one moment, as our own lake exports them."""
    meds = source.load("meds")
    visit: dict[str, str | None] = {
        "patient": "1",
        "visit": "11",
        "at": "2026-01-01 08:00:00",
        "file": "data/train/0.parquet",
    }
    dose = {"coded": "DRUG//HEPARIN", "amount": "5000"}
    rows = [
        visit | {"coded": "HOSPITAL_ADMISSION//URGENT"},
        *(visit | dose | {"own_id": n} for n in identities),
    ]
    data = pa.Table.from_pylist(
        [row | {"line": line} for line, row in enumerate(rows)], schema=messages.schema(meds.tables["data"])
    )
    judged = patient_facts.judge(Settings(home=tmp_path), meds, {"data": data}, "meds")
    assert (
        sorted(map(str, judged["broken"].to_pylist()))
        == ["None"] * (3 - repeated) + ["not_repeated"] * repeated
    )
