"""Server CPU for one risk over HTTP: MediScale beside ``mlflow models serve``, same model, same patient, same run.

    python benchmarks/predict_request.py

MLflow's server answers the uncalibrated risk and nothing else. MediScale's answer holds exact SHAP values, and is in
the synced log before it leaves. The last rows send an admission note too, read by one layer of the packaged encoder;
its weights are not trained, which costs the same. Each server runs on loopback with one worker and one OpenMP thread;
CPU is what its processes used (user and system) over a fixed number of requests. The two risks are compared, too.
"""

import atexit
import http.client
import json
import math
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from data_pipeline.features import kernel, plain_inputs
from data_pipeline.notes import encoders
from mediscale.core import tasks
from mediscale.core.settings import Settings
from mediscale.core.tasks import TaskName
from mediscale.inference import collate, model_files, model_signature, notes
from mediscale.inference.model_spec import Calibration, Combination, KnownAnswer, PredictorSpec
from mediscale.inference.note_model_spec import KnownText, NoteSpec
from mediscale.storage import registry, signing
from mediscale.storage.calls import canonical
from training.notes import note_export, note_network

TREES, DEPTH, ROWS = 200, 4, 5000
DATASET = "benchmark"
TWO_VALUES: dict[str, Any] = {"age": 67, "blood_pressure": 140}
NOTE = (
    "HPI: 67 year old man with hypertension and heart failure who presents with chest pain and shortness of breath. "
    "Functional status: walks with a cane, needs help with bathing. Social: lives alone, daughter visits weekly. "
    "VS: T 98.4 HR 96 BP 140/82 RR 20 O2 94%. General: looks tired, speaks in short sentences. Lungs: crackles at "
    "both bases. Labs notable for WBC 9.8, Hgb 11.2, Cr 1.4. A/P: diuresis, telemetry, serial troponins. Code status: "
    "full code, discussed with the family."
)
CALIBRATION = Calibration(slope=1, intercept=0)
SERVE = (
    "import sys; from pathlib import Path; from mediscale.core.settings import Settings; from serving import main;"
    "main.serve(Settings(home=Path(sys.argv[1])), (), 'production', port=int(sys.argv[2]))"
)


@dataclass(frozen=True)
class Measured:
    """One server under one load: milliseconds of CPU per request, median latency and requests per second."""

    name: str
    cpu: float
    latency: float
    rate: float


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        set_apart(home)
        folders: dict[TaskName, Path] = {task: home / task for task in ("mortality", "readmission")}
        for task, to in folders.items():
            write_model(to, task)
        mlflow_risk, rows = mlflow(folders["mortality"])
        promote(Settings(home=home / "one"), folders, ("mortality",))
        promote(Settings(home=home / "two"), folders, ("mortality", "readmission"))
        read_notes(folders["mortality"], home / "notes")
        promote(Settings(home=home / "reading"), {"mortality": home / "notes"}, ("mortality",))
        risk, ours = mediscale(home / "one", "one task")
        rows += ours + mediscale(home / "two", "two tasks")[1]
        rows += mediscale(home / "reading", "reads notes, no note sent")[1]
        rows += mediscale(
            home / "reading", "reads notes, a note sent", {**TWO_VALUES, "clinical_note": NOTE}
        )[1]
    if not math.isclose(risk, mlflow_risk, abs_tol=1e-6):
        raise SystemExit(f"the two servers disagree: {risk} and {mlflow_risk}")
    show(rows)


def set_apart(home: Path) -> None:
    """What is made here is loaded from here, and signed by no key of whoever measures, nor by one that lies in it."""
    trust = home.with_name(f"{home.name}-trust")
    atexit.register(shutil.rmtree, trust, ignore_errors=True)
    os.environ |= {"MEDISCALE_ARTIFACT_ROOT": str(home), "MEDISCALE_TRUST": str(trust)}


def show(rows: Sequence[Measured]) -> None:
    print(
        f"{TREES} trees of depth {DEPTH}, {len(kernel.names('mortality'))} features; both servers answer alike"
    )
    print(f"{'':44}{'CPU ms':>8}{'p50 ms':>8}{'per s':>8}{'less CPU':>10}")
    for row in rows:
        print(f"{row.name:44}{row.cpu:8.3f}{row.latency:8.2f}{row.rate:8.0f}{rows[0].cpu / row.cpu:9.1f}x")
        print(f"figure: CPU of {rows[0].name} over {row.name} = {rows[0].cpu / row.cpu:.1f}")
        print(f"figure: ms of CPU of {row.name} = {row.cpu:.3f}")


