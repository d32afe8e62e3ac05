"""A rolling update fails no request, and a lost replica only those in its hands.

Real servers stand behind HAProxy, which asks the manifest's readiness probe. They are processes of one home on one
machine, where pods have a home each. Each comes back at its own address, as a pod of a StatefulSet gets its name back.
"""

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import Popen
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
import yaml
from component.serving.test_stopping import Load
from fixtures.server_process import Server, Start
from fixtures.waiting import until

from mediscale.core.settings import Settings
from mediscale.storage import lake

ROOT = Path(__file__).parents[2]
REPLICAS, CLIENTS = 3, 6

CONFIG = """
defaults
  mode http
  timeout connect 1s
  timeout client 60s
  timeout server 60s
  option redispatch
  retries 3
frontend clients
  bind 127.0.0.1:{port}
  default_backend replicas
backend replicas
  balance roundrobin
  option httpchk GET {path}
  http-check expect status 200
  default-server check inter {period}s fall {failures} rise 1
"""
"""A connection that a server refuses is tried at another one. A request that a server took and did not answer is not
repeated, for the server may have logged it."""


def readiness() -> dict[str, Any]:
    documents = yaml.safe_load_all((ROOT / "infra/kubernetes/base/serving.yaml").read_text())
    pods = next(each["spec"]["template"]["spec"] for each in documents if each["kind"] == "StatefulSet")
    probe: dict[str, Any] = pods["containers"][0]["readinessProbe"]
    return probe


@pytest.fixture
def replicas(promote: Any, start: Start) -> list[Server]:
    promote("mortality")
    servers = [start() for _ in range(REPLICAS)]
    for server in servers:
        assert server.ask(age=67).status_code == 200
    return servers


@pytest.fixture
def load(
    replicas: list[Server], program: Callable[..., Popen[bytes]], free_port: Callable[[], int], tmp_path: Path
) -> Iterator[Load]:
    """Clients who ask through the balancer."""
    probe, port = readiness(), free_port()
    config = CONFIG.format(
        port=port,
        path=probe["httpGet"]["path"],
        period=probe["periodSeconds"],
        failures=probe["failureThreshold"],
    )
    servers = (f"  server replica{i} {each.host}:{each.port}" for i, each in enumerate(replicas))
    (tmp_path / "haproxy.cfg").write_text("\n".join([config.rstrip(), *servers, ""]))
    balancer = program("haproxy", "-W", "-f", str(tmp_path / "haproxy.cfg"))
    until_ready(f"http://127.0.0.1:{port}")
    clients = Load(SimpleNamespace(host="127.0.0.1", port=port), CLIENTS, kept=True)  # type: ignore[arg-type]
    try:
        yield clients
    finally:
        clients.end()
        balancer.terminate()
        balancer.wait(60)


def until_ready(address: str) -> None:
    until(lambda: httpx.get(f"{address}/ready", timeout=5).status_code == 200, f"{address}'s readiness")


def test_a_rolling_update_fails_no_request(
    settings: Settings, replicas: list[Server], load: Load, start: Start
) -> None:
    period = readiness()["periodSeconds"]
    for server in reversed(replicas):
        os.killpg(server.process.pid, signal.SIGTERM)
        server.process.wait(60)
        until_ready(start(options=["--port", str(server.port)]).address)
        time.sleep(2 * period)  # until the balancer has seen it, too
    outcomes = load.end()
    assert [outcome for outcome in outcomes if outcome.startswith(("failed", "refused"))] == []
    assert len(outcomes) > 100
    logged = lake.read(settings, lake.latest(settings, "synthetic", "predictions"), ["prediction_id"])
    assert len(set(outcomes) & set(logged["prediction_id"].to_pylist())) > 100


def test_a_lost_replica_loses_at_most_what_it_had_in_hand(replicas: list[Server], load: Load) -> None:
    time.sleep(1)
    os.killpg(replicas[0].process.pid, signal.SIGKILL)
    killed_at = time.monotonic()
    time.sleep(5)
    load.end()
    lost = [at for at, outcome in load.outcomes if outcome.startswith(("failed", "refused"))]
    assert len(lost) <= CLIENTS
    assert all(at < killed_at + 1 for at in lost)
    assert sum(at > killed_at + 1 for at, _ in load.outcomes) > 50
