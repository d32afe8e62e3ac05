import asyncio
import os
import shutil
import sqlite3
import time
from contextlib import closing
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from mediscale.core.errors import BusyError, MediscaleError, StorageError
from mediscale.core.settings import Settings
from mediscale.core.tables import PREDICTIONS
from mediscale.storage import commits, lake, registry
from serving.log import log_file
from serving.log.logged_answers import Prediction, Requester
from serving.log.prediction_log import PredictionLog, flush_orphaned_logs, unflushed

DATASET = "synthetic"
REQUESTER = Requester("ward-7 (key 1a2b3c4d)", "treatment")


def prediction(name: str, **known: object) -> Prediction:
    return Prediction(
        prediction_id=name,
        predicted_at=datetime(2026, 11, 22, 7, 30, 0, 123456),
        task="mortality",
        model="synthetic-mortality",
        model_version=3,
        risk=0.25,
        features=np.array([1.5, np.nan, -3.0]),
        **known,  # type: ignore[arg-type]
    )


def delta_rows(settings: Settings) -> list[dict[str, object]]:
    ref = lake.latest(settings, DATASET, "predictions")
    return lake.read(settings, ref).sort_by([("worker", "ascending"), ("sequence", "ascending")]).to_pylist()


def file_of(settings: Settings) -> Path:
    return settings.home / "serving" / DATASET / "0.sqlite"


def test_a_logged_prediction_reaches_delta_with_every_column(settings: Settings) -> None:
    log = PredictionLog(settings, DATASET)
    known = {"subject_id": 7, "prediction_time": datetime(2150, 1, 2, 3), "events_version": 5}
    asyncio.run(log.append([prediction("a"), prediction("b", **known)], REQUESTER))
    assert log.backlog == 2
    assert log.flush() == 2
    assert log.flush() == log.backlog == 0
    log.close()
    first, second = delta_rows(settings)
    assert set(first) == set(PREDICTIONS.column_names)
    assert first["worker"] == log.worker
    assert (first["prediction_id"], first["sequence"], first["subject_id"]) == ("a", 2, None)
    assert first["predicted_at"] == datetime(2026, 11, 22, 7, 30, 0, 123456)
    assert np.array_equal(np.array(first["features"]), [1.5, np.nan, -3.0], equal_nan=True)
    assert {name: second[name] for name in known} == known


