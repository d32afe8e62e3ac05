"""Alerts that fire and that do not, who is told, and a real Prometheus that scrapes the image's server by its own
configuration and evaluates every expression of rules and dashboards."""

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

ROOT = Path(__file__).parents[2]
PROMETHEUS = ROOT / "infra" / "prometheus"
DASHBOARDS = sorted((ROOT / "infra" / "grafana" / "dashboards").glob("*.json"))


def test_every_alert_fires_when_it_should_and_is_silent_on_an_ordinary_day(tool) -> None:
    assert "SUCCESS" in tool("promtool", "check", "rules", PROMETHEUS / "rules.yaml")
    tool("promtool", "test", "rules", PROMETHEUS / "rules.test.yaml")


def test_a_rule_with_a_wrong_threshold_fails_its_test(tool, tmp_path: Path) -> None:
    rules = (PROMETHEUS / "rules.yaml").read_text().replace("mediscale_ready == 0", "mediscale_ready == 2")
    (tmp_path / "rules.yaml").write_text(rules)
    tests = tmp_path / "rules.test.yaml"
    tests.write_text((PROMETHEUS / "rules.test.yaml").read_text())
    assert "ServerNotReady" in tool("promtool", "test", "rules", tests, fails=True)


@pytest.mark.parametrize(("severity", "receiver"), [("critical", "on-call"), ("warning", "team")])
def test_severity_decides_who_is_told(tool, severity: str, receiver: str) -> None:
    configuration = PROMETHEUS / "alertmanager.yaml"
    tool("amtool", "check-config", configuration)
    route = ("config", "routes", "test", "--config.file", configuration)
    assert tool("amtool", *route, f"severity={severity}").splitlines()[0] == receiver


class Told(BaseHTTPRequestHandler):
    """What Prometheus sends to Alertmanager, whose own routes ``amtool`` tells. Debian's Alertmanager does not start
    from a folder."""

    alerts: list[dict[str, Any]] = []

    def do_POST(self) -> None:
        self.alerts.extend(json.loads(self.rfile.read(int(self.headers["content-length"]))))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def alertmanager() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), Told)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()


@pytest.fixture(scope="module")
def prometheus(
    image_server, free_port, alertmanager: str, program, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[httpx.Client]:
    """Prometheus by its own files, but for addresses, secrets' places and patience."""
    folder, address = tmp_path_factory.mktemp("prometheus"), f"127.0.0.1:{free_port()}"
    (folder / "key").write_text(image_server.engineer)
    said = (PROMETHEUS / "prometheus.yaml").read_text()
    for ours, here in {
        "/run/secrets/tls_ca": str(image_server.certificate),
        "/run/secrets/prometheus_key": str(folder / "key"),
        "[serving:8443]": f"[{image_server.address.removeprefix('https://')}, '127.0.0.1:1']",
        "alertmanager:9093": alertmanager,
        ": 15s": ": 1s",
    }.items():
        assert ours in said
        said = said.replace(ours, here)
    (folder / "prometheus.yaml").write_text(said)
    (folder / "rules.yaml").write_text(_impatient((PROMETHEUS / "rules.yaml").read_text()))
    files = (f"--config.file={folder}/prometheus.yaml", f"--storage.tsdb.path={folder}/data")
    process = program("prometheus", *files, f"--web.listen-address={address}")
    with httpx.Client(base_url=f"http://{address}", timeout=30) as client:
        yield client
    process.terminate()
    process.wait(60)


def _impatient(rules: str) -> str:
    """The rules without what keeps an alert back."""
    said = yaml.safe_load(rules)
    for rule in (rule for group in said["groups"] for rule in group["rules"]):
        rule.pop("for", None)
    for group in said["groups"]:
        group.pop("interval", None)
    return yaml.safe_dump(said)


def ask(client: httpx.Client, expression: str) -> list[dict[str, Any]]:
    response = client.get("/api/v1/query", params={"query": expression})
    if response.status_code == 503:  # it starts
        return []
    answer = response.json()
    assert answer["status"] == "success", answer
    result: list[dict[str, Any]] = answer["data"]["result"]
    return result


def until(look: Any, what: str) -> Any:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        try:
            if found := look():
                return found
        except httpx.TransportError:
            pass
        time.sleep(0.5)
    pytest.fail(f"{what} did not happen in two minutes")


def test_prometheus_scrapes_the_server_by_tls_with_an_engineers_key(prometheus: httpx.Client) -> None:
    seen = until(lambda: ask(prometheus, 'mediscale_ready{job="mediscale-serving"}'), "a scrape")
    assert [float(one["value"][1]) for one in seen] == [1]


@pytest.mark.parametrize("file", DASHBOARDS, ids=lambda file: file.stem)
def test_every_panel_shows_numbers_of_a_live_server(
    prometheus: httpx.Client, image_server, file: Path
) -> None:
    for panel in json.loads(file.read_text())["panels"]:
        for target in panel["targets"]:
            expression = target["expr"].replace("$job", "mediscale-serving")

            def look(expression: str = expression) -> Any:
                image_server.client.post("/predict", json={"age": 67, "blood_pressure": 140})
                image_server.client.post("/predict", json={"age": "none"})
                return [one for one in ask(prometheus, expression) if one["value"][1] != "NaN"]

            until(look, f"{panel['title']} of {file.name}: {expression}")


def test_every_recorded_series_has_numbers(prometheus: httpx.Client) -> None:
    groups = yaml.safe_load((PROMETHEUS / "rules.yaml").read_text())["groups"]
    recorded = [rule["record"] for group in groups for rule in group["rules"] if "record" in rule]
    assert recorded
    for name in set(recorded) - {"mediscale:failed_requests:rate5m", "mediscale:failed_requests:ratio5m"}:
        until(lambda name=name: ask(prometheus, name), name)


def test_no_rule_is_broken_and_a_server_that_is_gone_reaches_alertmanager(prometheus: httpx.Client) -> None:
    def rules() -> list[dict[str, Any]]:
        groups = prometheus.get("/api/v1/rules").json()["data"]["groups"]
        return [rule for group in groups for rule in group["rules"] if rule["health"] != "unknown"]

    assert {rule["health"] for rule in until(rules, "an evaluation")} == {"ok"}
    gone = [("ServerDown", "127.0.0.1:1")]
    until(
        lambda: set(gone) <= {(one["alertname"], one.get("instance")) for one in told()}, "the alert of one"
    )


def test_a_night_that_failed_reaches_alertmanager_without_a_cluster(prometheus: httpx.Client) -> None:
    until(lambda: ask(prometheus, 'mediscale_stage_failed{stage="gold", task="mortality"} == 1'), "a scrape")
    until(
        lambda: [one for one in told() if (one["alertname"], one.get("stage")) == ("NightFailed", "gold")],
        "the alert of the night",
    )


def told() -> list[dict[str, str]]:
    return [alert["labels"] for alert in Told.alerts]
