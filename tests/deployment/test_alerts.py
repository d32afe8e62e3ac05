"""Alerts that fire and that do not, who is told, and a real Prometheus that scrapes the image's server by its own
configuration, evaluates every expression of rules and dashboards, and tells a real Alertmanager."""

import json
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from fixtures import http_servers
from fixtures.waiting import until

ROOT = Path(__file__).parents[2]
PROMETHEUS = ROOT / "infra" / "prometheus"
COMPOSE = ROOT / "infra" / "docker" / "compose.yaml"
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


class Pager(BaseHTTPRequestHandler):
    """The hospital's pager and chat, by the path of their address."""

    received: list[tuple[str, dict[str, str]]] = []
    """Who was told, and the labels of the alert."""

    def do_POST(self) -> None:
        message = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.received.extend((self.path, alert["labels"]) for alert in message["alerts"])
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def pager() -> Iterator[str]:
    with http_servers.listening(Pager) as address:
        yield address


@pytest.fixture(scope="module")
def alertmanager(
    pager: str, free_port, program, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[httpx.Client]:
    """Alertmanager by compose.yaml's command and its own file, but for addresses, places and patience."""
    folder, address = tmp_path_factory.mktemp("alertmanager"), f"127.0.0.1:{free_port()}"
    here = {
        "http://pager.hospital.internal/mediscale": f"{pager}/on-call",
        "http://chat.hospital.internal/mediscale": f"{pager}/team",
        "group_wait: 30s": "group_wait: 1s",
        "group_interval: 5m": "group_interval: 1s",
    }
    (folder / "alertmanager.yaml").write_text(replaced((PROMETHEUS / "alertmanager.yaml").read_text(), here))
    words = yaml.safe_load(COMPOSE.read_text())["services"]["alertmanager"]["command"]
    places = {"/etc/prometheus": str(folder), "=/alertmanager": f"={folder}/data"}
    command = replaced("\n".join(words), places).splitlines()
    process = program(
        "alertmanager", *command, f"--web.listen-address={address}", "--cluster.listen-address="
    )
    with httpx.Client(base_url=f"http://{address}", timeout=30) as client:
        until(lambda: client.get("/-/healthy").status_code == 200, "Alertmanager's start")
        yield client
    process.terminate()
    process.wait(60)


def replaced(text: str, parts: Mapping[str, str]) -> str:
    for theirs, ours in parts.items():
        assert theirs in text
        text = text.replace(theirs, ours)
    return text


@pytest.fixture(scope="module")
def prometheus(
    image_server, free_port, alertmanager: httpx.Client, program, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[httpx.Client]:
    """Prometheus by its own files, but for addresses, secrets' places and patience."""
    folder, address = tmp_path_factory.mktemp("prometheus"), f"127.0.0.1:{free_port()}"
    (folder / "key").write_text(image_server.engineer)
    here = {
        "/run/secrets/tls_ca": str(image_server.certificate),
        "/run/secrets/prometheus_key": str(folder / "key"),
        "[serving:8443]": f"[{image_server.address.removeprefix('https://')}, '127.0.0.1:1']",
        "alertmanager:9093": alertmanager.base_url.netloc.decode(),
        ": 15s": ": 1s",
    }
    (folder / "prometheus.yaml").write_text(replaced((PROMETHEUS / "prometheus.yaml").read_text(), here))
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


def test_no_rule_is_broken_and_a_server_that_is_gone_wakes_somebody(prometheus: httpx.Client) -> None:
    def rules() -> list[dict[str, Any]]:
        groups = prometheus.get("/api/v1/rules").json()["data"]["groups"]
        return [rule for group in groups for rule in group["rules"] if rule["health"] != "unknown"]

    assert {rule["health"] for rule in until(rules, "an evaluation")} == {"ok"}
    until(
        lambda: [one for one in told("/on-call", "ServerDown") if one["instance"] == "127.0.0.1:1"], "a page"
    )


def test_a_night_that_failed_wakes_somebody_without_a_cluster(prometheus: httpx.Client) -> None:
    until(lambda: ask(prometheus, 'mediscale_stage_failed{stage="gold", task="mortality"} == 1'), "a scrape")
    until(lambda: [one for one in told("/on-call", "NightFailed") if one["stage"] == "gold"], "a page")


@pytest.mark.usefixtures("prometheus")
def test_a_warning_is_for_the_team_and_not_of_a_server_that_is_gone(tool, alertmanager: httpx.Client) -> None:
    until(lambda: told("/on-call", "ServerDown"), "a page")
    of_server = ("--alertmanager.url", str(alertmanager.base_url), "alertname=Tried", "severity=warning")
    for instance in ("127.0.0.1:1", "127.0.0.1:2"):
        tool("amtool", "alert", "add", *of_server, "job=mediscale-serving", f"instance={instance}")
    until(lambda: told("/team", "Tried"), "a message to the team")
    alerts = alertmanager.get("/api/v2/alerts", params={"filter": "alertname=Tried"}).json()
    inhibited = {one["labels"]["instance"]: bool(one["status"]["inhibitedBy"]) for one in alerts}
    assert inhibited == {"127.0.0.1:1": True, "127.0.0.1:2": False}
    assert {one["instance"] for one in told("/team", "Tried")} == {"127.0.0.1:2"}


def told(receiver: str, name: str) -> list[dict[str, str]]:
    return [labels for path, labels in Pager.received if (path, labels["alertname"]) == (receiver, name)]
