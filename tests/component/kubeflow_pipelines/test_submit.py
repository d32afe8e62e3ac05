"""A run handed to a cluster, and one sentence for each way in which that fails."""

import json
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest
from fixtures import http_servers
from pydantic import SecretStr

from kubeflow_pipelines import local, submit
from mediscale.core.errors import MediscaleError, UsageError
from mediscale.core.settings import Settings

EXPERIMENT = {"experiment_id": "e1", "display_name": "Default"}


class Cluster(BaseHTTPRequestHandler):
    """Enough of the Kubeflow Pipelines API for one run: no cluster fits into a test."""

    runs: list[dict[str, Any]]

    def do_GET(self) -> None:
        self._answer({"experiments": [EXPERIMENT], **EXPERIMENT})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path.endswith("/runs"):
            self.runs.append(json.loads(body))
        self._answer({"run_id": "r1", **EXPERIMENT})

    def _answer(self, value: dict[str, Any]) -> None:
        allowed = self.headers.get("Authorization") == "Bearer right"
        body = json.dumps(value if allowed else {"error": "no"}).encode()
        self.send_response(200 if allowed else 401)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_arguments: object) -> None:
        pass


@pytest.fixture
def cluster() -> Iterator[str]:
    Cluster.runs = []
    with http_servers.listening(Cluster) as address:
        yield address


def settings_for(settings: Settings, host: str, token: str = "right") -> Settings:
    return Settings(home=settings.home, kfp_host=host, kfp_token=SecretStr(token), kfp_claim="shared")


def test_a_run_is_started_with_its_parameters(cluster: str, settings: Settings) -> None:
    address = submit.submit(settings_for(settings, cluster), {"size": "tiny"})
    assert address == f"{cluster}/#/runs/details/r1"
    (run,) = Cluster.runs
    assert run["runtime_config"]["parameters"] == {"size": "tiny", "home": "/mediscale"}
    spec = run["pipeline_spec"]
    assert spec["pipeline_spec"]["pipelineInfo"]["name"] == "mediscale-train"
    assert "shared" in json.dumps(spec["platform_spec"])


def test_a_wrong_token_is_named(cluster: str, settings: Settings) -> None:
    with pytest.raises(UsageError, match="refuses the token; set MEDISCALE_KFP_TOKEN") as refused:
        submit.submit(settings_for(settings, cluster, "wrong"), {})
    assert "wrong" not in str(refused.value)
    assert Cluster.runs == []


def test_steps_that_would_share_nothing_are_not_started(cluster: str, settings: Settings) -> None:
    alone = settings_for(settings, cluster).model_copy(update={"kfp_claim": ""})
    with pytest.raises(UsageError, match=r"share nothing: .* MEDISCALE_KFP_CLAIM"):
        submit.submit(alone, {})
    assert Cluster.runs == []


def test_no_host_is_named(settings: Settings) -> None:
    with pytest.raises(UsageError, match="set MEDISCALE_KFP_HOST"):
        submit.submit(settings, {})


def test_a_host_that_does_not_answer_is_named(settings: Settings) -> None:
    with pytest.raises(MediscaleError, match=r"http://127.0.0.1:1 does not answer"):
        submit.submit(settings_for(settings, "http://127.0.0.1:1"), {})


def test_without_kfp_the_way_to_it_is_named(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "kfp", None)
    with pytest.raises(UsageError, match="run `make setup`"):
        submit.submit(settings_for(settings, "http://127.0.0.1:1"), {})
    with pytest.raises(UsageError, match="run `make setup`"):
        local.run(settings, "risk", {})
