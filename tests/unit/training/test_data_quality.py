"""The verdict about the extract is read from the records of bronze and validation, which its quarantine leads to."""

from typing import Any

import pytest

from mediscale.core.refs import TableRef
from mediscale.core.settings import Settings
from mediscale.storage import calls
from training.evaluation import data_quality


def _quarantine(home: Settings) -> TableRef:
    return TableRef.model_validate(calls.of_stage(home, "validate")[-1].result["quarantine"])


def test_it_says_what_validation_and_bronze_said(one_run: Settings) -> None:
    verdict = data_quality.read(one_run, _quarantine(one_run))
    assert verdict is not None
    assert (verdict.judged, verdict.quarantined, verdict.broken["value_plausible"]) == (40_000, 123, 100)
    assert verdict.unlisted == {"admissions.admission_type": 41, "patients.gender": 3}
    assert set(verdict.records.values()) == {10_000}
    assert verdict.validated_by == calls.of_stage(one_run, "validate")[-1].key


def test_a_rule_that_a_sound_extract_breaks_is_not_judged(leave_run: Any) -> None:
    home = leave_run()
    validated = calls.of_stage(home, "validate")[-1]
    leave_run.rewrite(validated, {"reasons": {"measured": 39_000, "unit_known": 4}})
    verdict = data_quality.read(home, _quarantine(home))
    assert verdict is not None
    assert verdict.broken == {"unit_known": 4}


@pytest.mark.parametrize("stage", ["validate", "bronze"])
def test_without_either_record_there_is_no_verdict(leave_run: Any, stage: str) -> None:
    home = leave_run()
    quarantine = _quarantine(home)
    leave_run.forget(calls.of_stage(home, stage)[-1])
    assert data_quality.read(home, quarantine) is None
    assert data_quality.read(home, None) is None
