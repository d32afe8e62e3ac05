"""The curves hold what scikit-learn's hold at the same places, one reweighting at a time, ties and zeros included."""

import numpy as np
import pytest
from sklearn import metrics as reference

from mediscale.core.privacy import SMALL_COUNT
from training.evaluation.performance import Performance
from training.statistics import curves, metrics
from training.statistics.bootstrap import Resamples
from training.training_examples import Examples


@pytest.fixture
def rows() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(5)
    p = np.round(rng.beta(1, 4, 300), 2).clip(0.01, 0.99)  # rounded: ties
    return (rng.random(300) < p).astype(float), p, rng.poisson(1.0, (15, 300)).astype(float)


def test_roc_is_scikit_learns(rows) -> None:
    y, p, w = rows
    for weights, found in zip(w, curves.roc(y, p, w), strict=True):
        alarms, hits, _ = reference.roc_curve(y, p, sample_weight=weights, drop_intermediate=False)
        assert found[1:] == pytest.approx(np.interp(curves.SHARES[1:], alarms, hits), abs=1e-6)
        assert found[0] == pytest.approx(hits[alarms == 0].max(), abs=1e-6)


def test_precision_is_scikit_learns_at_the_highest_threshold_that_finds_enough(rows) -> None:
    y, p, w = rows
    for weights, found in zip(w, curves.precision_recall(y, p, w), strict=True):
        precision, recall, _ = reference.precision_recall_curve(y, p, sample_weight=weights)
        least = [share if share > 0 else 1 / (weights @ y) for share in curves.SHARES]
        expected = [precision[np.flatnonzero(recall >= share - 1e-9)[-1]] for share in least]
        assert found == pytest.approx(expected)


def test_decision_is_the_net_benefit_at_every_threshold(rows) -> None:
    y, p, w = rows
    found = curves.decision(y, p, w)
    assert found.shape == (15, 50)
    assert found[:, 9] == pytest.approx(metrics.net_benefit(0.1)(y, p, w))


def test_a_perfect_order_is_a_corner() -> None:
    y, p = np.array([0.0, 0, 0, 1]), np.array([0.1, 0.2, 0.3, 0.9])
    assert curves.roc(y, p, np.ones((1, 4))).min() == 1
    assert curves.precision_recall(y, p, np.ones((1, 4))).min() == 1


@pytest.mark.parametrize("curve", [curves.roc, curves.precision_recall])
@pytest.mark.parametrize("outcome", [0.0, 1.0])
def test_one_class_is_not_estimable(curve, outcome) -> None:
    assert np.isnan(curve(np.full(7, outcome), np.linspace(0.1, 0.9, 7), np.ones((2, 7)))).all()


def test_alarms_by_hand() -> None:
    y, p = np.array([1.0, 0, 0, 1, 0]), np.array([0.9, 0.3, 0.1, 0.05, 0.6])
    w = np.array([[1.0, 1, 1, 1, 1], [0, 1, 1, 0, 1], [1, 0, 2, 1, 0]])
    part, whole = curves.alarms(y, p, 0.2)
    with np.errstate(invalid="ignore"):
        found = (w @ part) / (w @ whole)
    assert found[0] == pytest.approx([3 / 5, 1 / 2, 1 / 3])
    assert found[1] == pytest.approx([2 / 3, np.nan, 0], nan_ok=True)
    assert found[2] == pytest.approx([1 / 4, 1 / 2, 1])


def test_a_bin_of_the_calibration_curve_holds_ten_patients_or_there_are_fewer_bins() -> None:
    """Of 30 patients with 15 predictions each, ten bins of 45 rows would describe the three patients in one."""
    rng = np.random.default_rng(0)
    subjects = np.repeat(np.arange(30), 15)
    risk = np.clip(subjects / 40 + rng.normal(0, 0.02, len(subjects)), 0.01, 0.99)
    times = np.zeros(len(subjects), "datetime64[us]")
    outcomes = (rng.random(len(subjects)) < risk).astype(np.float64)
    examples = Examples(subjects, times, outcomes, np.zeros((len(subjects), 1), np.float32), {}, times)
    bins = Performance(examples, risk, Resamples(subjects, 20, 0)).calibration_curve()
    assert len(bins) == 3
    assert min(one.counts.subjects for one in bins) >= SMALL_COUNT
    assert sum(one.counts.n for one in bins) == len(subjects)
