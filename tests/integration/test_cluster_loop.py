"""The whole loop on everything that a cluster has leaves what it leaves on a laptop, and a server answers from it.

The services of compose.yaml, as real processes of this machine: a Spark master with a worker of two executors, a Ray
cluster of two nodes, lake and models in an S3 server, MLflow's server on PostgreSQL.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from fixtures.compose_services import machine
from fixtures.server_process import Server
from fixtures.undisturbed_run import CONFIG, ROOT, finish, start, tables

from mediscale.core.settings import Settings
from mediscale.storage import registry

pytestmark = [pytest.mark.soak, pytest.mark.only_soak, pytest.mark.timeout(7200)]


@pytest.fixture(scope="module")
def cluster_run() -> Iterator[Settings]:
    """``mediscale run`` as the container `platform` has it; the environment stays as it was for the run."""
    with machine() as server, server.up("mlflow", "spark-worker", "ray-worker"):
        platform = server.services["platform"]
        environment = {
            **platform.environment,
            "MEDISCALE_ACTOR": "tester",
            "SPARK_LOCAL_IP": platform.address,
        }
        given = [word for setting in CONFIG for word in ("--set", setting)]
        command = [str(Path(sys.executable).with_name("mediscale")), "run", "--size", "tiny", *given]
        finish(start(command, {**os.environ, **environment}, ROOT))
        with pytest.MonkeyPatch.context() as patch:
            for name, value in environment.items():
                patch.setenv(name, value)
            yield Settings()


def test_every_table_is_that_of_a_laptop(undisturbed_run: Settings, cluster_run: Settings) -> None:
    here = tables(undisturbed_run)
    assert len(here) > 20
    assert tables(cluster_run) == here


def test_every_model_is_that_of_a_laptop(undisturbed_run: Settings, cluster_run: Settings) -> None:
    moves, theirs = (registry.history(home, "synthetic") for home in (undisturbed_run, cluster_run))
    assert [(m.model, m.alias, m.to_version, m.model_digest) for m in theirs] == [
        (m.model, m.alias, m.to_version, m.model_digest) for m in moves
    ]
    assert all(move.model_uri.startswith("s3://mediscale/models/") for move in theirs)


def test_mlflow_s_aliases_in_postgresql_follow_the_history(cluster_run: Settings) -> None:
    assert registry.wrong_aliases(cluster_run, registry.history(cluster_run, "synthetic")) == []


def test_a_server_answers_from_the_store(cluster_run: Settings) -> None:
    server = Server(cluster_run, options=["--dataset", "synthetic", "--alias", "staging"])
    try:
        health = server.client.get("/health").json()
        assert (health["status"], health["problems"]) == ("ready", [])
        assert {model["task"] for model in health["models"]} >= {"mortality"}
        answer = server.ask(age=70, blood_pressure=90)
        assert answer.status_code == 200, answer.text
    finally:
        server.end(signal.SIGTERM)


@pytest.mark.usefixtures("cluster_run")
def test_the_history_is_whole() -> None:
    command = [str(Path(sys.executable).with_name("mediscale")), "verify", "--dataset", "synthetic"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
