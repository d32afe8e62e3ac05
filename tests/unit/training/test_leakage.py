"""Leak checks find every known leak, as a patch of the real pipeline, and raise no alarm about the clean one."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pyarrow as pa
import pytest
from fixtures import leaky_hospital
from fixtures.leaky_hospital import Record, certify

from data_pipeline.cohort import labels, prediction_times
from data_pipeline.features import kernel
from mediscale.core.settings import Settings

Patch = pytest.MonkeyPatch


@pytest.fixture(scope="module")
def recorded() -> Record:
    return leaky_hospital.record()


@pytest.mark.parametrize("task", ["mortality", "readmission"])
def test_no_false_alarm_on_the_clean_pipeline(settings: Settings, recorded: Record, task: str) -> None:
    certificate = certify(settings, recorded, task)
    assert certificate.failed == ()
    assert certificate.passed
    assert certificate.sampled == 100


def _window_by_outcome(patch: Patch) -> None:
    honest = prediction_times.of_stay
    before = timedelta(hours=10)
    patch.setattr(
        prediction_times,
        "of_stay",
        lambda patient, stay, task: stay.death.time - before if stay.death else honest(patient, stay, task),
    )


def _features_by_time_alone(patch: Patch) -> None:
    honest = kernel._rows

    def rows(events: pa.Table, task: str) -> object:
        made, ids = honest(events, task)
        return replace(made, available=made.time), ids

    patch.setattr(kernel, "_rows", rows)


def _split_by_stay(patch: Patch) -> None:
    turn = iter(np.tile(["train", "tuning", "held_out"], 10_000).tolist())
    patch.setattr(labels, "assign_split", lambda _unit: next(turn))


LEAKS: dict[str, tuple[Callable[[Patch], None], str]] = {
    "prediction time that depends on the outcome": (_window_by_outcome, "prediction_time_known"),
    "features at the time of an event instead of when it was known": (_features_by_time_alone, "later_facts"),
    "one patient in two splits": (_split_by_stay, "one_patient_one_split"),
}


@pytest.mark.parametrize("leak", LEAKS)
def test_a_known_leak_is_caught_by_name(
    leak: str, settings: Settings, recorded: Record, monkeypatch: Patch
) -> None:
    apply, name = LEAKS[leak]
    apply(monkeypatch)
    failed = {check.name for check in certify(settings, recorded).failed}
    assert name in failed
