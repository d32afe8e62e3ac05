"""``mediscale airflow`` as a person starts it: on loopback, behind a password, refusing what no run could do, and going
on with a run whose stage, whose scheduler or whose first try was killed."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from fixtures.clusters import free_ports

from mediscale.core.settings import Settings
from mediscale.storage.locks import exclusive

pytestmark = pytest.mark.timeout(1500)


PROGRAM = """#!{python}
import json, os, pathlib, sys, threading, time
command = [{mediscale!r}, *sys.argv[1:]]
if sys.argv[1] not in ("drift", "performance_series", "retrain_decision"):
    os.execv(command[0], command)
from mediscale.cli import stage; from mediscale.pipeline import call as stages
from mediscale.storage import calls
from mediscale.storage.locks import exclusive
from mediscale.core.settings import Settings
threading.Thread(target=stage.end_with_input, daemon=True).start()
settings = Settings()
name = "-".join([sys.argv[1], *(text[5:] for text in sys.argv if text.startswith("task="))])
def work():
    with exclusive(settings, name, f"Stage {{name}}"):
        while (settings.home / f"hold-{{name}}").exists():
            time.sleep(0.1)
        made = {{"dataset": name.replace("_", "-"), "patients": 30, "days": 30, "notes": False}}
        if calls.find(settings, "synthetic", stages.key("synthetic", made)) is None:
            with (settings.home / "done").open("a") as ledger:
                ledger.write(name + chr(10))
        return stages.call("synthetic", made, settings, "test")
stage.WAIT_SECONDS = 1
stage.when_free("--wait-for-lock" in sys.argv, work)
result = pathlib.Path(sys.argv[sys.argv.index("--result") + 1])
result.write_text(json.dumps({{"retrain": False, "reason": "Quiet."}}))
"""
"""The platform's program, but drift and its verdict are another, quick stage under a name of their own, which takes
as long as a test says; each time that one of them is done, and not found, stands in the home's file ``done``."""


class Airflow:
    """A running Airflow and the person who logged in."""

    def __init__(self, process: "subprocess.Popen[str]", address: str, password: str, home: Path) -> None:
        self.process, self.address, self.password, self.home = process, address, password, home
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

    def component(self, name: str, other_than: int = 0) -> psutil.Process | None:
        """The process of Airflow that runs a component."""
        for process in psutil.Process(self.process.pid).children(recursive=True):
            with suppress(psutil.Error):
                if process.pid != other_than and ["airflow", name] == process.cmdline()[2:4]:
                    return process
        return None

    def states(self, dag: str, run: str) -> dict[str, str]:
        tasks = self.ask(f"/api/v2/dags/{dag}/dagRuns/{run}/taskInstances")[1]["task_instances"]
        return {task["task_id"]: task["state"] for task in tasks}


def until(happened: Callable[[], Any], seconds: float = 300) -> Any:
    """What it says as soon as it says something."""
    end = time.monotonic() + seconds
    while not (found := happened()):
        assert time.monotonic() < end
        time.sleep(0.3)
    return found


def belongs(process: psutil.Process, home: Path) -> bool:
    """A process that was started for this home and still runs."""
    try:
        return process.environ().get("MEDISCALE_HOME") == str(home) and process.pid != os.getpid()
    except psutil.Error:
        return False


@pytest.fixture(scope="module")
def airflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Airflow]:
    home = tmp_path_factory.mktemp("standalone")
    program, mediscale = home / "program", str(Path(sys.executable).with_name("mediscale"))
    program.write_text(PROGRAM.format(python=sys.executable, mediscale=mediscale))
    program.chmod(0o755)
    around = {**os.environ, "MEDISCALE_HOME": str(home), "MEDISCALE_COMMAND": str(program)}
    in_background = ["/bin/sh", "-c", 'trap "" INT; exec "$@"', "sh"]  # as a script's `&` starts it
    command = [*in_background, mediscale, "airflow", "--port", str(free_ports(1)[0])]
    process = subprocess.Popen(command, env=around, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if told := re.match(r"(http://127\.0\.0\.1:\d+)   user admin   password (\S+)", line):
            break
    else:
        pytest.fail(f"Airflow ended with {process.wait()}")
    threading.Thread(target=process.stdout.read, daemon=True).start()
    yield Airflow(process, told[1], told[2], home)
    parts = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGTERM)
    assert process.wait(120) == 0
    assert psutil.wait_procs(parts, 30)[1] == []
    until(lambda: not [p for p in psutil.process_iter() if belongs(p, home)], 30)


def test_the_printed_password_opens_it_and_no_other(airflow: Airflow) -> None:
    assert airflow.log_in("guess") == 401
    assert airflow.log_in(airflow.password) in (200, 201)


