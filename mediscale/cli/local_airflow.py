"""Airflow on this machine: ``airflow standalone`` and ``airflow dags test``, with our DAGs and a home inside ours.

Airflow is never imported here: it reconfigures the logging of a process, and it is installed in an environment of
its own, where no ML library is.
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
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from mediscale.core.datasets import SIZES
from mediscale.core.errors import BusyError, MediscaleError, UsageError
from mediscale.core.settings import Settings
from mediscale.pipeline.call import RunConfig
from mediscale.pipeline.runtime_inputs import Source
from mediscale.storage import durable_files, signing

ROOT = Path(__file__).parents[2]
AIRFLOW = ROOT / ".venv-airflow" / "bin" / "airflow"
USER = "admin"
LOOPBACK, EVERYWHERE = "127.0.0.1", "0.0.0.0"
"""Everywhere: in a container, whose port is then published on loopback."""
_PASSWORDS = "passwords.json"
_START_SECONDS = 600.0


def environment(settings: Settings) -> dict[str, str]:
    """Environment variables of Airflow and its tasks: this process's, and Airflow's settings.

    Raises:
        UsageError: Airflow's environment was not built, or what a scheduled run takes (MEDISCALE_DATASET,
            MEDISCALE_SIZE) is not possible.
        InputError: MEDISCALE_SOURCE names no source.
    """
    if not AIRFLOW.exists():
        raise UsageError("Airflow's own environment is not built; run `make airflow-env`.")
    _check_dag_defaults()
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
        "MEDISCALE_TRUST": str(settings.trust),
        **signing.service_settings(settings, "airflow"),
        "MEDISCALE_COMMAND": os.environ.get(
            "MEDISCALE_COMMAND", str(Path(sys.executable).with_name("mediscale"))
        ),
    }


def _check_dag_defaults() -> None:
    """Refuses a default that a DAG parameter does not allow: Airflow would leave out the whole DAG."""
    source, path, dataset, size = (
        os.environ.get(f"MEDISCALE_{name}", "") for name in ("SOURCE", "PATH", "DATASET", "SIZE")
    )
    if size not in ("", *SIZES):
        raise UsageError(f"MEDISCALE_SIZE is one of {', '.join(SIZES)}.")
    source = "" if source == _PARAM_DEFAULTS["source"] else source
    if source:
        from data_pipeline.ingest.source import load

        load(source)
    Source(source=source, path=path, dataset=dataset).check()


_PARAM_DEFAULTS = {"source": "synthetic", "path": None, "dataset": None, "size": "small"}
"""Values of the DAG's parameters that the caller leaves empty; MEDISCALE_SOURCE and its like do not count then."""
_DAGS = {
    "risk": ("mediscale_loop", _PARAM_DEFAULTS),
    "language": ("mediscale_language", {"source": "own", "path": None, "dataset": None}),
}
"""Of each pipeline the DAG, and the same of its parameters."""


def run_loop(settings: Settings, which: Source, config: RunConfig, run_id: str, log: TextIO) -> bool:
    """Runs a pipeline's DAG once with ``airflow dags test``: no scheduler, no server; whether it succeeded."""
    env = environment(settings) | {"MEDISCALE_ACTOR": signing.actor(settings)}
    migrate(env, log)
    name, usual = _DAGS[which.pipeline]
    params = {param: which.as_arguments[param] or value for param, value in usual.items()}
    conf = {**params, "config": config, "run_id": run_id}
    command = [str(AIRFLOW), "dags", "test", name, "--conf", json.dumps(conf)]
    return subprocess.run(command, env=env, stdout=log, stderr=log, check=False).returncode == 0


def migrate(env: dict[str, str], log: TextIO) -> None:
    """Creates or upgrades Airflow's database, once per Airflow release."""
    home = Path(env["AIRFLOW_HOME"])
    stamp, release = home / "migrated", (ROOT / "requirements" / "airflow.txt").read_text()
    if stamp.exists() and stamp.read_text() == release:
        return
    home.mkdir(parents=True, exist_ok=True)
    command = [str(AIRFLOW), "db", "migrate"]
    if subprocess.run(command, env=env, stdout=log, stderr=log, check=False).returncode:
        raise MediscaleError(f"Airflow's database in {home} can't be made; {log.name} says why.")
    stamp.write_text(release)


