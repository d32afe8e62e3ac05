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
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from mediscale.errors import BusyError, MediscaleError, UsageError
from mediscale.settings import Settings

ROOT = Path(__file__).parents[1]
AIRFLOW = ROOT / ".venv-airflow" / "bin" / "airflow"
USER = "admin"
_PASSWORDS = "passwords.json"
_START_SECONDS = 600.0


def environment(settings: Settings) -> dict[str, str]:
    """What Airflow and its tasks need to know, on top of this process's environment.

    Raises:
        UsageError: Airflow's environment was not built.
    """
    if not AIRFLOW.exists():
        raise UsageError("Airflow's own environment is not built; run `make airflow-env`.")
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
        "MEDISCALE_COMMAND": str(Path(sys.executable).with_name("mediscale")),
    }


def run_loop(settings: Settings, which: dict[str, str], log: TextIO) -> bool:
    """Runs the loop's DAG once, without a scheduler or a server; whether it succeeded."""
    around = environment(settings)
    migrate(around, log)
    command = [str(AIRFLOW), "dags", "test", "mediscale_loop", "--conf", json.dumps(which)]
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
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        with _components(around, stream) as parts:
            await_answer(parts, port, log)
            print(
                f"http://127.0.0.1:{port}   user {USER}   password {password}   Ctrl-C stops it", flush=True
            )
            return _until_one_ends(parts, log)


_COMPONENTS = (["api-server"], ["scheduler", "--skip-serve-logs"], ["dag-processor"])
"""What ``airflow standalone`` starts, less what listens beyond loopback (logs are read from files here) and less the
triggerer, which nothing of ours needs."""


@contextmanager
def _components(around: dict[str, str], log: TextIO) -> Iterator[list[subprocess.Popen[bytes]]]:
    parts = [
        subprocess.Popen([str(AIRFLOW), *part], env=around, stdout=log, stderr=log) for part in _COMPONENTS
    ]
    try:
        yield parts
    finally:
        for part in parts:
            part.terminate()
        for part in parts:
            part.wait()


def _until_one_ends(parts: list[subprocess.Popen[bytes]], log: Path) -> int:
    try:
        while all(part.poll() is None for part in parts):
            time.sleep(1)
    except KeyboardInterrupt:
        print("Airflow stops; runs go on when it is started again.")
        return 0
    raise MediscaleError(f"A part of Airflow ended by itself; {log} says why. Start it again: runs go on.")


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
    file.touch(mode=0o600)
    file.write_text(json.dumps({USER: password}))
    return password


def await_answer(parts: list[subprocess.Popen[bytes]], port: int, log: Path) -> None:
    """Waits until the API answers."""
    end = time.monotonic() + _START_SECONDS
    while time.monotonic() < end:
        if any(part.poll() is not None for part in parts):
            raise MediscaleError(f"Airflow ended while it started; {log} says why.")
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v2/monitor/health", timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(1)
    raise MediscaleError(f"Airflow did not answer in {_START_SECONDS:.0f} s; {log} says why.")
