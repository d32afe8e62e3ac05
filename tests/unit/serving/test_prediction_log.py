import asyncio
import sqlite3
from contextlib import closing
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest

from mediscale.core.errors import BusyError, StorageError
from mediscale.core.settings import Settings
from mediscale.core.tables import PREDICTIONS
from mediscale.storage import lake
from serving.prediction_log import Prediction, PredictionLog

DATASET = "synthetic"


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
    asyncio.run(log.append([prediction("a"), prediction("b", **known)]))
    assert log.backlog() == 2
    assert log.flush() == 2
    assert log.backlog() == log.flush() == 0
    log.close()
    first, second = delta_rows(settings)
    assert set(first) == set(PREDICTIONS.column_names)
    assert first["worker"] == log.worker
    assert (first["prediction_id"], first["sequence"], first["subject_id"]) == ("a", 2, None)
    assert first["predicted_at"] == datetime(2026, 11, 22, 7, 30, 0, 123456)
    assert np.array_equal(np.array(first["features"]), [1.5, np.nan, -3.0], equal_nan=True)
    assert {name: second[name] for name in known} == known


def test_waiting_requests_share_transactions(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serving.prediction_log.LOCK_SECONDS", 120)
    log = PredictionLog(settings, DATASET)
    statements: list[str] = []
    log.connection.set_trace_callback(statements.append)

    async def ask(number: int) -> None:
        await log.append([prediction(f"p{number}")])
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
    monkeypatch.setattr("serving.prediction_log.LOCK_SECONDS", 0.1)
    log = PredictionLog(settings, DATASET)
    with closing(sqlite3.connect(file_of(settings))) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(BusyError, match="locked"):
            asyncio.run(log.append([prediction("a")]))
    asyncio.run(log.append([prediction("b")]))
    assert log.backlog() == 1
    log.close()


def test_a_full_file_fails_the_request_and_keeps_what_it_had(settings: Settings) -> None:
    log = PredictionLog(settings, DATASET)
    asyncio.run(log.append([prediction("a")]))
    log.connection.execute("PRAGMA max_page_count = 1")  # SQLite's own limit: it answers as on a full disk
    big = Prediction("big", datetime(2026, 1, 1), "mortality", "m", 1, 0.5, np.zeros(100_000))
    with pytest.raises(StorageError, match="disk full"):
        asyncio.run(log.append([big]))
    log.connection.execute("PRAGMA max_page_count = 1000000")
    asyncio.run(log.append([prediction("b")]))
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
        asyncio.run(log.append([prediction(name)]))
        log.flush()
        log.close()
    file_of(settings).write_bytes(old)
    log = PredictionLog(settings, DATASET)
    asyncio.run(log.append([prediction("c")]))
    assert log.flush() == 1
    log.close()
    assert [row["prediction_id"] for row in delta_rows(settings)] == ["a", "b", "c"]


def test_a_named_log_gives_the_same_numbers_again_and_no_id_twice(settings: Settings) -> None:
    ids = []
    for _ in range(2):
        log = PredictionLog(settings, DATASET, worker="rehearsal")
        for _ in range(2):
            ids.append(log.next_id())
            asyncio.run(log.append([prediction(ids[-1]), prediction(ids[-1])]))
        log.close()
    assert ids == ["rehearsal-0-1-1", "rehearsal-0-1-2", "rehearsal-0-6-1", "rehearsal-0-6-2"]


def test_no_id_is_issued_twice_though_appends_failed_and_the_server_was_restarted(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serving.prediction_log.LOCK_SECONDS", 0.1)
    ids = []
    for works in (False, True, True):
        log = PredictionLog(settings, DATASET, worker="rehearsal")
        with closing(sqlite3.connect(file_of(settings))) as other:
            other.execute("BEGIN IMMEDIATE")
            for _ in range(3):
                ids.append(log.next_id())
                with pytest.raises(BusyError):
                    asyncio.run(log.append([prediction(ids[-1])]))
        if works:
            ids.append(log.next_id())
            asyncio.run(log.append([prediction(ids[-1])]))
        log.close()
    assert len(ids) == len(set(ids)) == 11


def test_two_logs_of_one_name_lose_nothing_to_each_other(settings: Settings) -> None:
    logs = [PredictionLog(settings, DATASET, worker="replay") for _ in range(2)]
    assert [log.worker for log in logs] == ["replay-0", "replay-1"]
    for log in logs:
        asyncio.run(log.append([prediction(log.next_id()), prediction(log.next_id())]))
    assert [log.flush() for log in logs] == [2, 2]
    for log in logs:
        log.close()
    assert len({row["prediction_id"] for row in delta_rows(settings)}) == 4


def test_a_log_that_can_not_be_read_says_so(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    log = PredictionLog(settings, DATASET)
    monkeypatch.setattr("serving.prediction_log.connect", lambda _path: sqlite3.connect(":memory:"))
    with pytest.raises(StorageError, match="prediction log"):
        log.backlog()
    log.close()
