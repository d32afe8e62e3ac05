"""Intervals come from patients: repeating a patient's rows adds no evidence."""

from functools import partial

import numpy as np
import pytest

from training.statistics import metrics
from training.statistics.bootstrap import Resamples
from training.statistics.metrics import Floats


def _rows(subjects: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    p = rng.random(subjects)
    return (rng.random(subjects) < p).astype(float), p


def _auroc(resamples: Resamples, y: np.ndarray, p: np.ndarray):
    return resamples.estimate(lambda w: metrics.auroc(y, p, w))


def test_repeated_rows_of_the_same_patients_do_not_narrow_the_interval() -> None:
    y, p = _rows(80)
    once = _auroc(Resamples(np.arange(80), 400, seed=0), y, p)
    thrice = _auroc(Resamples(np.repeat(np.arange(80), 3), 400, seed=0), np.repeat(y, 3), np.repeat(p, 3))
    as_if_new = _auroc(Resamples(np.arange(240), 400, seed=0), np.repeat(y, 3), np.repeat(p, 3))
    assert thrice.model_dump() == pytest.approx(once.model_dump())
    assert as_if_new.high - as_if_new.low < 0.75 * (thrice.high - thrice.low)


def test_weights_are_how_often_each_patient_was_drawn() -> None:
    seen: list[Floats] = []

    def first_weight(w: Floats) -> Floats:
        seen.append(w)
        return w[:, 0]

    Resamples(np.array([5, 9, 5, 7]), 50, seed=0).values(first_weight)
    weights = np.concatenate(seen)
    assert weights.shape == (50, 4)
    assert (weights[:, 0] == weights[:, 2]).all()
    assert (weights[:, [0, 1, 3]].sum(axis=1) == 3).all()


def _share(y: Floats, w: Floats) -> Floats:
    share: Floats = w @ y / w.sum(axis=1)
    return share


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(4)
    hits = 0
    for trial in range(200):
        y = (rng.random(150) < 0.3).astype(float)
        found = Resamples(np.arange(150), 200, seed=trial).estimate(partial(_share, y))
        hits += found.low <= 0.3 <= found.high
    assert 180 <= hits <= 198


def test_too_few_usable_resamples_give_no_interval() -> None:
    y, p = np.array([1.0, 0, 0, 0, 0]), np.array([0.9, 0.1, 0.2, 0.3, 0.4])
    found = _auroc(Resamples(np.arange(5), 200, seed=0), y, p)
    assert (found.value, found.low, found.high) == (1.0, None, None)


def test_one_class_is_null_and_not_a_number_or_a_crash() -> None:
    y, p = np.zeros(6), np.linspace(0, 1, 6)
    assert _auroc(Resamples(np.arange(6), 50, seed=0), y, p).model_dump() == {
        "value": None,
        "low": None,
        "high": None,
    }


def test_a_share_that_every_resample_has_gets_the_exact_interval_of_its_patients() -> None:
    resamples = Resamples(np.repeat(np.arange(12), 2), 200, seed=0)
    ones = np.ones((24, 1))
    [all_found], [none_found] = resamples.shares(ones, ones), resamples.shares(0 * ones, ones)
    assert (all_found.value, all_found.high) == (1.0, 1.0)
    assert all_found.low == pytest.approx(0.025 ** (1 / 12))  # of 12 patients, not of their 24 stays
    assert (none_found.value, none_found.low) == (0.0, 0.0)
    assert none_found.high == pytest.approx(1 - 0.025 ** (1 / 12))


def test_an_ordinary_share_keeps_the_interval_of_its_resampled_patients() -> None:
    y, _ = _rows(80)
    rows = np.repeat(y, 3)[:, None]
    resamples = Resamples(np.repeat(np.arange(80), 3), 400, seed=0)
    [found] = resamples.shares(rows, np.ones_like(rows))
    assert found == resamples.estimate(lambda w: w @ rows[:, 0] / w.sum(axis=1))
    assert found.high - found.low > 0.15


def test_a_share_of_few_is_of_the_patients_behind_them() -> None:
    one_of_forty = (np.arange(40) == 3).astype(float)[:, None]
    [found] = Resamples(np.arange(40), 200, seed=0).shares(one_of_forty, one_of_forty)
    assert (found.value, found.high) == (1.0, 1.0)
    assert found.low == pytest.approx(0.025)
    [nothing] = Resamples(np.arange(40), 200, seed=0).shares(one_of_forty, 0 * one_of_forty)
    assert nothing.value is nothing.low is None


def test_other_figures_that_every_resample_has_get_no_interval() -> None:
    y, p = np.repeat([0.0, 1.0], 20), np.linspace(0, 1, 40)
    found = _auroc(Resamples(np.arange(40), 200, seed=0), y, p)
    assert (found.value, found.low, found.high) == (1.0, None, None)
    of_one = Resamples(np.zeros(6, dtype=np.int64), 50, seed=0).estimate(
        lambda w: metrics.brier(y[17:23], p[17:23], w)
    )
    assert of_one.value is not None
    assert of_one.low is of_one.high is None


def test_large_sets_are_worked_through_in_blocks_with_the_same_result(monkeypatch) -> None:
    y, p = _rows(60)
    whole = _auroc(Resamples(np.arange(60), 300, seed=0), y, p)
    monkeypatch.setattr("training.statistics.bootstrap._CELLS", 60 * 7)
    assert _auroc(Resamples(np.arange(60), 300, seed=0), y, p) == whole
