"""Which training patients a window is held against."""

from datetime import datetime
from typing import Any

import numpy as np
import pytest

from data_pipeline.features import kernel, plain_inputs
from monitoring.drift.match_reference import LEAST_PATIENTS, match_reference
from monitoring.drift.prediction_window import Window
from training.training_examples import Examples

NAMES = kernel.names("mortality")
AGE, LACTATE = NAMES.index("age_years"), NAMES.index("lactate_last_stay")


@pytest.fixture
def train(patients: Any) -> Examples:
    rows = patients(400, seed=1)
    rows[:, AGE] = np.arange(400)
    times = np.full(400, datetime(2026, 1, 1), "datetime64[us]")
    return Examples(np.arange(400), times, np.zeros(400), rows, {}, times)


def window(*rows: Any, known: bool) -> Window:
    subjects = np.where(known, np.arange(len(rows)), -1)
    return Window(len(rows), subjects, np.array(rows, dtype=np.float64), np.zeros(len(rows)))


def asked(**values: float) -> Any:
    return plain_inputs.features(values, "mortality")


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_a_request_is_held_against_those_who_have_what_it_says_reduced_to_it(train: Examples) -> None:
    found = match_reference(window(asked(age=70, lactate=2.0), known=False), train, "mortality", rng())
    have = ~np.isnan(train.inputs[:, LACTATE])
    assert set(found.inputs[:, AGE]) == set(train.inputs[have, AGE])
    np.testing.assert_array_equal(found.inputs[:, AGE], found.patients)
    reduced = plain_inputs.as_request(train.inputs[found.patients], "mortality", ("age", "lactate"))
    np.testing.assert_array_equal(found.inputs, reduced)


def test_a_patient_of_the_lake_is_held_against_whole_rows(train: Examples) -> None:
    found = match_reference(window(train.inputs[0], known=True), train, "mortality", rng())
    np.testing.assert_array_equal(found.inputs, train.inputs[found.patients])
    assert len(found.inputs) == 400


def test_the_reference_has_the_windows_mix_of_questions(train: Examples) -> None:
    mix = window(*[asked(age=70)] * 30, *[asked(age=70, lactate=2.0)] * 10, known=False)
    found = match_reference(mix, train, "mortality", rng())
    shares = np.unique(found.strata, return_counts=True)[1] / len(found.strata)
    assert sorted(shares) == pytest.approx([0.25, 0.75], abs=0.01)
    assert np.isnan(found.inputs[:, LACTATE]).mean() == pytest.approx(0.75, abs=0.01)


def test_a_question_that_too_few_can_answer_is_left_out(train: Examples) -> None:
    train.inputs[LEAST_PATIENTS - 1 :, LACTATE] = np.nan
    found = match_reference(window(asked(lactate=2.0), asked(age=70), known=False), train, "mortality", rng())
    assert found.window.tolist() == [1]
    assert np.isnan(found.inputs[:, LACTATE]).all()
    nobody = match_reference(window(asked(lactate=2.0), known=False), train, "mortality", rng())
    assert len(nobody.window) == len(nobody.inputs) == 0


def test_an_interface_that_sends_what_it_has_is_held_against_incomplete_patients(
    train: Examples, patients: Any
) -> None:
    whole = [name for name in plain_inputs.names("mortality") if name != "height"]
    sent = plain_inputs.as_request(patients(60, seed=2), "mortality", whole)
    found = match_reference(window(*sent, known=False), train, "mortality", rng())
    assert len(found.window) == 60
    assert set(found.strata) == {1}
    np.testing.assert_array_equal(
        found.inputs, plain_inputs.as_request(train.inputs[found.patients], "mortality", whole)
    )
    assert np.isnan(found.inputs[:, LACTATE]).any()


def test_a_form_beside_an_interface_stays_a_form(train: Examples, patients: Any) -> None:
    sent = plain_inputs.as_request(patients(60, seed=2), "mortality", plain_inputs.names("mortality"))
    mix = window(*sent, *[asked(age=70, lactate=2.0)] * 20, known=False)
    found = match_reference(mix, train, "mortality", rng())
    assert len(set(found.window_strata[:60])) == 1
    form = found.inputs[found.strata == found.window_strata[70]]
    assert not np.isnan(form[:, LACTATE]).any()
    assert np.isnan(form[:, NAMES.index("heart_rate_last_24h")]).all()
