"""Load: clients that ask a server one request after another, and what each was answered."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

CLIENTS = 2
TIMEOUT_SECONDS = 120.0
_NEWEST = 20
"""Answers."""


@dataclass(frozen=True)
class Route:
    """How a kind of model is asked, and where the answer names its version."""

    path: str
    body: Callable[[int], dict[str, object]]
    version: Callable[[Any], int]


RISK = Route(
    "/predict",
    lambda number: {"age": 18 + number % 100},
    lambda answer: int(answer["predictions"][0]["version"]),
)
LANGUAGE = Route(
    "/generate",
    lambda number: {"question": f"Which organ is number {number}?", "max_length": 8, "use_safety": False},
    lambda answer: int(answer["version"]),
)


@dataclass
class Load:
    """What was asked so far."""

    failed: int = 0
    answers: list[tuple[float, int]] = field(default_factory=list)
    """When each came, and by which version."""
    seconds: list[float] = field(default_factory=list)

    def by(self, version: int) -> bool:
        """Whether the newest answers are all by a version."""
        newest = self.answers[-_NEWEST:]
        return len(newest) == _NEWEST and {answered for _, answered in newest} == {version}


@contextmanager
def run(address: str, route: Route) -> Iterator[Load]:
    """Clients ask a server by a route, as long as the context lasts."""
    load, ended = Load(), threading.Event()
    threads = [threading.Thread(target=_ask, args=(address, route, load, ended, i)) for i in range(CLIENTS)]
    for thread in threads:
        thread.start()
    try:
        yield load
    finally:
        ended.set()
        for thread in threads:
            thread.join()


def is_loaded(address: str) -> bool:
    """Whether the server answers by a model yet."""
    import httpx

    answer = httpx.get(f"{address}/health", timeout=TIMEOUT_SECONDS, trust_env=False)
    return bool(answer.json()["model_loaded"])


def _ask(address: str, route: Route, load: Load, ended: threading.Event, number: int) -> None:
    import httpx

    with httpx.Client(base_url=address, timeout=TIMEOUT_SECONDS, trust_env=False) as client:
        while not ended.is_set():
            number += CLIENTS
            began = time.monotonic()
            try:
                answer = client.post(route.path, json=route.body(number))
            except httpx.HTTPError:
                load.failed += 1
                continue
            load.seconds.append(time.monotonic() - began)
            if answer.status_code == 200:
                load.answers.append((time.monotonic(), route.version(answer.json())))
            else:
                load.failed += 1
            time.sleep(0.005)
