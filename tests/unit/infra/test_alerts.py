"""Every alert has a test each way and a page, and rules and dashboards name metrics that the server has."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from serving.metrics.prometheus_metrics import Metrics

ROOT = Path(__file__).parents[3]
PROMETHEUS = ROOT / "infra" / "prometheus"
GROUPS = yaml.safe_load((PROMETHEUS / "rules.yaml").read_text())["groups"]
RULES: list[dict[str, Any]] = [rule for group in GROUPS for rule in group["rules"]]
ALERTS = {rule["alert"]: rule for rule in RULES if "alert" in rule}
DASHBOARDS = sorted((ROOT / "infra" / "grafana" / "dashboards").glob("*.json"))
OTHERS = r"kube_|kubelet_"
"""Metrics of a cluster."""


def cases() -> dict[str, set[bool]]:
    """By alert whether a test wants it to fire, each way that one does."""
    wanted: dict[str, set[bool]] = {}
    for test in yaml.safe_load((PROMETHEUS / "rules.test.yaml").read_text())["tests"]:
        for case in test["alert_rule_test"]:
            wanted.setdefault(case["alertname"], set()).add(bool(case["exp_alerts"]))
    return wanted


def test_every_alert_has_a_test_in_which_it_fires_and_one_in_which_it_does_not() -> None:
    assert cases() == {name: {True, False} for name in ALERTS}


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_says_how_severe_it_is_and_where_its_page_is(name: str) -> None:
    alert = ALERTS[name]
    assert alert["labels"]["severity"] in ("critical", "warning")
    page, _, anchor = alert["annotations"]["runbook"].partition("#")
    section = re.search(rf"^### {name}\n(\w+)[.,]", (ROOT / page).read_text(), re.MULTILINE)
    assert anchor == name.lower()
    assert section, f"{page} says nothing of {name}"
    assert section[1].lower() == alert["labels"]["severity"]
    assert alert["annotations"]["summary"].endswith(".")


def test_the_page_has_no_alert_that_does_not_exist() -> None:
    assert set(re.findall(r"^### (\w+)$", (ROOT / "docs" / "alerts.md").read_text(), re.MULTILINE)) == set(
        ALERTS
    )


def expressions() -> list[str]:
    of_panels = [
        target["expr"]
        for file in DASHBOARDS
        for panel in json.loads(file.read_text())["panels"]
        for target in panel["targets"]
    ]
    return [*of_panels, *(rule["expr"] for rule in RULES)]


@pytest.mark.parametrize("expression", expressions())
def test_an_expression_names_metrics_that_the_server_has(expression: str) -> None:
    recorded = {rule["record"] for rule in RULES if "record" in rule}
    exposed = set(re.findall(r"^# TYPE (\w+)", Metrics().exposition().decode(), re.MULTILINE))
    exposed |= {f"{name}{part}" for name in exposed for part in ("_bucket", "_count", "_sum")}
    named = set(re.findall(r"\bmediscale[\w:]*", re.sub(r'"[^"]*"|by \([^)]*\)', "", expression)))
    assert named - recorded - exposed == set()
    assert named or "up{" in expression or re.search(OTHERS, expression)


@pytest.mark.parametrize("file", DASHBOARDS, ids=lambda file: file.stem)
def test_a_panel_says_what_it_shows(file: Path) -> None:
    for panel in json.loads(file.read_text())["panels"]:
        assert panel["description"].endswith(".")
