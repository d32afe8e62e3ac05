"""Calibration: from margins to risks that mean what they say, and to the thresholds at which people act.

Rounds, calibration and thresholds are all chosen on the tuning split; so that none is judged on rows that chose the
other, its patients are halved: the margins that fit one are from a number of rounds that the other half chose.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mediscale.inference.model_spec import Calibration
from training.statistics import metrics
from training.statistics.metrics import Floats

if TYPE_CHECKING:
    import xgboost

    from training.training_examples import Examples

STEP = 5
"""Rounds between the numbers of rounds that are compared."""
_SPREAD = 1.0
"""Standard deviation of the prior on log(slope) and on the intercept's shift, around no change."""
SENSITIVITY = 0.90
SPECIFICITY = 0.95


@dataclass(frozen=True)
class CrossFit:
    """``rounds`` is chosen by all tuning rows; ``margins`` (n) come, row by row, from the other half's choice."""

    rounds: int
    margins: Floats


def cross_fit(booster: "xgboost.Booster", tuning: "Examples") -> CrossFit:
    """Chooses the number of rounds by log loss, for all rows and for each half of the patients."""
    grown = booster.num_boosted_rounds()
    rounds = np.array([*range(STEP, grown, STEP), grown])
    logits_by_stage = np.array([margins(booster, tuning.inputs, int(k)) for k in rounds])
    best, crossed = cross_chosen(logits_by_stage, tuning)
    return CrossFit(rounds=int(rounds[best]), margins=crossed)


def cross_chosen(logits_by_stage: Floats, tuning: "Examples") -> tuple[int, Floats]:
    """The stage of a fit with the lowest log loss, of those whose margins are ``logits_by_stage`` (k, n); and the
    margins (n) of the stage that the other half of the patients would have chosen."""
    risks = metrics.sigmoid(logits_by_stage)
    half = halves(tuning)
    everyone = np.ones(len(tuning))
    chosen = np.array([_best(risks, tuning.outcomes, everyone - side) for side in (half, 1 - half)])
    return _best(risks, tuning.outcomes, everyone), logits_by_stage[chosen[1 - half], np.arange(len(tuning))]


def cross_calibrated(margins: Floats, rows: "Examples") -> Floats:
    """Risks (n), each calibrated by Platt scaling of the other half of the patients."""
    half, risk = halves(rows), np.empty(len(rows))
    for side in (0, 1):
        platt_of_others = platt(margins[half != side], rows.outcomes[half != side])
        risk[half == side] = risks(margins[half == side], platt_of_others)
    return risk


def halves(rows: "Examples") -> NDArray[np.int64]:
    """0 or 1 (n) by patient: a bit that neither shards nor workers are dealt by."""
    return (rows.subjects >> 20) & 1


def margins(booster: "xgboost.Booster", inputs: NDArray[np.float32], rounds: int = 0) -> Floats:
    """Log-odds by the first ``rounds`` trees; 0 means all."""
    import xgboost

    rows = xgboost.DMatrix(inputs, feature_names=booster.feature_names, nthread=1)
    margins_of_rows = booster.predict(rows, output_margin=True, iteration_range=(0, rounds))
    return np.asarray(margins_of_rows, dtype=np.float64)


def _best(risks: Floats, outcomes: Floats, weights: Floats) -> int:
    """Index of the lowest log loss; an empty half leaves the choice to all rows."""
    weights = weights if weights.any() else np.ones_like(weights)
    losses = [float(metrics.log_loss(outcomes, p, weights[None, :])[0]) for p in risks]
    return int(np.argmin(losses))


def platt(margin: Floats, outcomes: Floats) -> Calibration:
    """Platt scaling by penalised likelihood: with few rows it stays near the identity, and the slope stays positive.

    The prior replaces Platt's smoothed targets (1999), which bias the intercept of rare outcomes.
    """
    from scipy.optimize import minimize

    def loss(x: Floats) -> float:
        log_odds = np.exp(x[0]) * margin + x[1]
        likelihood = np.logaddexp(0, log_odds).sum() - (outcomes * log_odds).sum()
        return float(likelihood + (x**2).sum() / (2 * _SPREAD**2))

    fit = minimize(loss, np.zeros(2), method="BFGS")
    return Calibration(slope=float(np.exp(fit.x[0])), intercept=float(fit.x[1]))


def risks(margin: Floats, calibration: Calibration) -> Floats:
    """The calibrated risks (n) of uncalibrated log-odds (n)."""
    return metrics.sigmoid(calibration.log_odds(margin))


def operating_points(risk: Floats, outcomes: Floats) -> dict[str, float]:
    """Thresholds on the risk: ``sensitive`` finds 90 % of the cases, ``specific`` clears 95 % of the others; none
    where the rows hold one class."""
    cases, others = risk[outcomes == 1], risk[outcomes == 0]
    if not len(cases) or not len(others):
        return {}
    return {
        "sensitive": float(np.quantile(cases, 1 - SENSITIVITY, method="lower")),
        "specific": float(
            np.nextafter(np.quantile(others, SPECIFICITY, method="higher"), 1)
        ),  # at it is flagged
    }
