"""Prints infra/prometheus/rules.yaml as the Prometheus operator takes it.

python infra/kubernetes/prometheus_rule.py > infra/kubernetes/monitoring/prometheus-rule.yaml
"""

import sys
from pathlib import Path
from typing import Any

import yaml

RULES = Path(__file__).parents[1] / "prometheus" / "rules.yaml"
HEADER = "# Made from infra/prometheus/rules.yaml by infra/kubernetes/prometheus_rule.py; change that file.\n"


def rendered() -> str:
    rule: dict[str, Any] = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "mediscale"},
        "spec": yaml.safe_load(RULES.read_text()),
    }
    return HEADER + yaml.safe_dump(rule, sort_keys=False, width=1000)


if __name__ == "__main__":
    sys.stdout.write(rendered())
