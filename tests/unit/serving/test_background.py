"""Work in the background: rounds of one kind wait for none of another, and one that fails is tried again."""

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from fastapi.testclient import TestClient

from mediscale.core.settings import Settings
from serving import app
from serving.app import create_app
from serving.log.prediction_log import PredictionLog
from serving.risk.models import Predictors

LAKE = (
    "follow_language", "follow_lake", "flush_orphaned_logs", "check_log", "check_files", "check_certificate",
    "check_language", "flush",
)  # fmt: skip
"""What may hang while a lake does, as a network's file system does."""


@pytest.fixture
def server(settings: Settings, promote: Any, monkeypatch: pytest.MonkeyPatch) -> TestClient:
    for seconds in ("POLL_SECONDS", "FILES_SECONDS", "FLUSH_SECONDS", "LAKE_SECONDS"):
        monkeypatch.setattr(app, seconds, 0.05)
    promote("mortality")
    predictors = Predictors(settings, "synthetic", "production")
    return TestClient(create_app(settings, predictors, PredictionLog(settings, "synthetic")))


def eventually(holds: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 20
    while not holds() and time.monotonic() < deadline:
        time.sleep(0.02)
    return holds()


def test_a_lake_that_hangs_keeps_no_revoked_key_valid(
    server: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    service: Any = server.app.state.service  # type: ignore[attr-defined]
    released, hanging, rounds = threading.Event(), set[str](), []

    def hang(name: str) -> Callable[[], None]:
        def work() -> None:
            hanging.add(name)
            released.wait(60)

        return work

    for name in LAKE:
        monkeypatch.setattr(service, name, hang(name))
    monkeypatch.setattr(service, "check_keys", lambda: rounds.append(time.monotonic()))
    with server:
        try:
            assert eventually(lambda: hanging == set(LAKE))
            before = len(rounds)
            assert eventually(lambda: len(rounds) > before + 2)
        finally:
            released.set()


def test_numbers_that_cannot_be_set_are_a_problem_and_the_history_is_followed_on(
    server: TestClient, promote: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    service: Any = server.app.state.service  # type: ignore[attr-defined]

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(service, "_show", full)
    with server as client:
        assert eventually(lambda: "The numbers in /metrics" in client.get("/health").text)
        promote("mortality", 2)
        assert eventually(lambda: client.get("/health").json()["models"][0]["version"] == 2)