def test_waiting_requests_share_transactions(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serving.log.log_file.LOCK_SECONDS", 120)
    log = PredictionLog(settings, DATASET)
    statements: list[str] = []
    log.file.connection.set_trace_callback(statements.append)

    async def ask(number: int) -> None:
        await log.append([prediction(f"p{number}")], REQUESTER)
        with closing(sqlite3.connect(file_of(settings))) as other:  # durable, so another connection sees it
            found = other.execute("SELECT 1 FROM predictions WHERE prediction_id = ?", (f"p{number}",))
            assert found.fetchone()

    async def ask_together() -> None:
        with closing(sqlite3.connect(file_of(settings))) as other:
            other.execute("BEGIN IMMEDIATE")  # the writer waits, requests queue up behind it
            asking = [asyncio.create_task(ask(number)) for number in range(300)]
            await asyncio.sleep(0.3)
            assert not any(task.done() for task in asking)
            other.execute("ROLLBACK")
            await asyncio.gather(*asking)

    asyncio.run(ask_together())
    assert statements.count("COMMIT") <= 3
    assert log.flush() == 300
    log.close()
    sequences = [row["sequence"] for row in delta_rows(settings)]
    assert sequences == list(range(2, 302))


def test_a_locked_file_fails_the_request_and_the_next_one_succeeds(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serving.log.log_file.LOCK_SECONDS", 0.1)
    log = PredictionLog(settings, DATASET)
    with closing(sqlite3.connect(file_of(settings))) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(BusyError, match="locked"):
            asyncio.run(log.append([prediction("a")], REQUESTER))
    asyncio.run(log.append([prediction("b")], REQUESTER))
    assert log.backlog == 1
    log.close()


def test_a_full_file_fails_the_request_and_keeps_what_it_had(settings: Settings) -> None:
    log = PredictionLog(settings, DATASET)
    asyncio.run(log.append([prediction("a")], REQUESTER))
    # SQLite's own limit: it answers as on a full disk
    log.file.connection.execute("PRAGMA max_page_count = 1")
    big = Prediction("big", datetime(2026, 1, 1), "mortality", "m", 1, 0.5, np.zeros(100_000))
    with pytest.raises(StorageError, match="is full"):
        asyncio.run(log.append([big], REQUESTER))
    log.file.connection.execute("PRAGMA max_page_count = 1000000")
    asyncio.run(log.append([prediction("b")], REQUESTER))
    assert log.flush() == 2
    log.close()


def test_two_workers_have_two_names_and_a_restarted_one_keeps_its_own(settings: Settings) -> None:
    first, second = PredictionLog(settings, DATASET), PredictionLog(settings, DATASET)
    names = (first.worker, second.worker)
    first.close()
    again = PredictionLog(settings, DATASET)
    assert names[0] != names[1]
    assert again.worker == names[0]
    again.close()
    second.close()


def test_numbers_go_on_after_what_delta_holds_when_an_old_file_comes_back(settings: Settings) -> None:
    log = PredictionLog(settings, DATASET)
    log.close()
    old = file_of(settings).read_bytes()
    for name in ("a", "b"):
        log = PredictionLog(settings, DATASET)
        asyncio.run(log.append([prediction(name)], REQUESTER))
        log.flush()
        log.close()
    file_of(settings).write_bytes(old)
    log = PredictionLog(settings, DATASET)
    asyncio.run(log.append([prediction("c")], REQUESTER))
    assert log.flush() == 1
    log.close()
    assert [row["prediction_id"] for row in delta_rows(settings)] == ["a", "b", "c"]


def test_a_named_log_gives_the_same_numbers_again_and_no_id_twice(settings: Settings) -> None:
    ids = []
    for _ in range(2):
        log = PredictionLog(settings, DATASET, worker="rehearsal")
        for _ in range(2):
            ids.append(log.next_id())
            asyncio.run(log.append([prediction(ids[-1]), prediction(ids[-1])], REQUESTER))
        log.close()
    assert ids == ["rehearsal-0-1-1", "rehearsal-0-1-2", "rehearsal-0-6-1", "rehearsal-0-6-2"]


def test_no_id_is_issued_twice_though_appends_failed_and_the_server_was_restarted(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serving.log.log_file.LOCK_SECONDS", 0.1)
    ids = []
    for works in (False, True, True):
        log = PredictionLog(settings, DATASET, worker="rehearsal")
        with closing(sqlite3.connect(file_of(settings))) as other:
            other.execute("BEGIN IMMEDIATE")
            for _ in range(3):
                ids.append(log.next_id())
                with pytest.raises(BusyError):
                    asyncio.run(log.append([prediction(ids[-1])], REQUESTER))
        if works:
            ids.append(log.next_id())
            asyncio.run(log.append([prediction(ids[-1])], REQUESTER))
        log.close()
    assert len(ids) == len(set(ids)) == 11


def test_two_logs_of_one_name_lose_nothing_to_each_other(settings: Settings) -> None:
    logs = [PredictionLog(settings, DATASET, worker="replay") for _ in range(2)]
    assert [log.worker for log in logs] == ["replay-0", "replay-1"]
    for log in logs:
        asyncio.run(log.append([prediction(log.next_id()), prediction(log.next_id())], REQUESTER))
    assert [log.flush() for log in logs] == [2, 2]
    for log in logs:
        log.close()
    assert len({row["prediction_id"] for row in delta_rows(settings)}) == 4


def append(log: PredictionLog, *names: str) -> None:
    asyncio.run(log.append([prediction(name) for name in names], REQUESTER))


def logged(settings: Settings) -> list[str]:
    return [str(row["prediction_id"]) for row in delta_rows(settings)]


def test_a_log_that_can_not_be_read_says_so(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    log = PredictionLog(settings, DATASET)
    monkeypatch.setattr("serving.log.log_file.connect", lambda _path: sqlite3.connect(":memory:"))
    with pytest.raises(StorageError, match="prediction log"):
        log.flush()
    log.close()


@pytest.mark.parametrize("garbage", [b"garbage", b"SQLite format 3\0" + b"x" * 4096])
def test_a_damaged_file_is_said_and_keeps_no_other_from_the_lake(settings: Settings, garbage: bytes) -> None:
    logs = [PredictionLog(settings, DATASET) for _ in range(3)]
    for log, name in zip(logs, "abc", strict=True):
        append(log, name)
    for log in logs:
        log.close()
    file_of(settings).write_bytes(garbage)
    with pytest.raises(StorageError, match="is damaged") as refused:
        flush_orphaned_logs(settings, DATASET)
    assert sorted(logged(settings)) == ["b", "c"]
    with pytest.raises(StorageError) as at_start:
        PredictionLog(settings, DATASET)
    assert str(at_start.value) == str(refused.value)
    file_of(settings).rename(settings.home / "damaged")
    again = PredictionLog(settings, DATASET)
    append(again, "d")
    again.close()
    assert flush_orphaned_logs(settings, DATASET) == 1


REMOVED = {
    "all of it": ("0.sqlite", "0.sqlite-wal", "0.sqlite-shm"),
    "the file": ("0.sqlite",),
    "its newest rows": ("0.sqlite-wal",),
    "its newest rows and their index": ("0.sqlite-wal", "0.sqlite-shm"),
}


@pytest.mark.parametrize("removed", REMOVED.values(), ids=REMOVED)
@pytest.mark.parametrize("noticed_by", ["an answer", "the check", "the end"])
def test_a_log_file_removed_under_the_server_loses_no_answer(
    settings: Settings, caplog: pytest.LogCaptureFixture, removed: tuple[str, ...], noticed_by: str
) -> None:
    log = PredictionLog(settings, DATASET)
    append(log, "a", "b")
    assert log.flush() == 2
    append(log, "c", "d")
    for name in removed:
        (file_of(settings).parent / name).unlink()
    if noticed_by == "an answer":
        append(log, "e")
    elif noticed_by == "the check":
        log.check()
    log.close()
    assert "was removed while it was open" in caplog.text
    again = PredictionLog(settings, DATASET)
    assert again.worker == log.worker
    assert again.backlog == (3 if noticed_by == "an answer" else 2)
    append(again, "f")
    again.flush()
    again.close()
    assert logged(settings) == ["a", "b", "c", "d", *(["e"] if noticed_by == "an answer" else []), "f"]


@pytest.mark.parametrize("removed", REMOVED.values(), ids=REMOVED)
def test_a_removal_is_noticed_in_a_folder_that_had_not_changed_for_long(
    settings: Settings, removed: tuple[str, ...]
) -> None:
    log = PredictionLog(settings, DATASET)
    folder = file_of(settings).parent
    os.utime(folder, (10**9, 10**9))
    append(log, "a")
    append(log, "b")
    for name in removed:
        (folder / name).unlink()
    os.utime(folder, (10**9 + 1, 10**9 + 1))  # it was long ago when the next answer is logged
    append(log, "c")
    append(log, "d")
    log.close()
    again = PredictionLog(settings, DATASET)
    assert again.backlog == 4
    again.close()


def test_a_folder_removed_under_the_server_loses_no_answer(settings: Settings) -> None:
    log = PredictionLog(settings, DATASET)
    append(log, "a")
    shutil.rmtree(file_of(settings).parent)
    append(log, "b")
    assert log.flush() == 2
    log.close()
    assert logged(settings) == ["a", "b"]


def test_a_file_that_can_not_be_made_again_refuses_answers_and_keeps_the_rows(settings: Settings) -> None:
    log = PredictionLog(settings, DATASET)
    append(log, "a")
    folder = file_of(settings).parent
    shutil.rmtree(folder)
    folder.write_text("a file where the folder was")
    for name in ("b", "c"):
        with pytest.raises(StorageError, match="prediction log"):
            append(log, name)
    folder.unlink()
    log.check()
    append(log, "d")
    assert log.flush() >= 2
    log.close()
    assert {"a", "d"} <= set(logged(settings))


def test_another_log_in_the_file_s_place_is_not_written_to(settings: Settings, tmp_path: Path) -> None:
    other = PredictionLog(Settings(home=tmp_path / "other"), DATASET)
    other.close()
    log = PredictionLog(settings, DATASET)
    append(log, "a")
    file_of(settings).unlink()
    shutil.copy(file_of(Settings(home=tmp_path / "other")), file_of(settings))
    with pytest.raises(StorageError, match="replaced by another log"):
        append(log, "b")
    file_of(settings).rename(file_of(settings).with_name("7.sqlite"))
    append(log, "c")
    assert log.flush() >= 2
    log.close()
    assert {"a", "c"} <= set(logged(settings))


def unmount(settings: Settings) -> Path:
    """What is seen at the lake's path when its file system is not mounted: an empty folder."""
    lake_, away = Path(settings.lake), Path(settings.lake).with_name("away")
    lake_.rename(away)
    lake_.mkdir()
    return away


def mount(settings: Settings, away: Path) -> None:
    shutil.rmtree(settings.lake)
    away.rename(settings.lake)


def test_predictions_wait_for_a_lake_that_is_not_mounted(settings: Settings) -> None:
    log = PredictionLog(settings, DATASET)
    append(log, "a")
    log.flush()
    away = unmount(settings)
    append(log, "b")
    with pytest.raises(StorageError, match=r"lacks the table synthetic/predictions.*is it mounted"):
        log.flush()
    log.close()
    restarted = PredictionLog(settings, DATASET)
    append(restarted, "c")
    with pytest.raises(StorageError, match="is it mounted"):
        restarted.flush()
    assert list(Path(settings.lake).iterdir()) == []
    mount(settings, away)
    assert restarted.flush() == 2
    restarted.close()
    assert logged(settings) == ["a", "b", "c"]


def test_the_first_predictions_wait_for_the_lake_of_the_history(settings: Settings, promote: Any) -> None:
    promote("mortality")
    assert registry.history(settings, DATASET)
    log = PredictionLog(settings, DATASET)
    append(log, "a")
    away = unmount(settings)
    with pytest.raises(StorageError, match="lacks the table synthetic/history"):
        log.flush()
    mount(settings, away)
    assert log.flush() == 1
    log.close()


def test_predictions_do_not_go_into_another_lake(settings: Settings, tmp_path: Path) -> None:
    other = Settings(home=tmp_path / "other", lake=str(Path(settings.lake).with_name("other")))
    for owner in (settings, other):
        log = PredictionLog(owner, DATASET)
        append(log, "a")
        log.flush()
        log.close()
    log = PredictionLog(settings, DATASET)
    append(log, "b")
    away = Path(settings.lake).with_name("away")
    Path(settings.lake).rename(away)
    Path(other.lake).rename(settings.lake)
    with pytest.raises(StorageError, match="is another than the one that was there before"):
        log.flush()
    assert log.backlog == 1
    mount(settings, away)
    log.flush()
    log.close()
    assert logged(settings) == ["a", "b"]


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_lake_that_goes_away_during_a_flush_loses_no_answer(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    log = PredictionLog(settings, DATASET)
    append(log, "a")
    log.flush()
    append(log, "b")
    really, away = commits.append, []

    def append_and_unmount(*args: Any, **kwargs: Any) -> Any:
        if moment == "before":
            away.append(unmount(settings))
        committed = really(*args, **kwargs)
        if moment == "after":
            away.append(unmount(settings))
        return committed

    with monkeypatch.context() as during:
        during.setattr(commits, "append", append_and_unmount)
        with pytest.raises(MediscaleError, match=r"lake|table"):
            log.flush()
    assert log.backlog == 1
    mount(settings, away[0])
    log.flush()
    assert log.backlog == 0
    log.close()
    assert logged(settings) == ["a", "b"]


def test_what_is_logged_during_a_flush_waits_for_the_next_one(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = PredictionLog(settings, DATASET)
    append(log, "a")
    really, later = commits.append, iter("bc")

    def append_and_answer(*args: Any, **kwargs: Any) -> Any:
        append(log, next(later))
        return really(*args, **kwargs)

    with monkeypatch.context() as busy:
        busy.setattr(commits, "append", append_and_answer)
        assert log.flush() == 1
        assert log.flush() == 1
    assert log.flush() == 1
    log.close()
    assert logged(settings) == ["a", "b", "c"]


def test_a_nearly_full_disk_refuses_answers_while_the_rows_can_still_be_moved(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = PredictionLog(settings, DATASET)
    append(log, "a")
    with monkeypatch.context() as full:
        full.setattr("serving.log.log_file.FREE_BYTES", 2**62)
        for work in (lambda: append(log, "b"), log.check):
            with pytest.raises(StorageError, match=r"The disk of the prediction log .* is full"):
                work()
        assert log.flush() == 1
    log.check()
    append(log, "c")
    log.flush()
    log.close()
    assert logged(settings) == ["a", "c"]


def test_the_file_shrinks_when_its_rows_are_in_the_lake(settings: Settings) -> None:
    log = PredictionLog(settings, DATASET)
    append(log, "a")
    log.flush()
    empty = room(settings)
    append(log, *map(str, range(5000)))
    assert room(settings) > 5 * empty
    log.flush()
    assert room(settings) < 2 * empty
    log.close()


def test_answers_are_logged_while_moved_ones_are_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = tuple(None if name != "features" else b"\0" * 2000 for name in log_file.COLUMNS[1:])
    file, pauses = log_file.LogFile(tmp_path / "0.sqlite"), []

    def log_another(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) <= 4:
            file.commit([row])  # refused where the deletion held the file

    file.commit([row] * 7)
    monkeypatch.setattr(log_file, "PIECE", 2)
    monkeypatch.setattr(log_file, "time", SimpleNamespace(sleep=log_another, time_ns=time.time_ns))
    assert log_file.delete(file.path, file.worker, 7) == 7
    assert len(pauses) > 4
    assert file.count() == 4
    assert [sequence for sequence, *_ in log_file.oldest(file.path, -1)[1]] == [8, 9, 10, 11]


def room(settings: Settings) -> int:
    return sum(file.stat().st_size for file in file_of(settings).parent.glob("0.sqlite*"))


def test_a_log_that_an_older_release_began_goes_on_and_loses_nothing(settings: Settings) -> None:
    log = PredictionLog(settings, DATASET)
    asyncio.run(log.append([prediction("old")], REQUESTER))
    log.close()
    with closing(sqlite3.connect(file_of(settings))) as file:
        for column in ("note_margin", "asked_by", "purpose"):
            file.execute(f"ALTER TABLE predictions DROP COLUMN {column}")
        file.commit()
    log = PredictionLog(settings, DATASET)
    asyncio.run(log.append([prediction("new")], REQUESTER))
    waiting = [row for part in unflushed(settings, DATASET) for row in part.to_pylist()]
    assert log.flush() == 2
    log.close()
    for rows in (waiting, delta_rows(settings)):
        said = [(row["prediction_id"], row["asked_by"], row["purpose"]) for row in rows]
        assert said == [("old", None, None), ("new", *REQUESTER)]


def test_a_log_in_a_home_that_can_only_be_read_asks_for_a_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite opens no file with a write-ahead log there, as on a copy that an auditor mounted."""
    error = sqlite3.OperationalError("unable to open database file")
    error.sqlite_errorcode = sqlite3.SQLITE_CANTOPEN
    file = tmp_path / "0.sqlite"
    assert "is gone or can't be opened" in str(log_file.readable(error, file))
    file.touch()
    assert "is gone or can't be opened" in str(log_file.readable(error, file)), (
        "of a process without descriptors"
    )
    monkeypatch.setattr("os.access", lambda path, _mode: path != tmp_path)
    assert str(log_file.readable(error, file)).endswith("copy the home and let MEDISCALE_HOME name the copy.")
