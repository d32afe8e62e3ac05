"""The process that works on notes and large bodies: killed, its worker killed, told to end, and what it holds."""

import json
import operator
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from fastapi.testclient import TestClient
from fixtures.server_process import Start

from mediscale.core.errors import BusyError, InputError, RemoteError
from mediscale.core.settings import Settings
from mediscale.inference.notes import NoteReader
from mediscale.storage import lake
from serving import helper_process
from serving.app import create_app
from serving.helper_process import NICENESS, HelperProcess
from serving.log.prediction_log import PredictionLog
from serving.requests.request import parse
from serving.risk import note_reader
from serving.risk.models import Predictors
from serving.risk.note_reader import ServedReader

BODY = {"age": 67, "blood_pressure": 140, "clinical_note": "The bedbound patient presents mottled."}


@pytest.fixture
def process() -> Iterator[HelperProcess]:
    process = HelperProcess()
    yield process
    process.close()


@pytest.fixture
def client(settings: Settings, promote: Any, reading: Path) -> Iterator[TestClient]:
    promote("mortality", 7, folder=reading)
    predictors = Predictors(settings, "synthetic", "production")
    app = create_app(settings, predictors, PredictionLog(settings, "synthetic"))
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


def predictors_of(client: TestClient) -> Predictors:
    predictors: Predictors = client.app.state.service.predictors  # type: ignore[attr-defined]
    return predictors


def reader_of(predictors: Predictors) -> ServedReader:
    reader = predictors.current["mortality"].predictor.reader
    assert isinstance(reader, ServedReader)
    return reader


def risk(client: TestClient, body: object = BODY) -> dict[str, Any]:
    response = client.post("/predict", json=body)
    assert response.status_code == 200, response.text
    [answer] = response.json()["predictions"]
    return dict(answer)


def kill(process: HelperProcess) -> None:
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)


def eventually(holds: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_call_returns_what_the_function_does_there_and_gives_way_to_the_worker(
    process: HelperProcess,
) -> None:
    assert process.pid is None
    assert process.call(operator.mul, 6, 7) == 42
    assert process.call(os.getpid) == process.pid != os.getpid()
    own = os.getpriority(os.PRIO_PROCESS, 0)
    assert process.call(os.getpriority, os.PRIO_PROCESS, 0) == min(own + NICENESS, 19)
    if sys.platform == "linux":
        assert process.call(os.sched_getscheduler, 0) == os.SCHED_BATCH


def test_a_sandbox_that_refuses_a_class_of_scheduling_keeps_no_note_from_being_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    refused: list[int] = []

    def refuse(_process: int, policy: int, _parameters: object) -> None:
        refused.append(policy)
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "nice", lambda _: 0)
    monkeypatch.setattr(os, "sched_setscheduler", refuse, raising=False)
    helper_process._give_way()
    assert refused == ([os.SCHED_BATCH] if sys.platform == "linux" else [])


