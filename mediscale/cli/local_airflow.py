"""Airflow on this machine: its own environment, its home inside ours, everything on loopback.

Airflow is never imported here: it reconfigures the logging of a process, and lives where no ML library does.
"""

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from mediscale.core.datasets import SIZES
from mediscale.core.errors import BusyError, MediscaleError, UsageError
from mediscale.core.settings import Settings
from mediscale.pipeline import runtime_inputs

ROOT = Path(__file__).parents[2]
AIRFLOW = ROOT / ".venv-airflow" / "bin" / "airflow"
USER = "admin"
_PASSWORDS = "passwords.json"
_START_SECONDS = 600.0
_LEAST_SECONDS = 60.0
"""What a part lives at least; one that ends sooner, more than ``_MOST_SHORT`` times in a row, is not started again."""
_MOST_SHORT = 2


def environment(settings: Settings) -> dict[str, str]:
    """What Airflow and its tasks need to know, on top of this process's environment.

    Raises:
        UsageError: Airflow's environment was not built, or what a scheduled run takes (MEDISCALE_DATASET,
            MEDISCALE_SIZE) is not possible.
        InputError: MEDISCALE_SOURCE names no source.
    """
    if not AIRFLOW.exists():
        raise UsageError("Airflow's own environment is not built; run `make airflow-env`.")
    _check_usual()
    home = settings.home / "airflow"
    return {
        **os.environ,
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "dags"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__PARALLELISM": "2",  # a stage holds a JVM of some gigabytes
        "AIRFLOW__WORKERS__EXECUTION_API_TIMEOUT": "60",  # five seconds are little for a laptop at work
        "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "300",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": f"{USER}:admin",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(home / _PASSWORDS),
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
        "PATH": f"{AIRFLOW.parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "MEDISCALE_HOME": str(settings.home),
        "MEDISCALE_COMMAND": os.environ.get(
            "MEDISCALE_COMMAND", str(Path(sys.executable).with_name("mediscale"))
        ),
    }


def _check_usual() -> None:
    """Airflow would drop a DAG whose parameters have a default that they do not allow."""
    source, path, dataset, size = (
        os.environ.get(f"MEDISCALE_{name}", "") for name in ("SOURCE", "PATH", "DATASET", "SIZE")
    )
    if size not in ("", *SIZES):
        raise UsageError(f"MEDISCALE_SIZE is one of {', '.join(SIZES)}.")
    source = "" if source == _NOT_GIVEN["source"] else source
    if source:
        from data_pipeline.ingest.source import load

        load(source)
    runtime_inputs.check_choice("", source, path, dataset)


_NOT_GIVEN = {"source": "synthetic", "path": None, "dataset": None, "size": "small"}
"""What the DAG's parameters are where nothing was asked for, whatever the scheduled runs of this place get."""


def run_loop(
    settings: Settings, which: Mapping[str, str], config: Mapping[str, Mapping[str, Any]], log: TextIO
) -> bool:
    """Runs the loop's DAG once, without a scheduler or a server; whether it succeeded."""
    around = environment(settings) | {"MEDISCALE_ACTOR": runtime_inputs.actor()}
    migrate(around, log)
    conf = {name: value or _NOT_GIVEN[name] for name, value in which.items()} | {"config": config}
    command = [str(AIRFLOW), "dags", "test", "mediscale_loop", "--conf", json.dumps(conf)]
    return subprocess.run(command, env=around, stdout=log, stderr=log, check=False).returncode == 0


def migrate(around: dict[str, str], log: TextIO) -> None:
    """Makes or upgrades Airflow's database, once per Airflow release."""
    home = Path(around["AIRFLOW_HOME"])
    done, release = home / "migrated", (ROOT / "requirements" / "airflow.txt").read_text()
    if done.exists() and done.read_text() == release:
        return
    home.mkdir(parents=True, exist_ok=True)
    command = [str(AIRFLOW), "db", "migrate"]
    if subprocess.run(command, env=around, stdout=log, stderr=log, check=False).returncode:
        raise MediscaleError(f"Airflow's database in {home} can't be made; {log.name} says why.")
    done.write_text(release)