def standalone(settings: Settings, port: int, host: str = LOOPBACK) -> int:
    """Runs ``airflow standalone`` with our DAGs until a person stops it; on loopback alone unless a host is given.

    Raises:
        BusyError: the port is taken.
        MediscaleError: Airflow ended by itself, or did not answer in time.
    """
    env = standalone_environment(settings, port, host)
    check_port_is_free(port, host)
    home = Path(env["AIRFLOW_HOME"])
    home.mkdir(parents=True, exist_ok=True)
    password, log = read_or_create_password(home / _PASSWORDS), home / "airflow.log"
    print(f"Airflow starts; this takes a minute or two, and {log} tells what it does.", flush=True)
    for stop in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(stop) != signal.SIG_IGN:  # as nohup asks
            signal.signal(stop, signal.default_int_handler)
    log.unlink(missing_ok=True)
    try:
        with log.open("a") as stream, _process_group([str(AIRFLOW), "standalone"], env, stream) as process:
            address = env["AIRFLOW__API__BASE_URL"]
            wait_until_healthy(process, address, log)
            login = f"user {USER}   password {password}"
            print(f"{address}   {login}   Ctrl-C stops it", flush=True)
            process.wait()
    except KeyboardInterrupt:
        print("Airflow stops; runs go on when it is started again.")
        return 0
    raise MediscaleError(f"Airflow ended by itself; {log} says why. The same command starts it again.")


@contextmanager
def _process_group(
    command: list[str], env: dict[str, str], log: TextIO
) -> "Iterator[subprocess.Popen[bytes]]":
    """A process in a group of its own, which SIGINT ends whoever started us, and of which none is left at the end."""
    inherited = signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # a script's background job ignores it
    process = subprocess.Popen(command, env=env, stdout=log, stderr=log, start_new_session=True)
    signal.signal(signal.SIGINT, inherited)
    try:
        yield process
    except KeyboardInterrupt:
        process.send_signal(signal.SIGINT)
        process.wait()  # tasks that run may end; a second Ctrl-C does not wait for them
        raise
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def standalone_environment(settings: Settings, port: int, host: str = LOOPBACK) -> dict[str, str]:
    """Environment variables of ``airflow standalone``; its parts find each other on loopback."""
    near = LOOPBACK if host == EVERYWHERE else host
    env, address = environment(settings), f"http://{near}:{port}"
    command = ROOT / "infra" / "airflow"  # folder of the command that starts each of its processes
    return {
        **env,
        "AIRFLOW__API__HOST": host,
        "AIRFLOW__API__PORT": str(port),
        "AIRFLOW__API__BASE_URL": address,
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{address}/execution/",
        "PATH": f"{command}:{env['PATH']}",
        "PYTHONUNBUFFERED": "1",  # the log tells at once what happens
    }


def check_port_is_free(port: int, host: str) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            raise BusyError(
                f"Port {port} is taken; stop what holds it, or choose another: mediscale airflow --port N."
            ) from None


def read_or_create_password(file: Path) -> str:
    """Password of the user ``admin``, created at the first start and kept: Airflow would print its own into a log."""
    if file.exists():
        password: str = json.loads(file.read_text())[USER]
        return password
    password = secrets.token_urlsafe(12)
    durable_files.replace(file, json.dumps({USER: password}))
    return password


def wait_until_healthy(process: "subprocess.Popen[bytes]", address: str, log: Path) -> None:
    """Waits until the API answers.

    Raises:
        MediscaleError: Airflow ended first, or the API did not answer in time.
    """
    end = time.monotonic() + _START_SECONDS
    while time.monotonic() < end:
        if process.poll() is not None:
            raise MediscaleError(f"Airflow ended while it started; {log} says why.")
        try:
            with urllib.request.urlopen(f"{address}/api/v2/monitor/health", timeout=5):  # noqa: S310 -- http
                return
        except (urllib.error.URLError, OSError):
            time.sleep(1)
    raise MediscaleError(f"Airflow did not answer in {_START_SECONDS:.0f} s; {log} says why.")
