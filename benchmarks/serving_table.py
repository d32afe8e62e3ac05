"""Servers of one risk model beside each other: CPU per request, and p50 and p99 at half of what each can take.

    python benchmarks/serving_table.py

The same trees and the same patient for all, one worker and one OpenMP thread each, one server after the other in one
run: ``mlflow models serve``; the app of the tutorials (FastAPI, a pydantic body, pandas, XGBoost); BentoML, in an
environment of its own from ``requirements/bentoml.txt`` (``make interop`` makes it; without it the row is missing, and
the table says so); a bare ASGI application that reads the body and returns the bytes of our answer; the same with as
many bytes appended to a file and synced before it answers, which nobody who keeps answers can go below; and ours with
everything on: a key, the audit columns, the checks of a request, exact SHAP values and the synced log. All but ours
and the bare ones answer a number and nothing else. Load is open: requests are sent when they are due, whether or not
the one before has been answered, at half of the rate that the server took from four clients, and a latency counts from
when the request was due.
"""

import http.client
import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.predict_request import (
    SERVE,
    TWO_VALUES,
    cpu_seconds,
    free_port,
    promote,
    running,
    set_apart,
    write_model,
)
from data_pipeline.features import kernel, plain_inputs
from mediscale.core import caller
from mediscale.core.settings import Settings
from serving.security import api_keys
from serving.security.principal import Role

ROOT = Path(__file__).parents[1]
BENTOML = ROOT / ".venv-interop" / "bentoml" / "bin"
CLIENTS = 4
SECONDS = 10.0
"""Of each server at half load."""
_THREADS = 32
"""That wait for answers at half load."""

TUTORIAL = """
import os
import pandas as pd
import xgboost as xgb
from fastapi import FastAPI
from pydantic import BaseModel

model = xgb.Booster(model_file=os.environ["MODEL"])
app = FastAPI()

class Patient(BaseModel):
    age_years: float
    systolic_blood_pressure_last_24h: float

@app.post("/predict")
def predict(patient: Patient):
    row = pd.DataFrame([patient.model_dump()]).reindex(columns=model.feature_names)
    return {"risk": float(model.predict(xgb.DMatrix(row))[0])}
"""
BENTO = """
import os
import bentoml
import numpy as np
import xgboost as xgb

@bentoml.service(workers=1, traffic={"timeout": 60})
class Risk:
    def __init__(self) -> None:
        self.model = xgb.Booster(model_file=os.environ["MODEL"])

    @bentoml.api
    def predict(self, patient: dict[str, float]) -> dict[str, float]:
        names = self.model.feature_names
        row = np.array([[patient.get(name, np.nan) for name in names]])
        return {"risk": float(self.model.predict(xgb.DMatrix(row, feature_names=names))[0])}
"""
BARE = """
import os
ANSWER = open(os.environ["ANSWER"], "rb").read()
HEADERS = [(b"content-type", b"application/json"), (b"content-length", str(len(ANSWER)).encode())]
SYNCED = os.environ.get("SYNCED")
LOG = os.open(SYNCED, os.O_WRONLY | os.O_CREAT | os.O_APPEND) if SYNCED else None

async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    while (await receive()).get("more_body"):
        pass
    if LOG is not None:
        os.write(LOG, ANSWER)
        os.fdatasync(LOG)
    await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
    await send({"type": "http.response.body", "body": ANSWER})
"""


@dataclass(frozen=True)
class Server:
    """How a server is started (``PORT`` stands for its port) and asked."""

    name: str
    command: Sequence[str]
    path: str
    body: Any
    requests: int
    """By which its CPU is measured."""
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Measured:
    """Milliseconds of CPU per request, requests per second at full load, and latencies in ms at half of them."""

    name: str
    cpu: float
    rate: float
    p50: float
    p99: float


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        set_apart(home)
        os.environ |= {"MEDISCALE_RATE_LIMIT": "1000000/minute", "MEDISCALE_HOME": str(home / "home")}
        model = home / "mortality"
        write_model(model, "mortality")
        promote(Settings(home=home / "home"), {"mortality": model}, ("mortality",))
        os.environ |= {"MODEL": str(model / "model.json"), "ANSWER": str(home / "answer.json")}
        key = make_key(Settings(home=home / "home"))
        ours = Server(
            "ours, everything on",
            (sys.executable, "-c", SERVE, str(home / "home"), "PORT"),
            "/predict",
            TWO_VALUES,
            2000,
            {"Authorization": f"Bearer {key}"},
        )
        print(f"{'':28}{'CPU ms':>9}{'per s':>8}{'p50 ms':>9}{'p99 ms':>9}{'p99/p50':>9}")
        measured = [measure(ours, keep=home / "answer.json")]
        measured += [measure(server) for server in others(home, model)]
    show(measured)


def make_key(settings: Settings) -> str:
    now = caller.now()
    return api_keys.create(settings, "bench", (Role.CLINICIAN,), now + timedelta(days=1), "bench", now)[1]