def test_a_refusal_comes_back_as_it_is_and_of_a_failure_only_kind_and_place(
    process: HelperProcess, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(InputError, match=r"^The body is not valid JSON in UTF-8\.$"):
        process.call(parse, b'{"age": ')
    with pytest.raises(RemoteError, match=r"^ValueError at .*helper_process\.py:\d+$"):
        process.call(int, "Quillfeather")
    assert process.call(operator.neg, 1) == -1
    assert "".join(capfd.readouterr()) == ""


def test_one_that_is_killed_while_it_waits_costs_nobody_anything(process: HelperProcess) -> None:
    before = process.call(os.getpid)
    kill(process)
    assert process.call(os.getpid) != before


def test_one_that_is_killed_at_work_costs_one_call(process: HelperProcess) -> None:
    threading.Timer(0.5, os.kill, [process.call(os.getpid), signal.SIGKILL]).start()
    with pytest.raises(BusyError, match="ended, and another begins; ask again"):
        process.call(time.sleep, 60)
    assert process.call(operator.neg, 1) == -1


def test_one_that_hangs_is_given_up_and_keeps_nobody_waiting_for_ever(
    process: HelperProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    hanging = process.call(os.getpid)
    monkeypatch.setattr(helper_process, "SECONDS", 0.5)
    with pytest.raises(BusyError, match=r"took more than 0\.5 seconds and was given up"):
        process.call(time.sleep, 60)
    monkeypatch.undo()
    assert process.call(os.getpid) != hanging


def test_closing_ends_it_and_refuses_whoever_waits(process: HelperProcess) -> None:
    process.call(os.getpid)
    assert process.pid is not None
    running = psutil.Process(process.pid)
    threading.Timer(0.5, process.close).start()
    for _ in range(2):
        with pytest.raises(BusyError):
            process.call(time.sleep, 60)
    assert not running.is_running()


def test_told_to_end_with_its_worker_it_still_works_for_it(process: HelperProcess) -> None:
    before = process.call(os.getpid)
    os.kill(before, signal.SIGTERM)
    assert process.call(os.getpid) == before
    assert os.getpgid(before) != os.getpgid(0), "a terminal's Ctrl-C reaches the worker alone"


def test_it_ends_with_its_worker_whatever_it_is_at() -> None:
    worker = (
        "import operator, threading, time; from serving.helper_process import HelperProcess; process = HelperProcess();"
        "process.call(operator.neg, 1); threading.Thread(target=process.call, args=(time.sleep, 600)).start();"
        "time.sleep(0.5); print(process.pid, flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", worker], stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        process = psutil.Process(int(running.stdout.readline()))
        assert process.is_running()
        running.kill()
    eventually(lambda: not process.is_running() or process.status() == psutil.STATUS_ZOMBIE, 10)


def test_margins_are_those_of_the_same_network_in_this_process(
    client: TestClient, settings: Settings, reading: Path
) -> None:
    here = NoteReader({path.name: path.read_bytes() for path in (reading / "notes").iterdir()})
    there = reader_of(predictors_of(client))
    stays = [here.windows([here.tokens(text)]) for text in ("mottled", "bedbound " * 50, "pain")]
    assert np.array_equal(there.margins(stays), here.margins(stays))
    answer = risk(client)
    [margin] = here.margins([here.windows([here.tokens(BODY["clinical_note"])])])  # type: ignore[arg-type]
    client.app.state.service.flush()  # type: ignore[attr-defined]
    [row] = lake.read(settings, lake.latest(settings, "synthetic", "predictions")).to_pylist()
    assert (row["risk"], row["note_margin"]) == (answer["risk"], margin)


def test_a_fresh_one_loads_the_networks_again_and_answers_as_before(client: TestClient) -> None:
    before = risk(client)
    kill(predictors_of(client).notes)
    assert risk(client) == before


def test_a_fresh_one_reads_no_files_that_were_changed(client: TestClient, settings: Settings) -> None:
    kill(predictors_of(client).notes)
    for file in Path(settings.artifact_root).rglob("notes.json"):
        file.write_text(file.read_text().replace("1.1", "1.2"))
    refused = client.post("/predict", json=BODY)
    assert (refused.status_code, "were changed since it was registered" in refused.text) == (503, True)
    assert risk(client, {"age": 67})["version"] == 7


def test_a_network_is_dropped_when_its_version_is_no_longer_served(
    client: TestClient, reading: Path, promote: Any, tmp_path: Path
) -> None:
    predictors = predictors_of(client)
    first = reader_of(predictors).number
    newer = tmp_path / "newer"
    shutil.copytree(reading, newer)
    spec = json.loads((newer / "predictor.json").read_text())
    (newer / "predictor.json").write_text(json.dumps({**spec, "baseline_risk": 0.3}))
    promote("mortality", 8, folder=newer)
    predictors.refresh()
    assert predictors.notes.call(note_reader._margins, [reader_of(predictors).number], []) is not None
    assert predictors.notes.call(note_reader._margins, [first], []) is None
    assert risk(client)["version"] == 8


def test_the_network_lies_in_the_process_and_not_in_the_worker_and_no_trace_is_left(
    promote: Any, reading: Path, start: Start
) -> None:
    promote("mortality", 7, folder=reading)
    server = start()
    assert server.client.post("/predict", json=BODY).status_code == 200
    [notes] = psutil.Process(server.process.pid).children()
    mapped = {
        one.pid: any("onnxruntime" in each.path for each in one.memory_maps())
        for one in (notes, psutil.Process(server.process.pid))
    }
    assert mapped == {notes.pid: True, server.process.pid: False}
    notes.kill()
    again = server.client.post("/predict", json=BODY)
    assert again.status_code in (200, 503), "killed this very moment it may still have taken the call"
    assert server.client.post("/predict", json=BODY).status_code == 200
    [notes] = psutil.Process(server.process.pid).children()
    assert server.end(signal.SIGINT) == 0
    eventually(lambda: not notes.is_running() or notes.status() == psutil.STATUS_ZOMBIE)
    assert not [line for line in server.lines if "Traceback" in line or "Error" in line]
