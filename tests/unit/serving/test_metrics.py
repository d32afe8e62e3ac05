"""What the alerts of infra/prometheus/rules.yaml are made from."""

from datetime import UTC, datetime
from typing import Any

from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families

from mediscale.core.settings import Settings
from serving.app import create_app
from serving.log.prediction_log import PredictionLog
from serving.risk.models import Predictors


def samples(client: TestClient) -> dict[tuple[str, str], float]:
    """Value by the sample's name and its label's value."""
    families = text_string_to_metric_families(client.get("/metrics").text)
    return {
        (sample.name, "".join(sample.labels.values())): sample.value
        for family in families
        for sample in family.samples
    }


def test_a_server_says_that_it_is_ready_and_since_when_its_version_is_promoted(client: TestClient) -> None:
    seen = samples(client)
    assert seen["mediscale_ready", ""] == 1
    promoted = datetime.fromtimestamp(seen["mediscale_model_promoted_timestamp_seconds", "mortality"], UTC)
    assert promoted == datetime(2026, 11, 22, 8, tzinfo=UTC)
    assert seen["mediscale_versions_refused", ""] == 0


def test_failures_are_counted_from_zero_so_that_an_alert_sees_the_first(client: TestClient) -> None:
    seen = samples(client)
    for work in ("log", "flush", "left behind", "history", "files", "keys"):
        assert seen["mediscale_failures_total", work] == 0


def test_a_version_whose_files_are_not_those_that_were_promoted_is_counted(
    settings: Settings, promote: Any
) -> None:
    promote("mortality")
    promote("readmission", digest="0" * 64)
    predictors = Predictors(settings, "synthetic", "production")
    with TestClient(create_app(settings, predictors, PredictionLog(settings, "synthetic"))) as client:
        assert samples(client)["mediscale_versions_refused", ""] == 1


def test_a_server_without_a_model_is_not_ready(settings: Settings) -> None:
    predictors = Predictors(settings, "synthetic", "production")
    with TestClient(create_app(settings, predictors, PredictionLog(settings, "synthetic"))) as client:
        assert samples(client)["mediscale_ready", ""] == 0