def write_model(folder: Path, task: TaskName) -> None:
    """A model of the usual size on made-up numbers, as training logs it: MLflow's flavour and predictor.json."""
    import xgboost
    from mlflow import xgboost as flavour
    from mlflow.models.signature import ModelSignature
    from mlflow.types.schema import ColSpec, Schema

    names = list(kernel.names(task))
    chance = np.random.default_rng(0)
    x = chance.normal(100, 30, size=(ROWS, len(names))).astype(np.float32)
    x[chance.random(x.shape) < 0.5] = np.nan
    y = np.nansum(x[:, :20], axis=1) + chance.normal(0, 100, ROWS) > np.median(np.nansum(x[:, :20], axis=1))
    matrix = xgboost.DMatrix(x, label=y.astype(float), feature_names=names)
    booster = xgboost.train({"objective": "binary:logistic", "max_depth": DEPTH, "eta": 0.05}, matrix, TREES)
    signature = ModelSignature(Schema([ColSpec("double", name, required=False) for name in names]))
    flavour.save_model(booster, str(folder), signature=signature, model_format="json")
    (folder / "predictor.json").write_text(canonical(_spec(booster, task)))


def _spec(booster: Any, task: TaskName) -> PredictorSpec:
    import xgboost

    row = plain_inputs.features(TWO_VALUES, task)
    matrix = xgboost.DMatrix(row[None], feature_names=booster.feature_names)
    parts = booster.predict(matrix, pred_contribs=True)[0].astype(float)
    known = KnownAnswer(
        name="two values",
        inputs=tuple(None if np.isnan(value) else float(value) for value in row),
        margin=parts.sum(),
        risk=1 / (1 + math.exp(-parts.sum())),
        contributions=tuple(parts[:-1]),
    )
    declared = tasks.load(task)
    return PredictorSpec(
        name=registry.model_name(DATASET, task),
        dataset=DATASET,
        task=task,
        outcome=task,
        may_be_asked=declared.may_be_asked,
        excluded_destinations=declared.at_risk.excluded_destinations,
        features=kernel.names(task),
        plain_inputs=plain_inputs.names(task),
        calibration=CALIBRATION,
        thresholds={"clinical": 0.1},
        bias=parts[-1],
        baseline_risk=1 / (1 + math.exp(-parts[-1])),
        importance={},
        known_answers=(known,),
        best_iteration=TREES - 1,
    )


def promote(settings: Settings, folders: dict[TaskName, Path], tasks: Sequence[TaskName]) -> None:
    for sequence, task in enumerate(tasks, start=1):
        move = registry.Move(
            sequence=sequence,
            model=registry.model_name(DATASET, task),
            task=task,
            alias="production",
            from_version=None,
            to_version=1,
            actor=signing.actor(settings),
            moved_at=datetime(2026, 1, 1),
            reason="To be measured.",
            evidence_digest="",
            model_uri=str(folders[task]),
            model_digest=model_files.digest(folders[task]),
            key=f"benchmark-{task}",
        )
        model_signature.sign(settings, move.version, move.evidence_digest)
        registry.record(settings, DATASET, move)


