"""Alert burden by hand: ten alerts of forty stays, four of them right."""

import numpy as np
import pytest

from training.evaluation import alert_burden
from training.evaluation.alert_burden import Course, weighted_quantiles
from training.evaluation.performance import Performance
from training.statistics.bootstrap import Resamples
from training.training_examples import Examples


def _held_out(outcomes: np.ndarray, risk: np.ndarray) -> Performance:
    n = len(outcomes)
    times = np.full(n, np.datetime64("2150-01-01", "us"))
    rows = Examples(np.arange(n), times, outcomes, np.zeros((n, 1), np.float32), {}, times)
    return Performance(rows, risk, Resamples(rows.subjects, 200, seed=0))


def test_by_hand() -> None:
    outcomes = np.r_[np.ones(16), np.zeros(24)]
    risk = np.r_[np.full(12, 0.5), np.full(4, 0.01), np.full(12, 0.5), np.full(12, 0.01)]
    course = Course(
        np.r_[np.full(20, 4.0), np.full(20, 6.0)], np.r_[np.arange(1.0, 17.0), np.full(24, np.nan)]
    )
    burden = alert_burden.measure(_held_out(outcomes, risk), course, threshold=0.1)
    assert burden is not None
    assert (burden.alerts, burden.right_alerts, burden.patient_days) == (24, 12, 200)
    assert burden.alerts_per_100_patient_days.value == pytest.approx(12)
    assert burden.sensitivity.value == pytest.approx(12 / 16)
    assert burden.ppv.value == pytest.approx(0.5)
    assert burden.number_needed_to_evaluate.value == pytest.approx(2)
    assert burden.number_needed_to_evaluate.low == pytest.approx(1 / burden.ppv.high)
    assert burden.lead_time is not None
    quartiles = [
        getattr(burden.lead_time, name).value for name in ("lower_quartile", "median", "upper_quartile")
    ]
    assert quartiles == [3, 6, 9], "of 1 to 12 hours"
    assert burden.lead_time.counts.subjects == 12


@pytest.mark.parametrize("events", [0, 9])
def test_nothing_is_told_of_a_handful_of_outcomes(events: int) -> None:
    outcomes = np.r_[np.ones(events), np.zeros(40)]
    course = Course(np.ones(len(outcomes)), np.where(outcomes > 0, 5.0, np.nan))
    assert alert_burden.measure(_held_out(outcomes, np.full(len(outcomes), 0.5)), course, 0.1) is None


def test_nobody_alerted_is_no_yield_and_no_lead_time() -> None:
    outcomes = np.r_[np.ones(15), np.zeros(15)]
    course = Course(np.ones(30), np.where(outcomes > 0, 5.0, np.nan))
    burden = alert_burden.measure(_held_out(outcomes, np.full(30, 0.01)), course, 0.1)
    assert burden is not None
    assert burden.alerts == 0
    assert burden.number_needed_to_evaluate.value is None
    assert burden.lead_time is None


def test_weighted_quantiles_are_those_of_the_repeated_values() -> None:
    rng = np.random.default_rng(1)
    values, w = rng.normal(size=30), rng.integers(0, 4, size=(20, 30)).astype(float)
    found = weighted_quantiles(values, w, (0.25, 0.5, 0.75))
    for weights, row in zip(w, found, strict=True):
        repeated = np.repeat(values, weights.astype(int))
        assert row == pytest.approx(np.quantile(repeated, [0.25, 0.5, 0.75], method="inverted_cdf"))


def test_a_stay_that_is_predicted_again_and_again_alerts_anew_and_is_found_once() -> None:
    """Twenty stays of four predictions: half of them have the outcome, from the third prediction on. Ten are above the
    threshold from the second prediction on, of which eight have the outcome; one of these is below it in between."""
    stays = np.repeat(np.arange(20), 4)
    outcomes = np.tile([0.0, 0, 1, 1], 20) * (stays < 10)
    risk = np.where((stays >= 2) & (stays < 12), 0.5, 0.01) * np.tile([0.0, 1, 1, 1], 20)
    risk[4 * 5 + 2] = 0.0  # one is below for a while: a second alert, which is right
    times = np.full(80, np.datetime64("2150-01-01", "us"))
    rows = Examples(stays, times, outcomes, np.zeros((80, 1), np.float32), {}, times, stays)
    lead = np.where(outcomes > 0, np.tile([0.0, 0, 12, 6], 20), np.nan)
    held_out = Performance(rows, risk, Resamples(rows.subjects, 200, seed=0))
    burden = alert_burden.measure(held_out, Course(np.full(80, 5.0), lead), threshold=0.1)
    assert burden is not None
    assert burden.patient_days == 100, "of a stay once"
    assert (burden.alerts, burden.right_alerts) == (11, 1), (
        "ten alerts came before the 48 hours of an outcome"
    )
    assert burden.alerts_per_100_patient_days.value == pytest.approx(11)
    assert burden.sensitivity.value == pytest.approx(0.8), "eight of ten stays were above when it counted"
    assert burden.ppv.value == pytest.approx(1 / 11)
    assert held_out.counts.stays_with_outcome == held_out.counts.independent_events == 10
    assert (held_out.counts.n, held_out.counts.events, held_out.counts.unit) == (80, 20, "predictions")


def test_every_stay_weighs_one_however_often_it_is_predicted() -> None:
    stays = np.array([7, 7, 7, 3, 9, 9])
    times = np.full(6, np.datetime64("2150-01-01", "us"))
    rows = Examples(
        stays, times, np.array([0.0, 1, 1, 1, 0, 0]), np.zeros((6, 1), np.float32), {}, times, stays
    )
    assert rows.weights.tolist() == pytest.approx([1 / 3, 1 / 3, 1 / 3, 1, 0.5, 0.5])
    assert rows.stays_with_outcome == 2
    once = rows.where(np.array([True, False, False, True, True, False]))
    assert once.weights.tolist() == [1, 1, 1], "as without weights, to the last bit"
    assert not once.repeated
