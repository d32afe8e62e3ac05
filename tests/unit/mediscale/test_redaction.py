"""Rows leave every version of a Delta table and every byte of its folder; killed at any step, it goes on."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake

from mediscale.core.errors import StorageError
from mediscale.core.settings import Settings
from mediscale.storage import lake, redaction

D, T = "hospital", "events"
GONE = 7_919_000_000_007
ROWS = redaction.Rows(
    lambda names: ["subject"] if "subject" in names else [], lambda _, rows: pc.equal(rows["subject"], GONE)
)
KEPT = [("subject", "ascending"), ("value", "ascending")]


def rows(*subjects: int) -> pa.Table:
    return pa.table(
        {
            "subject": pa.array(subjects, pa.int64()),
            "value": pa.array([f"value of {subject}" for subject in subjects]),
            "shard": pa.array([subject % 2 for subject in subjects], pa.int64()),
        }
    )


@pytest.fixture
def uri(settings: Settings) -> str:
    """Appended to, overwritten, appended to again, and with a checkpoint; one file is in no version."""
    uri = settings.table_uri(D, T)
    write_deltalake(uri, rows(1, 2, GONE), partition_by=["shard"])
    write_deltalake(uri, rows(GONE), mode="append", partition_by=["shard"])
    write_deltalake(uri, rows(1, 3, GONE, 4), mode="overwrite", partition_by=["shard"])
    write_deltalake(uri, rows(5, 6), mode="append", partition_by=["shard"])
    DeltaTable(uri).create_checkpoint()
    pq.write_table(rows(GONE, 9).drop_columns(["shard"]), f"{uri}/shard=1/left-behind.parquet")
    return uri


def versions(settings: Settings) -> list[pa.Table]:
    newest = lake.latest(settings, D, T)
    refs = (newest.model_copy(update={"version": v}) for v in range(newest.version + 1))
    return [lake.read(settings, ref).sort_by(KEPT) for ref in refs]


def without(tables: list[pa.Table]) -> list[pa.Table]:
    return [table.filter(pc.not_equal(table["subject"], GONE)) for table in tables]


def bytes_of(uri: str) -> bytes:
    """All files, the Parquet ones as text."""
    text = b""
    for path in sorted(Path(uri).rglob("*")):
        if path.suffix == ".parquet":
            text += json.dumps(pq.read_table(path, partitioning=None).to_pydict(), default=str).encode()
        elif path.is_file():
            text += path.read_bytes()
    return text


def test_every_version_lacks_the_rows_and_no_byte_of_the_folder_has_them(
    settings: Settings, uri: str
) -> None:
    before = versions(settings)
    assert str(GONE).encode() in bytes_of(uri)
    assert redaction.count(settings, D, T, ROWS) == redaction.redact(settings, D, T, ROWS) == 4
    assert versions(settings) == without(before)
    assert str(GONE).encode() not in bytes_of(uri)
    assert redaction.redact(settings, D, T, ROWS) == 0
    write_deltalake(uri, rows(8), mode="append", partition_by=["shard"])
    assert versions(settings)[:-1] == without(before)


def test_files_without_such_rows_are_not_touched(settings: Settings, uri: str) -> None:
    before = {p: p.stat().st_mtime_ns for p in Path(uri).rglob("*.parquet") if "_delta_log" not in p.parts}
    holding = {p for p in before if GONE in pq.read_table(p, partitioning=None)["subject"].to_pylist()}
    redaction.redact(settings, D, T, ROWS)
    assert {p for p in before if p.exists() and p.stat().st_mtime_ns == before[p]} == before.keys() - holding
    assert not any(p.exists() for p in holding)


class Killed(BaseException):
    pass


def test_killed_at_any_step_every_version_can_be_read_and_the_same_call_goes_on(
    settings: Settings, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = versions(settings)
    step = _killed_at(monkeypatch)
    for number in range(1, 100):
        step["left"] = number
        try:
            redaction.redact(settings, D, T, ROWS)
        except Killed:
            step["left"] = -1
            for read, whole, cleared in zip(versions(settings), before, without(before), strict=True):
                assert read.num_rows in range(cleared.num_rows, whole.num_rows + 1)
                assert read.filter(pc.not_equal(read["subject"], GONE)) == cleared
        else:
            break
    assert number > 5, "it was killed a few times"
    assert versions(settings) == without(before)
    assert str(GONE).encode() not in bytes_of(uri)


def _killed_at(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Ends the process, so to say, before that many changes of the folder were made; -1: never."""
    step = {"left": -1}

    def counted(name: str) -> None:
        original: Any = getattr(redaction._Folder, name)

        def changed(self: Any, *arguments: Any) -> Any:
            step["left"] -= 1
            if step["left"] == 0:
                raise Killed
            return original(self, *arguments)

        monkeypatch.setattr(redaction._Folder, name, changed)

    for name in ("create", "move", "delete"):
        counted(name)
    return step


def test_a_file_that_a_killed_writer_left_half_goes_and_one_of_a_version_stops_it(
    settings: Settings, uri: str
) -> None:
    torn = Path(uri) / "shard=0" / "torn.parquet"
    torn.write_bytes(b"PAR1" + str(GONE).encode())
    redaction.redact(settings, D, T, ROWS)
    assert not torn.exists()
    (file, *_) = (
        p for p in Path(uri).glob("shard=*/*.parquet") if p.name in json.dumps(DeltaTable(uri).file_uris())
    )
    file.write_bytes(b"PAR1")
    with pytest.raises(StorageError, match="damaged"):
        redaction.redact(settings, D, T, ROWS)


def test_a_log_without_its_first_commits_is_refused(settings: Settings, uri: str) -> None:
    (Path(uri) / "_delta_log" / f"{0:020}.json").unlink()
    with pytest.raises(StorageError, match="lacks its first commits"):
        redaction.redact(settings, D, T, ROWS)
