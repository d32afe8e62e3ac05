"""What alerts see of the nights, whichever runner ran them."""

import re
from datetime import UTC, datetime

import pytest
from prometheus_client.parser import text_string_to_metric_families

from mediscale.core.errors import StorageError
from mediscale.core.settings import Settings
from mediscale.storage import last_calls
from serving.metrics.night_gauges import NightGauges
from serving.metrics.prometheus_metrics import Metrics

FAILED, SUCCEEDED = "mediscale_stage_failed", "mediscale_stage_succeeded_timestamp_seconds"


def fail(settings: Settings, stage: str, task: str) -> None:
    with pytest.raises(StorageError), last_calls.recording(settings, "h", stage, task):
        raise StorageError("The disk is full.")


def test_a_stage_that_failed_is_seen_until_it_succeeds(settings: Settings) -> None:
    metrics = Metrics()
    gauges = NightGauges(settings, "h", metrics)

    def seen(name: str) -> dict[tuple[str, str], float]:
        gauges.refresh()
        families = text_string_to_metric_families(metrics.exposition().decode())
        samples = [sample for family in families for sample in family.samples if sample.name == name]
        return {(sample.labels["stage"], sample.labels["task"]): sample.value for sample in samples}

    assert seen(FAILED) == {}
    before = datetime.now(UTC).timestamp()
    with last_calls.recording(settings, "h", "silver", ""):
        pass
    with last_calls.recording(settings, "elsewhere", "bronze", ""):
        pass
    fail(settings, "gold", "mortality")
    assert seen(FAILED) == {("silver", ""): 0, ("gold", "mortality"): 1}
    assert seen(SUCCEEDED).keys() == {("silver", "")}
    at = seen(SUCCEEDED)["silver", ""]
    assert before <= at <= datetime.now(UTC).timestamp()
    fail(settings, "silver", "")
    with last_calls.recording(settings, "h", "gold", "mortality"):
        pass
    assert seen(FAILED) == {("silver", ""): 1, ("gold", "mortality"): 0}
    assert seen(SUCCEEDED)["silver", ""] == at


def test_what_a_verification_warned_of_is_logged_once_and_forgotten_when_it_is_mended(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    gauges, said = NightGauges(settings, "h", Metrics()), "The bucket keeps no older versions."
    last_calls.record(settings, "h", "verify", "", failed=False, warnings=(said,))
    gauges.refresh()
    gauges.refresh()
    assert list(gauges.warnings) == [said]
    assert caplog.messages == [said]
    last_calls.record(settings, "h", "verify", "", failed=False)
    gauges.refresh()
    assert not list(gauges.warnings)


def test_why_a_stage_failed_is_said_until_it_succeeds(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    """In the sentence that the console had; of a defect its place and not its message, which may hold values."""
    gauges = NightGauges(settings, "h", Metrics())
    fail(settings, "gold", "mortality")
    with pytest.raises(ValueError, match="Rosalind"), last_calls.recording(settings, "h", "silver", ""):
        raise ValueError("Rosalind, 93")
    gauges.refresh()
    gold, silver = gauges.warnings
    assert re.fullmatch(r"The newest call of gold of mortality failed \(.* UTC\): The disk is full\.", gold)
    assert re.fullmatch(r"The newest call of silver failed \(.* UTC\): ValueError at .*\.py:\d+\.", silver)
    assert sorted(caplog.messages) == [gold, silver]
    for stage, task in (("gold", "mortality"), ("silver", "")):
        with last_calls.recording(settings, "h", stage, task):
            pass
    gauges.refresh()
    assert not gauges.warnings


def test_a_failure_that_can_t_be_written_down_stays_the_error(settings: Settings) -> None:
    settings.home.mkdir(parents=True, exist_ok=True)
    (settings.home / "lake").write_text("no folder")
    fail(settings, "gold", "mortality")
