"""The batch metrics give what scikit-learn gives one reweighting at a time, ties and weights of zero included."""

from functools import partial

import numpy as np
import pytest
from sklearn import metrics as reference
from sklearn.linear_model import LogisticRegression

from training.evaluation.performance import METRICS
from training.statistics import metrics
from training.statistics.bootstrap import Resamples


@pytest.fixture
def rows() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    p = np.round(rng.beta(1, 4, 400), 2).clip(0.01, 0.99)  # rounded: ties
    return (rng.random(400) < p).astype(float), p, rng.poisson(1.0, (20, 400)).astype(float)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("auroc", reference.roc_auc_score),
        ("auprc", reference.average_precision_score),
        ("log_loss", reference.log_loss),
        ("brier", reference.brier_score_loss),
    ],
)
def test_agrees_with_scikit_learn(name, expected, rows) -> None:
    y, p, w = rows
    found = getattr(metrics, name)(y, p, w)
    assert found == pytest.approx([expected(y, p, sample_weight=row) for row in w], abs=1e-9)


def test_calibration_slope_is_that_of_logistic_regression(rows) -> None:
    y, p, w = rows
    x = metrics.logit(p)[:, None]
    fits = [LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(x, y, sample_weight=row) for row in w]
    assert metrics.calibration_slope(y, p, w) == pytest.approx([fit.coef_[0, 0] for fit in fits], abs=1e-4)


def test_calibration_intercept_makes_expected_equal_observed(rows) -> None:
    y, p, w = rows
    shift = metrics.calibration_intercept(y, p, w)
    expected = (w * metrics.sigmoid(shift[:, None] + metrics.logit(p))).sum(axis=1)
    assert expected == pytest.approx(w @ y, abs=1e-6)


def test_risks_that_are_too_extreme_have_a_slope_below_one() -> None:
    rng = np.random.default_rng(2)
    log_odds = rng.normal(-1, 1, 20_000)
    y = (rng.random(20_000) < metrics.sigmoid(log_odds)).astype(float)
    doubled = metrics.sigmoid(2 * log_odds)
    assert metrics.point_estimate(metrics.calibration_slope, y, doubled) == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize("times", [2, 3, 4, 6])
@pytest.mark.parametrize(("mean", "rate"), [(-2.8, 0.09), (-4.8, 0.015)])
def test_risks_that_are_far_too_extreme_still_have_a_slope(times: int, mean: float, rate: float) -> None:
    rng = np.random.default_rng(4)
    log_odds = rng.normal(mean, 1.1, 2000)
    y = (rng.random(2000) < metrics.sigmoid(log_odds)).astype(float)
    assert y.mean() == pytest.approx(rate, abs=0.005)
    p, w = metrics.sigmoid(times * log_odds), rng.poisson(1.0, (5, 2000)).astype(float)
    x = metrics.logit(p)[:, None]
    fits = [LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(x, y, sample_weight=row) for row in w]
    assert metrics.calibration_slope(y, p, w) == pytest.approx([fit.coef_[0, 0] for fit in fits], abs=1e-4)


def test_net_benefit_by_hand() -> None:
    y, p = np.array([1.0, 0, 0, 1, 0]), np.array([0.9, 0.3, 0.1, 0.05, 0.6])
    # at 0.2 three are treated: one case and two others, who weigh 0.2 / 0.8 each
    assert metrics.point_estimate(metrics.net_benefit(0.2), y, p) == pytest.approx((1 - 2 * 0.25) / 5)


@pytest.mark.parametrize("name", ["auroc", "auprc", "calibration_slope", "calibration_intercept"])
@pytest.mark.parametrize("outcome", [0.0, 1.0])
def test_one_class_is_not_estimable(name, outcome) -> None:
    y = np.full(7, outcome)
    assert np.isnan(getattr(metrics, name)(y, np.linspace(0.1, 0.9, 7), np.ones((2, 7)))).all()


def test_perfect_separation_has_no_slope() -> None:
    y, p = np.array([0.0, 0, 0, 1, 1]), np.array([0.1, 0.2, 0.3, 0.7, 0.8])
    assert np.isnan(metrics.calibration_slope(y, p, np.ones((1, 5)))).all()


def test_the_same_risk_for_all_has_no_slope() -> None:
    y = np.array([1.0, 0, 0, 0, 0])
    assert np.isnan(metrics.calibration_slope(y, np.full(5, 0.3), np.ones((2, 5)))).all()


def test_of_no_rows_nothing_can_be_estimated() -> None:
    """As of the notes' answers where no held-out stay has a note."""
    nothing = np.empty(0)
    for metric in METRICS.values():
        assert (
            Resamples(nothing.astype(np.int64), 50, 0).estimate(partial(metric, nothing, nothing)).value
            is None
        )
