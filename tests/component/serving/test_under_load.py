"""Costly requests of a few clients are not everybody's wait (figures: benchmarks/server_under_load.py)."""

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fixtures.promoted_models import promoter
from fixtures.server_process import Server

from benchmarks import server_under_load as load
from mediscale.core.settings import Settings

MOST = 10
"""Times the idle p99, or times five milliseconds where that is less: this machine has other work. What is done on the
event loop instead of in the pool of the notes shows as hundreds."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, trained: Any, reading: Path) -> Iterator[Server]:
    settings = Settings(home=tmp_path_factory.mktemp("load") / "home")
    promoter(settings, trained)("mortality", 7, folder=reading)
    process = Server(settings)
    load.warm(process.port)
    yield process
    process.end(signal.SIGKILL)


@pytest.mark.parametrize("body", ["notes of a megabyte", "a megabyte of nesting"])
def test_health_and_two_values_are_answered_as_quickly_as_before(
    server: Server, tmp_path: Path, body: str
) -> None:
    """Measured up to three times: another process takes a core for some tenths of a second, the event loop always."""
    quick, rounds = {"/health": True, "/predict": True}, []
    for _ in range(3):
        measured = load.compared(server.port, load.BODIES[body], tmp_path, seconds=1.5)
        rounds.append(measured)
        if {name: loaded / max(idle, 5) < MOST for name, (loaded, idle) in measured.items()} == quick:
            return
    pytest.fail(f"p99 under load and idle, in ms: {rounds}")
