"""Figures of few held-out patients, which would show their outcomes, and answers that are no risks."""

import numpy as np
import pytest

from data_pipeline.features import kernel
from mediscale.core import tasks
from mediscale.core.errors import InputError
from training.evaluation import robustness
from training.evaluation.performance import METRICS, Performance
from training.statistics import metrics
from training.statistics.bootstrap import Resamples
from training.training_examples import Examples

POLICY = tasks.load("mortality").policy
FEATURES = kernel.names("mortality")


def _held_out(outcomes: np.ndarray, risk: np.ndarray, patients: int | None = None) -> Performance:
    n = len(outcomes)
    times = np.full(n, np.datetime64("2150-01-01", "us"))
    subjects = np.arange(n) % (patients or max(n, 1))
    inputs = np.zeros((n, len(FEATURES)), np.float32)
    rows = Examples(subjects, times, outcomes.astype(np.float64), inputs, {}, times)
    return Performance(rows, risk, Resamples(subjects, 100, seed=0))


def _figures(held_out: Performance) -> set[float | None]:
    """Every figure that evidence holds of the answers."""
    risk = held_out.risk
    stress = robustness.measure(
        held_out, "mortality", POLICY.stresses[:1], np.zeros((30, len(FEATURES)), np.float32), lambda _: risk
    )
    benefit, baseline = held_out.net_benefit(0.1), held_out.baseline("bedside rule", "r", "s", risk)
    oracle = held_out.against_oracle(risk)
    estimates = [*held_out.all_metrics().values(), *(each.auroc for each in stress)]
    estimates += [benefit.model, benefit.treat_all, benefit.over_best_alternative]
    estimates += [baseline.auroc, baseline.gain, oracle.auroc, oracle.gap]
    return {estimate.value for estimate in estimates}


@pytest.mark.parametrize("n", [0, 1, 5, 9])
def test_no_figure_of_fewer_than_ten_patients_is_released(n: int) -> None:
    """A constant model's average precision is the share with the outcome: 3 of 5."""
    outcomes = np.arange(n) < 3
    assert _figures(_held_out(outcomes, np.full(n, 0.3))) == {None}


def test_many_stays_of_one_patient_are_one_patient() -> None:
    outcomes = np.random.default_rng(0).random(300) < 0.2
    assert _figures(_held_out(outcomes, np.random.default_rng(1).random(300), patients=1)) == {None}


def test_what_tells_the_share_with_the_outcome_is_withheld_where_few_have_it() -> None:
    held_out = _held_out(np.arange(200) < 3, np.random.default_rng(0).random(200))
    estimable = {name for name, estimate in held_out.all_metrics().items() if estimate.value is not None}
    assert estimable == METRICS.keys() - {"auprc"}
    assert held_out.net_benefit(0.1).treat_all.value is None
    assert held_out.net_benefit(0.1).over_best_alternative.value is None


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -0.1, 1.1])
def test_an_answer_that_is_no_risk_is_not_measured(wrong: float) -> None:
    risk = np.linspace(0, 1, 200)
    risk[7] = wrong
    with pytest.raises(InputError, match="fewer than 10 of 200 answers hold a risk that is missing or not"):
        _held_out(np.arange(200) < 50, risk)


def test_a_missing_score_has_no_rank() -> None:
    outcomes, score = (np.arange(200) < 50).astype(np.float64), np.linspace(0, 1, 200)
    score[7] = np.nan
    for metric in (metrics.auroc, metrics.auprc):
        assert np.isnan(metric(outcomes, score, np.ones((3, 200)))).all()
