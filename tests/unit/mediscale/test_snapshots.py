"""Snapshots: a version of a table is opened once, and anew where anything in its log has changed."""

import json
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable, write_deltalake

from mediscale.core.settings import Settings
from mediscale.storage import commits, lake, redaction, snapshots


def append(settings: Settings, sequence: int) -> None:
    rows = pa.table({"n": [sequence]})
    commits.append(settings, "predictions", rows, "hospital", "worker-1", sequence)


def newest(settings: Settings) -> DeltaTable:
    return lake.open_version(settings, lake.latest(settings, "hospital", "predictions"))


def test_a_version_is_opened_once_also_when_others_follow(settings: Settings) -> None:
    append(settings, 1)
    first, ref = newest(settings), lake.latest(settings, "hospital", "predictions")
    append(settings, 2)
    assert lake.open_version(settings, ref) is first
    assert first.version() == ref.version
    second = newest(settings)
    assert second is not first
    assert second.version() == ref.version + 1
    assert newest(settings) is second


def test_a_commit_of_somebody_else_is_seen_at_once(settings: Settings) -> None:
    append(settings, 1)
    before = newest(settings)
    write_deltalake(settings.table_uri("hospital", "predictions"), pa.table({"n": [9]}), mode="append")
    assert newest(settings).version() == before.version() + 1
    assert sorted(
        row["n"] for row in lake.rows(settings, lake.latest(settings, "hospital", "predictions"))
    ) == [1, 9]


def test_who_commits_has_a_handle_of_their_own(settings: Settings) -> None:
    """A commit moves its handle on: a reader of the version before would have read the next one."""
    append(settings, 1)
    before = newest(settings)
    assert lake.open_table(settings, "hospital", "predictions") is not before


def test_a_version_that_an_erasure_rewrote_is_opened_anew(settings: Settings) -> None:
    append(settings, 1)
    append(settings, 2)
    ref = lake.latest(settings, "hospital", "predictions")
    assert lake.read(settings, ref).num_rows == 2
    rows = redaction.Rows(lambda _: ["n"], lambda _, group: pc.equal(group["n"], 1))
    assert redaction.redact(settings, "hospital", "predictions", rows) == 1
    assert lake.read(settings, ref)["n"].to_pylist() == [2]


def test_a_table_made_anew_is_opened_anew(settings: Settings) -> None:
    append(settings, 1)
    before = newest(settings).metadata().id
    shutil.rmtree(settings.table_uri("hospital", "predictions"))
    append(settings, 1)
    assert newest(settings).metadata().id != before


def test_a_version_with_a_checkpoint_is_read_from_it(settings: Settings) -> None:
    """Engines may drop the commits that a checkpoint covers."""
    for sequence in range(1, 4):
        append(settings, sequence)
    table = Path(settings.table_uri("hospital", "predictions"))
    DeltaTable(table).create_checkpoint()
    for commit in sorted((table / "_delta_log").glob("*.json"))[:-1]:
        commit.unlink()
    ref = lake.latest(settings, "hospital", "predictions")
    last = json.loads((table / "_delta_log" / "_last_checkpoint").read_text())["version"]
    assert (ref.version, lake.read(settings, ref).num_rows) == (last, 3)


def test_of_a_long_log_what_came_since_the_checkpoint_is_looked_at(settings: Settings) -> None:
    """A log that is written every half minute has tens of thousands of commits, and each is a file to look at."""
    for sequence in range(1, 6):
        append(settings, sequence)
    table = Path(settings.table_uri("hospital", "predictions"))
    newest_version = lake.latest(settings, "hospital", "predictions").version
    DeltaTable(table, version=newest_version - 1).create_checkpoint()
    log = table / "_delta_log"
    names = {
        version: [file.name for file in snapshots._log_files(log, version)]
        for version in (None, newest_version - 2)
    }
    begin, end = (f"{version:020}" for version in (newest_version - 1, newest_version))
    assert names[None] == [f"{begin}.checkpoint.parquet", f"{begin}.json", f"{end}.json"]
    assert len(names[newest_version - 2]) == newest_version - 1
