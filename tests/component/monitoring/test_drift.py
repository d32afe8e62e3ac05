"""The drift stage on a real log, training set and model, judged by Evidently itself."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_pipeline.features import kernel, plain_inputs
from mediscale.core.errors import InputError, StorageError
from monitoring.drift import drift

NAMES = kernel.names("mortality")
FEW = {"max_features": 10, "n_resamples": 200}
"""Evidently takes its time for every column."""


def columns_of(concept: str) -> list[int]:
    return [i for i, name in enumerate(NAMES) if name.startswith(f"{concept}_")]


def numbers(hospital: Any, found: drift.Result) -> dict[str, Any]:
    assert found.report is not None
    text = (hospital.settings.home / found.report).with_suffix(".json").read_text()
    return dict(json.loads(text))


def test_an_undrifted_window_is_quiet(hospital: Any, patients: Any) -> None:
    found = hospital.judge(patients(200, seed=201), **FEW)
    assert (found.n, found.judged, found.n_ad_hoc) == (200, 200, 0)
    assert not found.drifted
    assert found.share_drifted == 0
    assert found.summary.startswith("quiet: none of ")
    assert found.prediction is not None
    assert 0 < found.prediction.statistic < found.prediction.threshold

    written = numbers(hospital, found)
    assert written["result"] == json.loads(found.model_dump_json())
    assert len(written["columns"]) + len(written["missing"]) == found.watched
    assert {column["column"] for column in written["columns"]} > {
        "age_years",
        "creatinine_last_stay",
        drift.RISK,
    }


def test_a_changed_unit_is_seen_and_named(hospital: Any, patients: Any) -> None:
    rows = patients(100, seed=202)
    rows[:, columns_of("creatinine")] *= 88.4
    found = hospital.judge(rows, **FEW)
    assert found.drifted
    assert [column.column for column in found.drifted_columns] == ["creatinine_last_stay"]
    assert found.drifted_columns[0].statistic > found.drifted_columns[0].threshold
    assert "creatinine_last_stay" in found.summary
    assert found.drifted_missing == ()


def test_an_older_population_is_seen_in_the_inputs_and_in_the_risks(hospital: Any, patients: Any) -> None:
    rows = patients(300, seed=203)
    age = NAMES.index("age_years")
    rows[:, age] = np.minimum(rows[:, age] + 12, 90)
    found = hospital.judge(rows, **FEW)
    assert "age_years" in {column.column for column in found.drifted_columns}
    assert found.prediction is not None
    assert found.prediction.drifted


def test_a_measurement_that_is_no_longer_made_is_missingness_not_values(hospital: Any, patients: Any) -> None:
    rows = patients(200, seed=204)
    gone = np.ix_(np.random.default_rng(0).random(200) < 0.8, np.array(columns_of("creatinine")))
    rows[gone] = np.nan
    found = hospital.judge(rows, **FEW)
    assert found.drifted
    missing = {column.column: column for column in found.drifted_missing}
    assert missing.keys() == {"creatinine_last_stay"}
    assert missing["creatinine_last_stay"].share > missing["creatinine_last_stay"].reference_share + 0.2
    assert "creatinine_last_stay" not in {column.column for column in found.drifted_columns}


def test_requests_by_values_are_compared_with_patients_reduced_to_what_they_say(
    hospital: Any, patients: Any
) -> None:
    said = plain_inputs.as_request(patients(300, seed=205), "mortality", ("age", "sex", "heart_rate"))
    quiet = hospital.judge(said, [None] * 300, **FEW)
    assert (quiet.judged, quiet.n_ad_hoc) == (300, 300)
    assert not quiet.drifted  # most inputs are missing, and the risks are those of requests that say little

    said[:, columns_of("heart_rate")] *= 1.4
    moved = hospital.judge(said, [None] * 300, **FEW).drifted_columns
    assert [NAMES.index(column.column) in columns_of("heart_rate") for column in moved] == [True]


def test_both_kinds_of_questions_in_one_window(hospital: Any, patients: Any) -> None:
    rows = patients(200, seed=206)
    rows[100:] = plain_inputs.as_request(rows[100:], "mortality", ("age", "creatinine"))
    found = hospital.judge(rows, [*range(100), *[None] * 100], **FEW)
    assert (found.judged, found.n_ad_hoc, found.drifted) == (200, 100, False)


@pytest.mark.parametrize(("rows", "told"), [(0, "0"), (1, "fewer than 10"), (29, "29")])
def test_too_few_predictions_are_no_drift(hospital: Any, patients: Any, rows: int, told: str) -> None:
    predictions = hospital.log(patients(rows + 5, seed=207), range(rows + 5))
    params = hospital.params(predictions)
    params = (
        params.model_copy(update={"end": params.start + (params.end - params.start) / 86400 * rows})
        if rows
        else (
            params.model_copy(update={"start": params.end, "end": params.end + (params.end - params.start)})
        )
    )
    found = drift.run(params, hospital.settings, "few")
    assert (found.n, found.drifted, found.report) == (rows, False, None)
    assert found.summary == f"too few predictions ({told} of 30)"


def test_questions_without_like_in_the_reference_are_left_out(hospital: Any) -> None:
    # nobody in the reference has everything measured
    everything = plain_inputs.features(dict.fromkeys(plain_inputs.names("mortality"), 1.0), "mortality")
    found = hospital.judge(np.tile(everything, (60, 1)), [None] * 60, **FEW)
    assert (found.n, found.judged, found.drifted) == (60, 0, False)
    assert found.summary == "too few predictions that the reference has like for (0 of 30)"


def test_an_interface_that_sends_what_it_has_is_quiet_until_its_values_change(
    hospital: Any, patients: Any
) -> None:
    sent = plain_inputs.as_request(patients(150, seed=214), "mortality", plain_inputs.names("mortality"))
    quiet = hospital.judge(sent, [None] * 150, **FEW)
    assert (quiet.judged, quiet.n_ad_hoc, quiet.drifted) == (150, 150, False)
    sent[:, columns_of("creatinine")] *= 1.6
    assert [c.column for c in hospital.judge(sent, [None] * 150, **FEW).drifted_columns] == [
        "creatinine_last_stay"
    ]


def test_an_empty_and_a_constant_column_do_not_stop_it(hospital: Any, patients: Any) -> None:
    rows = patients(80, seed=209)
    rows[:, columns_of("creatinine")] = np.nan
    rows[:, NAMES.index("age_years")] = 64.0
    found = hospital.judge(rows, **FEW)
    assert [column.column for column in found.drifted_missing] == ["creatinine_last_stay"]
    assert "age_years" in {column.column for column in found.drifted_columns}


def test_the_report_and_its_numbers_hold_no_patient_and_no_value(hospital: Any, patients: Any) -> None:
    rows = patients(60, seed=210)
    rows[7, columns_of("creatinine")] = 2.718281
    rows[8, columns_of("creatinine")] = 987.654
    rows[9, NAMES.index("age_years")] = 77.654321
    found = hospital.judge(rows, [31337000 + i for i in range(60)], **FEW)
    assert found.report is not None
    for path in (
        hospital.settings.home / found.report,
        (hospital.settings.home / found.report).with_suffix(".json"),
    ):
        text = Path(path).read_text()
        assert "creatinine_last_stay" in text
        for canary in ("2.71828", "987.65", "77.65432", "31337"):
            assert canary not in text, f"{canary} in {path.suffix}"
    assert not list((hospital.settings.home / found.report).parent.glob("*.part"))


def test_the_same_window_gets_the_same_answer(hospital: Any, patients: Any) -> None:
    predictions = hospital.log(patients(60, seed=212), range(60))
    params = hospital.params(predictions, max_features=3, n_resamples=200)
    first, second = (drift.run(params, hospital.settings, "same") for _ in range(2))
    assert first == second


def test_a_changed_model_and_a_foreign_log_are_refused(hospital: Any, patients: Any) -> None:
    predictions = hospital.log(patients(60, seed=213)[:, :-1], range(60))
    with pytest.raises(InputError, match=r"^60 predictions"):
        drift.run(hospital.params(predictions), hospital.settings, "foreign")
    other = hospital.model.model_copy(update={"digest": "0" * 64})
    changed = hospital.params(predictions).model_copy(update={"model": other})
    with pytest.raises(StorageError, match="changed since it was registered"):
        drift.run(changed, hospital.settings, "changed")
