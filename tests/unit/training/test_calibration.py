"""Rounds, calibration and thresholds from the tuning split, none of them judged on rows that chose it."""

from dataclasses import replace

import numpy as np
import pytest
import xgboost

from data_pipeline.features import kernel
from training.statistics import calibration, metrics
from training.tabular import xgboost_training
from training.tabular.recipe import Recipe
from training.training_examples import Examples

RECIPE = Recipe(rounds=60, patience=60, depth=2, learning_rate=0.3, threads=1, seed=0)


def _examples(n: int, seed: int, shift: int = 18) -> Examples:
    rng = np.random.default_rng(seed)
    names = kernel.names("mortality")
    inputs = np.full((n, len(names)), np.nan, dtype=np.float32)
    inputs[:, :5] = rng.normal(size=(n, 5))
    outcomes = (rng.random(n) < metrics.sigmoid(inputs[:, 0].astype(np.float64) * 1.5 - 1)).astype(float)
    subjects = (np.arange(n, dtype=np.int64) * 7919) << shift
    times = np.zeros(n, "datetime64[us]")
    return Examples(subjects, times, outcomes, inputs, {}, times)


@pytest.fixture(scope="module")
def grown() -> tuple[xgboost.Booster, Examples]:
    tuning = _examples(300, seed=1)
    booster, _ = xgboost_training.train(_examples(600, seed=0), tuning, "mortality", RECIPE)
    return booster, tuning


def test_a_patients_own_outcome_does_not_choose_the_rounds_of_their_margin(grown) -> None:
    booster, tuning = grown
    half = (tuning.subjects >> 20) & 1
    assert 0.3 < half.mean() < 0.7
    fitted = calibration.cross_fit(booster, tuning)
    flipped = np.where(half == 0, 1 - tuning.outcomes, tuning.outcomes)
    changed = replace(tuning, outcomes=flipped)
    refitted = calibration.cross_fit(booster, changed)
    assert (refitted.margins[half == 0] == fitted.margins[half == 0]).all()
    assert (refitted.margins[half == 1] != fitted.margins[half == 1]).any()


def test_rounds_are_those_of_the_lowest_log_loss(grown) -> None:
    booster, tuning = grown
    rounds = calibration.cross_fit(booster, tuning).rounds
    losses = {
        k: metrics.log_loss(
            tuning.outcomes,
            metrics.sigmoid(calibration.margins(booster, tuning.inputs, k)),
            metrics.unweighted(tuning.outcomes),
        )[0]
        for k in range(5, 61, 5)
    }
    assert rounds == min(losses, key=losses.__getitem__) < 60


def test_all_patients_in_one_half_is_no_crash(grown) -> None:
    booster, _ = grown
    few = _examples(4, seed=3, shift=0)
    assert set((few.subjects >> 20) & 1) == {0}
    assert np.isfinite(calibration.cross_fit(booster, few).margins).all()


def test_platt_undoes_a_distortion() -> None:
    rng = np.random.default_rng(5)
    log_odds = rng.normal(-1, 1, 30_000)
    y = (rng.random(30_000) < metrics.sigmoid(log_odds)).astype(float)
    found = calibration.platt((log_odds - 0.7) * 2, y)
    assert found.slope == pytest.approx(0.5, abs=0.02)
    assert found.intercept == pytest.approx(0.7, abs=0.05)


@pytest.mark.parametrize("outcomes", [[0.0, 0, 0], [1.0, 1, 1], [1.0, 0, 0]])
def test_platt_on_three_rows_stays_near_the_identity_and_keeps_the_order(outcomes) -> None:
    found = calibration.platt(np.array([-2.0, 0.5, 1.0]), np.array(outcomes))
    assert 0.1 < found.slope < 3
    assert abs(found.intercept) < 2


def test_operating_points_keep_their_promise_on_the_rows_they_come_from() -> None:
    rng = np.random.default_rng(6)
    risk = rng.random(2000)
    y = (rng.random(2000) < risk).astype(float)
    points = calibration.operating_points(risk, y)
    assert (risk[y == 1] >= points["sensitive"]).mean() >= 0.9
    assert (risk[y == 0] < points["specific"]).mean() >= 0.95
    assert calibration.operating_points(risk, np.zeros(2000)) == {}