def test_the_dags_are_there_and_run_fails_with_the_stage_s_sentence(airflow: Airflow, tmp_path: Path) -> None:
    airflow.log_in(airflow.password)
    dags = until(lambda: len(found := airflow.ask("/api/v2/dags")[1]["dags"]) == 7 and found)
    assert {dag["dag_id"].removeprefix("mediscale_") for dag in dags} == {
        "features", "retraining", "drift", "drill", "promotion", "loop", "language"
    }  # fmt: skip
    assert airflow.ask("/api/v2/dags/mediscale_loop", {"is_paused": False}, "PATCH")[0] == 200
    conf = {"source": "mimic-iv", "path": str(tmp_path)}  # an empty folder
    status, run = airflow.ask("/api/v2/dags/mediscale_loop/dagRuns", {"logical_date": None, "conf": conf})
    assert status == 200
    it = f"/api/v2/dags/mediscale_loop/dagRuns/{run['dag_run_id']}"
    until(lambda: airflow.ask(it)[1]["state"] in ("failed", "success"))
    assert airflow.ask(it)[1]["state"] == "failed"
    assert "mediscale: " in json.dumps(airflow.ask(f"{it}/taskInstances/prepare_source/logs/1")[1])


def listening(process: psutil.Process) -> set[str]:
    """Addresses that a process listens on; none when it has ended since, as those of tasks do."""
    with suppress(psutil.NoSuchProcess):
        found = process.net_connections("inet")
        return {connection.laddr.ip for connection in found if connection.status == psutil.CONN_LISTEN}
    return set()


def test_it_listens_to_this_machine_alone(airflow: Airflow) -> None:
    until(lambda: all(airflow.component(name) for name in ("scheduler", "dag-processor", "triggerer")))
    parts = psutil.Process(airflow.process.pid).children(recursive=True)
    addresses = set[str]().union(*map(listening, parts))
    assert addresses
    assert addresses <= {"127.0.0.1", "::1"}


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


def test_a_run_survives_whatever_is_killed(airflow: Airflow) -> None:
    """The stage with -9, then the scheduler with -9, and a first try that still runs: nothing is done twice."""
    airflow.log_in(airflow.password)
    home, dag = airflow.home, "mediscale_drift"
    for held in ("drift-mortality", "retrain_decision-mortality"):
        (home / f"hold-{held}").touch()
    with exclusive(Settings(home=home), "drift-readmission", "A first try"):
        airflow.ask(f"/api/v2/dags/{dag}", {"is_paused": False}, "PATCH")
        run = until(lambda: airflow.ask(f"/api/v2/dags/{dag}/dagRuns")[1]["dag_runs"])[0]["dag_run_id"]
        os.kill(holder(home, "drift-mortality"), signal.SIGKILL)
        until(lambda: airflow.states(dag, run)["drift_mortality"] == "up_for_retry")
        assert "The stage was killed by SIGKILL" in said(airflow, dag, run, "drift_mortality")
        (home / "hold-drift-mortality").unlink()
        again = {"dry_run": False, "task_ids": ["drift_mortality"], "dag_run_id": run, "only_failed": False}
        assert airflow.ask(f"/api/v2/dags/{dag}/clearTaskInstances", again)[0] == 200
        holder(home, "retrain_decision-mortality")
        until(lambda: "already running here" in said(airflow, dag, run, "drift_readmission"))
        killed = airflow.component("scheduler")
        assert killed
        killed.kill()
        until(lambda: airflow.component("scheduler", other_than=killed.pid))
        log = (home / "airflow" / "airflow.log").read_text()
        assert "airflow scheduler ended with code 137 and is started again" in log
    (home / "hold-retrain_decision-mortality").unlink()
    state = until(
        lambda: airflow.ask(f"/api/v2/dags/{dag}/dagRuns/{run}")[1]["state"] in ("success", "failed")
    )
    skipped = dict.fromkeys(("publish_mortality", "publish_readmission", "question_drift"), "skipped")
    assert airflow.states(dag, run) == dict.fromkeys(STEPS, "success") | skipped, state
    assert sorted((home / "done").read_text().split()) == sorted(
        "-".join(step.rsplit("_", 1)) for step in STEPS
    )


STEPS = tuple(
    f"{stage}_{task}"
    for task in ("mortality", "readmission")
    for stage in ("drift", "performance_series", "retrain_decision")
)


def holder(home: Path, scope: str) -> int:
    """The process that has the lock."""
    lock = home / "locks" / f"{scope}.lock"
    return int(until(lambda: lock.exists() and lock.read_text()))


def said(airflow: Airflow, dag: str, run: str, task: str) -> str:
    return json.dumps(airflow.ask(f"/api/v2/dags/{dag}/dagRuns/{run}/taskInstances/{task}/logs/1")[1])
