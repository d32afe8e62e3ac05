"""Two workers under load: told to end, they fail no request; one that is killed leaves no gap."""

import itertools
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from fixtures.server_process import Server, Start

from mediscale.core.settings import Settings
from mediscale.storage import lake

REFUSED = "refused"
"""The listener is closed: whoever is told so can ask elsewhere, and nothing was begun."""


class Load:
    """Clients that ask one after another, on new connections or on kept ones, until the server is gone."""

    def __init__(self, server: Server, clients: int, kept: bool) -> None:
        self.url, self.kept = f"http://{server.host}:{server.port}/predict", kept
        self.outcomes: list[tuple[float, str]] = []
        self.ended = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(clients)]
        for thread in self._threads:
            thread.start()

    def _ask(self) -> None:
        limits = httpx.Limits(max_keepalive_connections=None if self.kept else 0)
        with httpx.Client(timeout=30, limits=limits) as client:
            while not self.ended.is_set():
                try:
                    response = client.post(self.url, json={"age": 67})
                    outcome = response.json()["prediction_id"] if response.status_code == 200 else "failed"
                except httpx.ConnectError:
                    outcome = REFUSED
                except httpx.TransportError as error:
                    outcome = f"failed: {type(error).__name__}"
                self.outcomes.append((time.monotonic(), outcome))
                time.sleep(0.005)

    def end(self) -> list[str]:
        self.ended.set()
        for thread in self._threads:
            thread.join()
        return [outcome for _, outcome in self.outcomes]


def workers_of(server: Server) -> list[int]:
    pid = server.process.pid
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in children if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()]


def shared_numbers(worker: int) -> Path:
    """The folder through which workers share their numbers."""
    around = Path(f"/proc/{worker}/environ").read_text().split("\0")
    return Path(
        next(each.partition("=")[2] for each in around if each.startswith("PROMETHEUS_MULTIPROC_DIR="))
    )


def live_gauges(folder: Path, worker: int) -> list[Path]:
    return [*folder.glob(f"gauge_live*_{worker}.db")]


def both_ready(server: Server) -> None:
    server.ask(age=67)
    deadline = time.monotonic() + 60
    while len(list_of_slots(server)) < 2 and time.monotonic() < deadline:
        time.sleep(0.1)


def list_of_slots(server: Server) -> list[Path]:
    return list((server.home / "serving" / "synthetic").glob("*.sqlite"))


@pytest.mark.parametrize("kept", [False, True], ids=["new connections", "kept connections"])
def test_told_to_end_under_load_no_request_fails(
    settings: Settings, promote: Any, start: Start, kept: bool
) -> None:
    promote("mortality")
    server = start(workers=2)
    both_ready(server)
    load = Load(server, 6, kept)
    time.sleep(1)
    os.kill(server.process.pid, signal.SIGTERM)
    address, deadline = f"http://{server.host}:{server.port}", time.monotonic() + 10
    while (ready := httpx.get(f"{address}/ready").status_code) == 200 and time.monotonic() < deadline:
        time.sleep(0.02)
    assert (ready, httpx.get(f"{address}/live").status_code) == (503, 200)
    server.process.wait(60)
    outcomes = load.end()
    assert [outcome for outcome in outcomes if outcome.startswith("failed")] == []
    answered = [outcome for outcome in outcomes if outcome != REFUSED]
    assert len(answered) > 100
    logged = lake.read(settings, lake.latest(settings, "synthetic", "predictions"), ["prediction_id"])
    assert set(answered) <= set(logged["prediction_id"].to_pylist())


def test_a_killed_worker_leaves_no_gap(promote: Any, start: Start) -> None:
    promote("mortality")
    server = start(workers=2)
    both_ready(server)
    load = Load(server, 4, kept=False)
    time.sleep(1)
    killed, killed_at = workers_of(server)[0], time.monotonic()
    numbers = shared_numbers(killed)
    assert live_gauges(numbers, killed)
    os.kill(killed, signal.SIGKILL)
    deadline = time.monotonic() + 60
    while (killed in workers_of(server) or len(workers_of(server)) < 2) and time.monotonic() < deadline:
        time.sleep(0.1)
    whole_again = time.monotonic()
    time.sleep(3)
    load.end()
    times = sorted(moment for moment, outcome in load.outcomes if not outcome.startswith("failed"))
    gaps = [(before, after - before) for before, after in itertools.pairwise(times)]
    busy = max(gap for at, gap in gaps if at < killed_at - 1 or at > whole_again)
    assert max(gap for _, gap in gaps) < 2 + busy, (
        "beyond what the machine itself stalled with both workers there"
    )
    # what the killed one had in hand
    assert sum(outcome.startswith("failed") for _, outcome in load.outcomes) <= 4
    assert len(workers_of(server)) == 2
    assert killed not in workers_of(server)
    assert live_gauges(numbers, killed) == [], "what it last said of itself is no longer so"
    assert any(
        f"WARNING mediscale.serving: Worker process {killed} was killed" in line for line in server.lines
    )


def test_a_worker_that_stands_still_for_some_seconds_is_not_killed(promote: Any, start: Start) -> None:
    """Such as one that starts on a busy machine: what it had in hand would be lost."""
    promote("mortality")
    server = start(workers=2)
    both_ready(server)
    workers = workers_of(server)
    os.kill(workers[0], signal.SIGSTOP)
    time.sleep(7)
    os.kill(workers[0], signal.SIGCONT)
    both_ready(server)
    assert workers_of(server) == workers
