"""The drill: a real server under load, whose canary raises, is no number, hangs or is ten times as slow."""

from typing import Any

import pytest
from fixtures.language_versions import DATASET

from mediscale.core.settings import Settings
from mediscale.simulation import drill
from mediscale.simulation.broken_server import FAULTS
from mediscale.storage import registry


def test_each_broken_canary_is_given_up_a_rollback_is_followed_and_no_request_fails(
    settings: Settings, promote: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every step has a deadline of minutes; how long it took is told, and no part of the test."""
    promote("mortality", 1)
    # as of a person who triggered the DAG: no key there is theirs
    monkeypatch.setenv("MEDISCALE_ACTOR", "admin")
    caplog.set_level("INFO", "mediscale.simulation.drill")
    result = drill.run(settings, "synthetic")
    for fault, seconds in result.given_up_seconds.items():
        assert f"a canary that {fault} was given up after {seconds:.1f} s" in caplog.text, (
            "a minute is long in silence"
        )
    assert (result.failed, set(result.given_up_seconds)) == (0, set(FAULTS))
    assert result.requests > 100
    assert f"{result.requests:,} requests, 0 failed" in result.summary
    assert len(registry.history(settings, "synthetic")) == 1, "the hospital's own history has no drill in it"
    assert "signing key was made" not in caplog.text, "nobody is to keep a key of a rehearsal"


@pytest.mark.soak
@pytest.mark.only_soak  # each of dozens of answers is written by a network
def test_the_same_of_a_language_model(settings: Settings, promote_language: Any) -> None:
    promote_language(1)
    result = drill.run(settings, DATASET)
    assert (result.failed, set(result.given_up_seconds)) == (0, set(FAULTS))
    assert result.model == f"{DATASET}-language"
