"""The lake without a JVM: exactly-once appends, references that can't be mistaken."""

import shutil
from pathlib import Path

import pyarrow as pa
import pytest

from mediscale.core.errors import NotFoundError, StorageError
from mediscale.core.settings import Settings
from mediscale.storage import commits, lake

ROWS = pa.table({"n": [1, 2]})


def append(settings: Settings, sequence: int) -> object:
    return commits.append(settings, "predictions", ROWS, "hospital", "worker-1", sequence)


def test_a_repeated_sequence_is_not_written_again(settings: Settings) -> None:
    assert append(settings, 1) is not None
    assert append(settings, 1) is None
    assert append(settings, 2) is not None
    assert append(settings, 1) is None
    ref = lake.latest(settings, "hospital", "predictions")
    assert lake.read(settings, ref).num_rows == 4


def test_a_reference_reads_its_own_version(settings: Settings) -> None:
    append(settings, 1)
    first = lake.latest(settings, "hospital", "predictions")
    append(settings, 2)
    assert lake.read(settings, first).num_rows == 2


def test_a_table_made_anew_is_another_one(settings: Settings) -> None:
    append(settings, 1)
    stale = lake.latest(settings, "hospital", "predictions")
    shutil.rmtree(settings.table_uri("hospital", "predictions"))
    append(settings, 1)
    with pytest.raises(StorageError, match="made anew"):
        lake.read(settings, stale)


@pytest.mark.parametrize("cut", [0, 1])
def test_a_log_that_was_cut_or_lost_an_entry_is_a_sentence(settings: Settings, cut: int) -> None:
    append(settings, 1)
    append(settings, 2)
    log = sorted(Path(settings.table_uri("hospital", "predictions"), "_delta_log").glob("*.json"))
    with log[cut].open("r+") as entry:
        entry.truncate(100)
    with pytest.raises(StorageError, match="hospital/predictions can't be opened: its Delta log is damaged"):
        lake.latest(settings, "hospital", "predictions")


@pytest.mark.parametrize("longer", [-20, 20])
def test_a_file_that_is_not_as_it_was_written_is_a_sentence(settings: Settings, longer: int) -> None:
    """An auditor who ran `mediscale history` on a changed entry was told of a defect of MediScale."""
    append(settings, 1)
    ref = lake.latest(settings, "hospital", "predictions")
    (file,) = Path(settings.table_uri("hospital", "predictions")).glob("*.parquet")
    content = file.read_bytes()
    file.write_bytes(content[:longer] if longer < 0 else content[:8] + bytes(longer) + content[8:])
    with pytest.raises(StorageError, match="hospital/predictions@v1 can't be read: it was changed or cut"):
        lake.rows(settings, ref)


def test_an_absent_table_says_what_to_do(settings: Settings) -> None:
    with pytest.raises(NotFoundError, match="hospital/events; run the stage"):
        lake.latest(settings, "hospital", "events")
