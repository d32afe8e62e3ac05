"""compose.yaml's services that are plain programs, started from it in its order until each is healthy by its own check;
then each does a little of what it is there for."""

import socket
import struct
import subprocess
from collections.abc import Iterator

import httpx
import pytest
from fixtures import compose_services
from fixtures.compose_services import Machine

pytestmark = pytest.mark.timeout(1800)


@pytest.fixture(scope="module")
def server() -> Iterator[Machine]:
    with compose_services.machine() as machine, machine.up("airflow", "kafka"):
        yield machine


def sql(server: Machine, database: str, question: str) -> str:
    """What PostgreSQL answers to the password of the services."""
    ask = [
        "psql",
        "--host",
        "postgres",
        "--username",
        "mediscale",
        "--no-align",
        "--tuples-only",
        "--dbname",
        database,
    ]
    postgres = server.services["postgres"]
    command = postgres.command([*ask, "--command", question])
    return subprocess.run(
        command, env=postgres.environment, check=True, capture_output=True, text=True
    ).stdout.strip()


def test_mlflow_keeps_what_it_is_told_in_postgresql(server: Machine) -> None:
    mlflow = httpx.Client(base_url=f"http://{server.services['mlflow'].address}:5000", timeout=60)
    made = mlflow.post("/api/2.0/mlflow/experiments/create", json={"name": "tried"})
    assert made.status_code == 200, made.text
    assert sql(server, "mlflow", "SELECT artifact_location FROM experiments WHERE name = 'tried'").startswith(
        "s3://mediscale/models/"
    )
    assert (
        mlflow.get("/api/2.0/mlflow/experiments/search", headers={"Host": "elsewhere.example"}).status_code
        == 403
    )


def test_postgresql_asks_for_its_password(server: Machine) -> None:
    postgres = server.services["postgres"]
    ask = postgres.command(
        ["psql", "--host", "postgres", "--username", "mediscale", "--dbname", "mlflow", "-c", "SELECT 1"]
    )
    refused = subprocess.run(ask, env={"PGPASSWORD": "guessed"}, check=False, capture_output=True, text=True)
    assert "password authentication failed" in refused.stderr


def test_airflow_schedules_on_postgresql(server: Machine) -> None:
    address = f"http://{server.services['airflow'].address}:8080"
    health = httpx.get(f"{address}/api/v2/monitor/health", timeout=60).json()
    assert {health[part]["status"] for part in ("metadatabase", "scheduler")} == {"healthy"}
    assert int(sql(server, "airflow", "SELECT count(*) FROM job")) > 0


def test_kafka_answers_in_its_protocol(server: Machine) -> None:
    """To ApiVersions, the question that a client begins with: its key, version, number and no client's name."""
    request = struct.pack(">hhih", 18, 0, 7, -1)
    with socket.create_connection((server.services["kafka"].address, 9092), timeout=60) as client:
        client.sendall(struct.pack(">i", len(request)) + request)
        _, number, error = struct.unpack(">iih", client.recv(10, socket.MSG_WAITALL))
    assert (number, error) == (7, 0)
