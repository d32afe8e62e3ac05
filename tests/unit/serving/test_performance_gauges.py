"""What alerts and dashboards see of how good the answers are."""

import math
from datetime import UTC
from typing import Any

import pytest
from fixtures import performance_tables
from fixtures.performance_tables import AS_OF
from prometheus_client.parser import text_string_to_metric_families

from mediscale.core.errors import StorageError
from mediscale.core.settings import Settings
from mediscale.storage import lake
from serving.metrics.performance_gauges import PerformanceGauges
from serving.metrics.prometheus_metrics import Metrics

Seen = dict[tuple[str, ...], float]


class Exposed:
    def __init__(self, settings: Settings) -> None:
        self.metrics = Metrics()
        self.gauges = PerformanceGauges(settings, "synthetic", self.metrics)

    def samples(self, name: str, version: int = 1) -> Seen:
        """Values by basis, metric and subgroup of the version."""
        self.gauges.refresh({"mortality": version})
        families = text_string_to_metric_families(self.metrics.exposition().decode())
        labels = ("basis", "metric", "attribute", "value")
        return {
            tuple(sample.labels[label] for label in labels): sample.value
            for family in families
            for sample in family.samples
            if sample.name == name and sample.labels["model_version"] == str(version)
        }


@pytest.fixture
def exposed(settings: Settings) -> Exposed:
    return Exposed(settings)


def test_the_newest_window_of_each_basis_is_shown(settings: Settings, exposed: Exposed) -> None:
    assert exposed.samples("mediscale_performance") == {}
    performance_tables.write(settings, performance_tables.usual(), "first")
    seen = exposed.samples("mediscale_performance")
    assert math.isnan(seen.pop(("measured", "calibration_slope", "", "")))
    assert seen == {
        ("measured", "auroc", "", ""): 0.71,
        ("measured", "calibration_intercept", "", ""): 0.1,
        ("measured", "auroc", "sex", "female"): 0.8,
        ("estimated", "auroc", "", ""): 0.85,
        ("inputs", "drifted_columns", "", ""): 2,
    }
    assert exposed.samples("mediscale_performance_high")["measured", "auroc", "", ""] == 0.75
    raised = [labels for labels, value in exposed.samples("mediscale_performance_alarm").items() if value]
    assert raised == [("measured", "auroc", "", ""), ("inputs", "drifted_columns", "", "")]
    (known,) = next(iter(exposed.metrics.performance_known.collect())).samples
    assert (known.labels, known.value) == ({"task": "mortality"}, AS_OF.replace(tzinfo=UTC).timestamp())


def test_what_is_no_longer_told_raises_no_alarm(settings: Settings, exposed: Exposed) -> None:
    performance_tables.write(settings, performance_tables.usual(), "first")
    exposed.samples("mediscale_performance")
    performance_tables.write(settings, [performance_tables.figure("estimated", "auroc", 0.8)], "second")
    seen = exposed.samples("mediscale_performance")
    assert {labels for labels, value in seen.items() if not math.isnan(value)} == {
        ("estimated", "auroc", "", "")
    }
    assert set(exposed.samples("mediscale_performance_alarm").values()) == {0}


def test_a_version_that_takes_another_s_place_has_its_own_series_or_none(
    settings: Settings, exposed: Exposed
) -> None:
    performance_tables.write(settings, performance_tables.usual(), "first")
    exposed.samples("mediscale_performance")
    assert exposed.samples("mediscale_performance", version=2) == {}
    exposed.gauges.refresh({"mortality": 2})
    of_older = [line for line in exposed.metrics.exposition().decode().splitlines() if "_alarm{" in line]
    assert of_older
    assert all(line.endswith(" 0.0") for line in of_older)


def test_an_unchanged_table_is_not_read_again(
    settings: Settings, exposed: Exposed, monkeypatch: pytest.MonkeyPatch
) -> None:
    performance_tables.write(settings, performance_tables.usual(), "first")
    before = exposed.samples("mediscale_performance_low")

    def refuse(*_: Any) -> Any:
        raise StorageError("read")

    monkeypatch.setattr(lake, "dataset", refuse)
    assert exposed.samples("mediscale_performance_low").keys() == before.keys()
