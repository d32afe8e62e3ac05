"""What breaks which rule, by line of the file; and when too much of it stops the run."""

from typing import TYPE_CHECKING

import pytest

from data_pipeline.ingest import rule_shares, validate
from data_pipeline.ingest.rule_shares import TableValidation
from data_pipeline.ingest.validate import Params
from mediscale.core.errors import QualityError
from mediscale.storage import lake

if TYPE_CHECKING:
    from fixtures.drawn_hospitals import Hospital


def test_each_unusable_laboratory_row_is_in_quarantine_for_its_reason(iii: "Hospital") -> None:
    assert iii.reasons("labevents") == {
        5: "measured",  # a word where a number should be
        6: "unit_known",
        8: "value_plausible",
        9: "subject_listed",
        13: "time_present,available_time_present,time_readable",  # not a time
        15: "event_id_present",
    }


def test_each_unusable_bedside_row_is_in_quarantine_for_its_reason(iii: "Hospital") -> None:
    assert iii.reasons("chartevents") == {
        3: "value_plausible",  # a heart rate of zero
        6: "not_marked_error",
        11: "visit_ordered",  # its visit ends before it begins
    }


def test_a_row_that_stands_twice_is_kept_once(iv: "Hospital") -> None:
    assert iv.reasons("labevents") == {6: "not_repeated"}


def test_the_counts_add_up(iii: "Hospital") -> None:
    facts = iii.rows(iii.quality.facts)
    broken = [row for row in facts if row["broken"] is not None]
    assert (iii.quality.judged, iii.quality.quarantined) == (len(facts), len(broken))
    assert iii.quality.reasons["visit_ordered"] == sum("visit_ordered" in row["broken"] for row in broken)


def test_the_docs_of_great_expectations_hold_no_value_of_a_patient(iii: "Hospital") -> None:
    pages = list((iii.settings.home / iii.quality.docs).rglob("*.html"))
    assert any("value_plausible" in page.read_text() for page in pages)
    for secret in ("HEMOLYZED", "furlong", "2160-01"):
        assert not any(secret in page.read_text() for page in pages)


PARAMS = Params(source="mimic-iv", dataset="hospital", bronze={})


def test_great_expectations_names_the_rule_of_a_table_that_breaks_it_too_often() -> None:
    verdicts = [
        TableValidation("labevents", 1000, {"unit_known": 120}),
        TableValidation("chartevents", 9000, {}),
    ]
    failed = rule_shares.failed_rules(verdicts, 0.05)
    assert failed == ["unit_known"]
    assert str(rule_shares.too_many_broken(verdicts, failed, 0.05, PARAMS.dataset, PARAMS.source)) == (
        "120 of the 1000 facts in labevents break the rule unit_known (the unit is one that the source's YAML "
        "converts): 12.0%, allowed are 5.0%. `mediscale quarantine --dataset hospital --rule unit_known` names file "
        "and line of each: correct the extract or the source mimic-iv, or allow more with max_quarantine_share."
    )


@pytest.mark.parametrize("rule", ["unit_known", "measured"])  # one has a bound, the other has none
@pytest.mark.parametrize("broken", [0, 49, 50, 51, 1000])
def test_a_night_is_shown_to_great_expectations_where_it_would_fail(rule: str, broken: int) -> None:
    verdicts = [TableValidation("labevents", 1000, {rule: broken}), TableValidation("chartevents", 9000, {})]
    failed = rule_shares.failed_rules(verdicts, 0.05)
    assert rule_shares.is_any_share_above(verdicts, 0.05) is bool(failed)


@pytest.mark.parametrize(
    ("judged", "broken", "share"), [(1000, 20, 0.02), (100, 19, 0.0), (19, 19, 1.0), (100, 0, 0.0)]
)
def test_few_rows_stop_nothing_unless_they_are_all(judged: int, broken: int, share: float) -> None:
    assert TableValidation("omr", judged, {"unit_known": broken}).share("unit_known") == share


def test_a_run_that_is_stopped_leaves_its_quarantine(
    iii: "Hospital", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rule_shares, "MIN_FAILED_ROWS", 1)
    params = Params(source="mimic-iii", dataset="stopped", bronze=iii.bronze.bronze)
    with pytest.raises(QualityError, match=r"of the .* facts in .* break the rule"):
        validate.run(params, iii.settings, "stopped")
    left = lake.latest(iii.settings, "stopped", "quarantine")
    assert len(iii.rows(left)) == iii.quality.quarantined