def mlflow(folder: Path) -> tuple[float, list[Measured]]:
    names = kernel.names("mortality")
    row = [
        None if np.isnan(value) else float(value) for value in plain_inputs.features(TWO_VALUES, "mortality")
    ]
    body = json.dumps({"dataframe_split": {"columns": names, "data": [row]}}).encode()
    port = free_port()
    scripts = Path(sys.executable).parent
    command = [str(scripts / "mlflow"), "models", "serve", "-m", str(folder), "--env-manager", "local",
               "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]  # fmt: skip
    with running(command, port) as server:
        answer = ask(http.client.HTTPConnection("127.0.0.1", port), "/invocations", body)
        rows = [measure("mlflow models serve", server, port, "/invocations", body, 200, clients=1)]
    return float(answer["predictions"][0]), rows


def read_notes(table: Path, folder: Path) -> None:
    """The same model as a version that reads notes."""
    files = encoders.folder(Settings(), encoders.PACKAGED)
    tokenizer = encoders.tokenizer(files)
    network = note_network.build(files, note_network.Shape(layers=1, trained_layers=1, seed=0)).eval()
    graph = note_export.to_onnx(network, 128)
    nothing = [np.empty(0, dtype=np.int32)]
    margin = notes.margin(notes.session(graph), nothing, collate.special(tokenizer))
    reader = NoteSpec(name="benchmark-mortality-notes", dataset=DATASET, task="mortality", encoder=encoders.OFFLINE,
                     revision="", tokenizer=encoders.digest(tokenizer), window=128, most_windows=4,
                     calibration=CALIBRATION, thresholds={},
                     known_texts=(KnownText(text="", margin=margin),))  # fmt: skip
    spec = PredictorSpec.model_validate_json((table / "predictor.json").read_bytes())
    together = Combination(table=1, notes=1, reference_mean=0, intercept=0, thresholds={})
    shutil.copytree(table, folder)
    (folder / "predictor.json").write_text(canonical(spec.model_copy(update={"notes": together})))
    (folder / "notes").mkdir()
    (folder / "notes" / "notes.json").write_text(canonical(reader))
    (folder / "notes" / "tokenizer.json").write_text(tokenizer.to_str())
    (folder / "notes" / "model.onnx").write_bytes(graph)


def mediscale(home: Path, tasks: str, asked: dict[str, Any] = TWO_VALUES) -> tuple[float, list[Measured]]:
    body = json.dumps(asked).encode()
    port = free_port()
    with running([sys.executable, "-c", SERVE, str(home), str(port)], port) as server:
        answer = ask(http.client.HTTPConnection("127.0.0.1", port), "/predict", body)
        rows = [
            measure(f"mediscale serve, {tasks}", server, port, "/predict", body, 2000, clients=1),
            measure(f"mediscale serve, {tasks}, 8 clients", server, port, "/predict", body, 4000, clients=8),
        ]
    return float(answer["predictions"][0]["risk"]), rows


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@contextmanager
def running(command: Sequence[str], port: int) -> Iterator[psutil.Process]:
    environment = os.environ | {
        "OMP_NUM_THREADS": "1",
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    process = psutil.Popen(command, env=environment, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        wait_for(port, process)
        yield process
    finally:
        for one in [*process.children(recursive=True), process]:
            one.terminate()
        process.wait(30)


def wait_for(port: int, process: psutil.Popen) -> None:
    for _ in range(3000):
        if process.poll() is not None:
            raise SystemExit(f"the server ended with exit code {process.returncode}")
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise SystemExit("the server did not start within five minutes")


def ask(connection: http.client.HTTPConnection, path: str, body: bytes) -> Any:
    connection.request("POST", path, body, {"Content-Type": "application/json"})
    response = connection.getresponse()
    answer = json.loads(response.read())
    if response.status != 200:
        raise SystemExit(f"{path} answered {response.status}: {answer}")
    return answer


def measure(
    name: str, server: psutil.Process, port: int, path: str, body: bytes, requests: int, clients: int
) -> Measured:
    load(port, path, body, requests // 10, clients)
    before, begun = cpu_seconds(server), time.perf_counter()
    latencies = load(port, path, body, requests, clients)
    wall, cpu = time.perf_counter() - begun, cpu_seconds(server) - before
    return Measured(name, cpu / requests * 1e3, float(np.median(latencies)) * 1e3, requests / wall)


def load(port: int, path: str, body: bytes, requests: int, clients: int) -> list[float]:
    """Latencies in seconds of requests sent one after the other on each of the clients' connections."""
    latencies: list[float] = []

    def client() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port)
        for _ in range(requests // clients):
            begun = time.perf_counter()
            ask(connection, path, body)
            latencies.append(time.perf_counter() - begun)

    threads = [threading.Thread(target=client) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return latencies


def cpu_seconds(server: psutil.Process) -> float:
    times = [process.cpu_times() for process in (server, *server.children(recursive=True))]
    return float(sum(time.user + time.system for time in times))


if __name__ == "__main__":
    main()