def others(home: Path, model: Path) -> Iterator[Server]:
    python = str(Path(sys.executable).parent)
    values = plain_inputs.features(TWO_VALUES, "mortality")
    names = kernel.names("mortality")
    given = {name: float(value) for name, value in zip(names, values, strict=True) if not np.isnan(value)}
    for name, text in (("tutorial", TUTORIAL), ("bento", BENTO), ("bare", BARE)):
        (home / f"{name}_app.py").write_text(text)
    uvicorn = ("-m", "uvicorn", "--app-dir", str(home), "--port", "PORT", "--no-access-log")
    row = [None if np.isnan(value) else float(value) for value in values]
    yield Server(
        "mlflow models serve",
        (f"{python}/mlflow", "models", "serve", "-m", str(model), "--env-manager", "local", "--host", "127.0.0.1",
         "--port", "PORT", "--workers", "1"),
        "/invocations",
        {"dataframe_split": {"columns": names, "data": [row]}},
        200,
    )  # fmt: skip
    tutorial = {name: given[name] for name in ("age_years", "systolic_blood_pressure_last_24h")}
    yield Server(
        "FastAPI tutorial", (sys.executable, *uvicorn, "tutorial_app:app"), "/predict", tutorial, 500
    )
    if (BENTOML / "bentoml").exists():
        yield Server(
            "BentoML",
            (
                str(BENTOML / "bentoml"),
                "serve",
                "bento_app:Risk",
                "--working-dir",
                str(home),
                "--port",
                "PORT",
            ),
            "/predict",
            {"patient": given},
            500,
        )
    else:
        print("BentoML is not measured: make its environment with `make interop`.")
    bare = (sys.executable, *uvicorn, "bare_app:app")
    yield Server("bare ASGI, the same bytes", bare, "/", TWO_VALUES, 2000)
    synced = ("env", f"SYNCED={home / 'synced'}", *bare)
    yield Server("bare ASGI, synced", synced, "/", TWO_VALUES, 2000)


def measure(server: Server, keep: Path | None = None) -> Measured:
    port = free_port()
    command = [word.replace("PORT", str(port)) for word in server.command]
    body = json.dumps(server.body).encode()
    with running(command, port) as process:
        asking = Asking(port, server.path, body, {"Content-Type": "application/json", **server.headers})
        answer = asking.until_it_answers()
        if keep is not None:
            keep.write_bytes(answer)
        asking.one_after_another(server.requests // 10)
        before = cpu_seconds(process)
        asking.one_after_another(server.requests)
        cpu = (cpu_seconds(process) - before) / server.requests * 1e3
        rate = asking.rate(server.requests)
        p50, p99 = np.quantile(asking.when_due(rate / 2, SECONDS), (0.5, 0.99)) * 1e3
    print(f"{server.name:28}{cpu:9.3f}{rate:8.0f}{p50:9.2f}{p99:9.2f}{p99 / p50:9.1f}", flush=True)
    return Measured(server.name, cpu, rate, float(p50), float(p99))


@dataclass(frozen=True)
class Asking:
    """One request, sent again and again."""

    port: int
    path: str
    body: bytes
    headers: Mapping[str, str]
    _own: threading.local = field(default_factory=threading.local)

    def once(self) -> bytes:
        """By this thread's own connection, which is kept open; servers close one that was idle for some seconds."""
        try:
            return self._once()
        except (BrokenPipeError, ConnectionResetError, http.client.RemoteDisconnected):
            self._own.connection = None
            return self._once()

    def _once(self) -> bytes:
        connection = getattr(self._own, "connection", None)
        if connection is None:
            connection = self._own.connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request("POST", self.path, self.body, dict(self.headers))
        response = connection.getresponse()
        answer: bytes = response.read()
        if response.status != 200:
            raise SystemExit(f"{self.path} answered {response.status}: {answer.decode()[:500]}")
        return answer

    def until_it_answers(self) -> bytes:
        """BentoML listens before it can answer."""
        deadline = time.monotonic() + 120
        while True:
            try:
                return self.once()
            except (OSError, http.client.HTTPException, SystemExit):
                self._own.connection = None
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.5)

    def one_after_another(self, requests: int) -> None:
        for _ in range(requests):
            self.once()

    def rate(self, requests: int) -> float:
        """Requests per second that the server takes from some clients at a time."""
        begun = time.perf_counter()
        with ThreadPoolExecutor(CLIENTS) as clients:
            for done in [clients.submit(self.one_after_another, requests // CLIENTS) for _ in range(CLIENTS)]:
                done.result()
        return requests / (time.perf_counter() - begun)

    def when_due(self, rate: float, seconds: float) -> list[float]:
        """Seconds from when each request was due until its answer, with requests due at random (a Poisson process)."""
        gaps = np.random.default_rng(0).exponential(1 / rate, max(50, int(rate * seconds)))
        due = time.perf_counter() + 0.1 + np.cumsum(gaps)

        def send(at: float) -> float:
            self.once()
            return time.perf_counter() - at

        with ThreadPoolExecutor(_THREADS) as clients:
            sent = []
            for at in due.tolist():
                time.sleep(max(0.0, at - time.perf_counter()))
                sent.append(clients.submit(send, at))
            return [done.result() for done in sent]


def show(measured: Sequence[Measured]) -> None:
    ours = measured[0]
    for row in measured[1:]:
        print(f"figure: CPU of {row.name} over ours = {row.cpu / ours.cpu:.2f}")
    print(f"figure: ms of CPU of ours = {ours.cpu:.3f}")
    print(f"figure: p50 in ms of ours at half load = {ours.p50:.2f}")
    print(f"figure: p99 over p50 of ours at half load = {ours.p99 / ours.p50:.1f}")


if __name__ == "__main__":
    main()