def standalone(settings: Settings, port: int) -> int:
    """Starts Airflow with our DAGs, says where it answers and to whom, and stays until it is stopped.

    Raises:
        BusyError: the port is taken.
    """
    around = environment(settings) | _on_loopback(port)
    refuse_taken(port)
    home = Path(around["AIRFLOW_HOME"])
    home.mkdir(parents=True, exist_ok=True)
    password, log = _password(home / _PASSWORDS), home / "airflow.log"
    print(f"Airflow starts; this takes a minute or two, and {log} tells what it does.", flush=True)
    with log.open("w") as stream:
        migrate(around, stream)
        for stop in (signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(stop) != signal.SIG_IGN:  # as nohup asks
                signal.signal(stop, signal.default_int_handler)
        with _components(around, stream) as parts:
            await_answer(parts, port, log)
            print(
                f"http://127.0.0.1:{port}   user {USER}   password {password}   Ctrl-C stops it", flush=True
            )
            return _keep_up(parts)


_COMPONENTS = (["api-server"], ["scheduler", "--skip-serve-logs"], ["dag-processor"])
"""What ``airflow standalone`` starts, less what listens beyond loopback (logs are read from files here) and less the
triggerer, which nothing of ours needs."""


@dataclass
class Part:
    """One of Airflow's processes, in a process group of its own; started again when it ends by itself."""

    command: list[str]
    around: dict[str, str]
    log: TextIO
    started: float = 0.0
    short: int = 0
    """Times in a row that it ended soon after its start."""
    groups: list[int] = field(default_factory=list)
    """Of every process that it was: the workers of one that was killed go on with their tasks."""

    def __post_init__(self) -> None:
        self.start()

    def start(self) -> None:
        self.started = time.monotonic()
        self.groups = [
            group for group in self.groups if _lives(group)
        ]  # the number of an ended one is given again
        self.process = subprocess.Popen(
            [str(AIRFLOW), *self.command],
            env=self.around,
            stdout=self.log,
            stderr=self.log,
            start_new_session=True,
        )
        self.groups.append(self.process.pid)

    def ended(self) -> bool:
        return self.process.poll() is not None

    def start_again(self) -> None:
        """Raises: MediscaleError: it ends so soon, again and again, that it would end again."""
        self.short = self.short + 1 if time.monotonic() - self.started < _LEAST_SECONDS else 0
        if self.short > _MOST_SHORT:
            raise MediscaleError(
                f"Airflow's {self.command[0]} ends as soon as it starts; {self.log.name} says why."
            )
        print(f"Airflow's {self.command[0]} ended by itself and is started again; runs go on.", flush=True)
        self.start()

    def kill(self) -> None:
        """Idle workers that outlived it, which listen to nobody else, too."""
        for group in self.groups:
            with suppress(ProcessLookupError):
                os.killpg(group, signal.SIGKILL)


def _lives(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


@contextmanager
def _components(around: dict[str, str], log: TextIO) -> Iterator[list[Part]]:
    parts: list[Part] = []
    try:
        parts.extend(Part(command, around, log) for command in _COMPONENTS)
        yield parts
    finally:
        try:
            for part in parts:
                part.process.terminate()
            for part in parts:
                part.process.wait()
        finally:  # also when a person is tired of waiting for tasks that end
            for part in parts:
                part.kill()


def _keep_up(parts: list[Part]) -> int:
    """Until a person stops it."""
    try:
        while True:
            for part in parts:
                if part.ended():
                    part.start_again()
            time.sleep(1)
    except KeyboardInterrupt:
        print("Airflow stops; runs go on when it is started again.")
        return 0


def _on_loopback(port: int) -> dict[str, str]:
    here = f"http://127.0.0.1:{port}"
    return {
        "AIRFLOW__API__HOST": "127.0.0.1",
        "AIRFLOW__API__PORT": str(port),
        "AIRFLOW__API__BASE_URL": here,
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{here}/execution/",
    }


def refuse_taken(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            raise BusyError(
                f"Port {port} is taken; stop what holds it, or choose another: mediscale airflow --port N."
            ) from None


def _password(file: Path) -> str:
    """Ours rather than one that Airflow prints among its logs; kept, so that a restart does not change it."""
    if file.exists():
        kept: str = json.loads(file.read_text())[USER]
        return kept
    password = secrets.token_urlsafe(12)
    part = file.with_suffix(".part")
    part.touch(mode=0o600)
    part.write_text(json.dumps({USER: password}))
    part.replace(file)
    return password


def await_answer(parts: list[Part], port: int, log: Path) -> None:
    """Waits until the API answers."""
    end = time.monotonic() + _START_SECONDS
    while time.monotonic() < end:
        if any(part.ended() for part in parts):
            raise MediscaleError(f"Airflow ended while it started; {log} says why.")
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v2/monitor/health", timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(1)
    raise MediscaleError(f"Airflow did not answer in {_START_SECONDS:.0f} s; {log} says why.")
