"""What another hospital makes of a model's calibration, and what recalibration with some of its patients buys."""

import warnings

import numpy as np
import pytest

from training.evaluation import transport
from training.statistics import metrics
from training.training_examples import Examples

N = 3000


def _rows(log_odds: np.ndarray, seed: int) -> Examples:
    """Outcomes by these log-odds."""
    outcomes = (np.random.default_rng(seed).random(N) < metrics.sigmoid(log_odds)).astype(np.float64)
    times = np.full(N, np.datetime64("2150-01-01", "us"))
    return Examples(np.arange(N), times, outcomes, np.zeros((N, 1), np.float32), {}, times)


def test_where_risks_are_right_recalibration_buys_nothing() -> None:
    log_odds = np.random.default_rng(0).normal(-1.5, 1, N)
    as_it_is, *refitted = transport.recalibrations(log_odds, _rows(log_odds, 1))
    assert as_it_is.patients == 0
    assert as_it_is.calibration_slope == pytest.approx(1, abs=0.15)
    assert all(one.log_loss > as_it_is.log_loss - 0.001 for one in refitted)


def test_where_risks_are_too_high_and_too_extreme_more_patients_buy_more() -> None:
    truth = np.random.default_rng(0).normal(-2.5, 0.8, N)
    as_it_is, *refitted = transport.recalibrations(2 * truth + 4, _rows(truth, 1))
    assert as_it_is.calibration_slope == pytest.approx(0.5, abs=0.1)
    assert as_it_is.calibration_intercept < -1
    losses = [one.log_loss for one in refitted]
    assert [one.patients for one in refitted] == [50, 100, 200, 500]
    assert as_it_is.log_loss > losses[0] > losses[1] > losses[3]
    assert refitted[-1].calibration_slope == pytest.approx(1, abs=0.15)
    assert refitted[-1].calibration_intercept == pytest.approx(0, abs=0.25)


def test_as_many_patients_as_are_refitted_on_remain_to_judge() -> None:
    log_odds = np.random.default_rng(0).normal(-1.5, 1, N)
    rows = _rows(log_odds, 1).where(np.arange(N) < 250)
    assert [one.patients for one in transport.recalibrations(log_odds[:250], rows)] == [0, 50, 100]


def test_where_all_are_answered_alike_there_is_no_slope_and_neither_a_nan_nor_a_warning() -> None:
    log_odds = np.full(N, -1.5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        measured = list(transport.recalibrations(log_odds, _rows(log_odds, 1)))
    assert {one.calibration_slope for one in measured} == {None}
    assert None not in {figure for one in measured for figure in (one.calibration_intercept, one.log_loss)}
