"""``mediscale airflow`` as a person starts it: on loopback, behind a password, refusing what no run could do."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

pytestmark = pytest.mark.timeout(1500)


class Airflow:
    """A running Airflow and the person who logged in."""

    def __init__(self, process: "subprocess.Popen[str]", address: str, password: str) -> None:
        self.process, self.address, self.password = process, address, password
        self.token = ""

    def ask(self, path: str, body: Any = None, method: str | None = None) -> tuple[int, Any]:
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        answer = httpx.request(
            method or ("GET" if body is None else "POST"),
            self.address + path,
            json=body,
            headers=headers,
            timeout=120,
        )
        return answer.status_code, answer.json()

    def log_in(self, password: str) -> int:
        status, answer = self.ask("/auth/token", {"username": "admin", "password": password})
        self.token = answer.get("access_token", "")
        return status


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def airflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Airflow]:
    around = {**os.environ, "MEDISCALE_HOME": str(tmp_path_factory.mktemp("standalone"))}
    command = [str(Path(sys.executable).with_name("mediscale")), "airflow", "--port", str(free_port())]
    process = subprocess.Popen(command, env=around, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if told := re.match(r"(http://127\.0\.0\.1:\d+)   user admin   password (\S+)", line):
            break
    else:
        pytest.fail(f"Airflow ended with {process.wait()}")
    threading.Thread(target=process.stdout.read, daemon=True).start()
    yield Airflow(process, told[1], told[2])
    process.send_signal(signal.SIGTERM)
    assert process.wait(120) == 0


def test_the_printed_password_opens_it_and_no_other(airflow: Airflow) -> None:
    assert airflow.log_in("guess") == 401
    assert airflow.log_in(airflow.password) in (200, 201)


def test_the_dags_are_there_and_run_fails_with_the_stage_s_sentence(airflow: Airflow, tmp_path: Path) -> None:
    airflow.log_in(airflow.password)
    dags: list[dict[str, Any]] = []
    while len(dags) < 5:
        time.sleep(1)
        dags = airflow.ask("/api/v2/dags")[1]["dags"]
    assert {dag["dag_id"].removeprefix("mediscale_") for dag in dags} == {
        "features", "retraining", "drift", "promotion", "loop"
    }  # fmt: skip
    assert airflow.ask("/api/v2/dags/mediscale_loop", {"is_paused": False}, "PATCH")[0] == 200
    conf = {"source": "mimic-iv", "path": str(tmp_path)}  # an empty folder
    status, run = airflow.ask("/api/v2/dags/mediscale_loop/dagRuns", {"logical_date": None, "conf": conf})
    assert status == 200
    state = ""
    while state not in ("failed", "success"):
        time.sleep(1)
        state = airflow.ask(f"/api/v2/dags/mediscale_loop/dagRuns/{run['dag_run_id']}")[1]["state"]
    assert state == "failed"
    path = f"/api/v2/dags/mediscale_loop/dagRuns/{run['dag_run_id']}/taskInstances/extract/logs/1"
    assert "mediscale: " in json.dumps(airflow.ask(path)[1])


@pytest.mark.parametrize(
    ("dag", "conf"),
    [
        ("loop", {"source": "epic"}),
        ("loop", {"size": "huge"}),
        ("features", {"as_of": "yesterday"}),
        ("drift", {"days": 0}),
    ],
)
def test_a_parameter_out_of_range_starts_no_run(airflow: Airflow, dag: str, conf: dict[str, Any]) -> None:
    airflow.log_in(airflow.password)
    body = {"logical_date": None, "conf": conf}
    status, answer = airflow.ask(f"/api/v2/dags/mediscale_{dag}/dagRuns", body)
    assert status == 400
    assert f"Invalid input for param {next(iter(conf))}" in answer["detail"]
