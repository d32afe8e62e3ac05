"""Latency of a running server: percentiles over requests to ``/predict`` and ``/generate``, as a client sees them."""

import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import httpx
import numpy as np

from mediscale.core.errors import BusyError, InputError

QUESTION = "Which organ filters the blood and makes urine?"
VALUES = {"age": 67, "blood_pressure": 140}
PERCENTILES = (50, 95, 99)


@dataclass(frozen=True)
class Latency:
    """The latency of one kind of request, or of the first part of its answers."""

    what: str
    answered: int
    refused: int
    """Requests that were not answered with 200."""
    milliseconds: tuple[float, ...]
    """At ``PERCENTILES``, of those that were answered; NaN where none was."""
    per_second: float
    """Answers, over all clients."""


def measure(client: httpx.Client, requests: int, clients: int, max_length: int) -> list[Latency]:
    """Asks for as many risks and as many answers of the language model as ``requests``, ``clients`` at a time.

    Raises:
        BusyError: the server can't be reached.
        InputError: it answered none of them.
    """
    try:
        client.get("/live")
        risks = _run("/predict", lambda n: _predict(client, n), requests, clients)
        answers = _run("/generate", lambda n: _generate(client, n, max_length), requests, clients)
    except httpx.HTTPError as error:
        raise BusyError(
            f"There is no server at {client.base_url}; start it with `mediscale serve`."
        ) from error
    if not any(latency.answered for latency in (*risks, *answers)):
        raise InputError(
            "The server answered no request with 200; where it needs a key, set MEDISCALE_API_KEY to one with the role "
            "clinician, and /health says what it serves."
        )
    return [*risks, *answers]


Timings = dict[str, float]
"""Milliseconds until something was there, by what; empty for a refused request."""


def _run(path: str, ask: Callable[[int], Timings], requests: int, clients: int) -> list[Latency]:
    began = time.perf_counter()
    with ThreadPoolExecutor(clients) as threads:
        timed = list(threads.map(ask, range(requests)))
    seconds = time.perf_counter() - began
    answered = [each for each in timed if each]
    return [
        Latency(
            what=f"{path}{what}",
            answered=len(answered),
            refused=requests - len(answered),
            milliseconds=_percentiles([each[what] for each in answered]),
            per_second=len(answered) / seconds,
        )
        for what in (answered[0] if answered else {"": 0.0})
    ]


def _percentiles(values: list[float]) -> tuple[float, ...]:
    return tuple(np.percentile(values, PERCENTILES)) if values else (float("nan"),) * len(PERCENTILES)


def _predict(client: httpx.Client, n: int) -> Timings:
    began = time.perf_counter()
    answered = client.post("/predict", json={**VALUES, "age": 20 + n % 70})
    return {"": _since(began)} if answered.status_code == 200 else {}


def _generate(client: httpx.Client, n: int, max_length: int) -> Timings:
    """A streamed answer: when its first sentence is there, and the whole."""
    began, first = time.perf_counter(), 0.0
    body = {"question": QUESTION, "max_length": max_length, "seed": n, "stream": True}
    with client.stream("POST", "/generate", content=json.dumps(body)) as answered:
        for line in answered.iter_lines():
            first = first or (_since(began) if line.startswith("data:") else 0.0)
    whole = _since(began)
    return {", first sentence": first, ", whole answer": whole} if answered.status_code == 200 else {}


def _since(began: float) -> float:
    return (time.perf_counter() - began) * 1000
