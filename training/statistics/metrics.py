"""Metrics of predicted risks, for the rows as they are and for many reweightings of them at once.

Every function takes the outcomes ``y`` (n, 0 or 1), the risks ``p`` (n, or scores where only the order counts) and
weights ``w`` of shape (k, n), one row per reweighting, and returns k values; what can't be estimated (one class, no
weight) is NaN. A bootstrap of patients is a reweighting: the multiplicity of each row's patient. scikit-learn's
``sample_weight`` gives the same values one resample at a time, 500 times slower.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Metric = Callable[[Floats, Floats, Floats], Floats]

_TINY = 1e-12


def auroc(y: Floats, p: Floats, w: Floats) -> Floats:
    """Probability that a random case ranks above a random non-case; ties count half."""
    cases, controls = by_score(y, p, w)
    below = np.cumsum(controls, axis=1) - controls
    ranked = (cases * (below + controls / 2)).sum(axis=1)
    return _ratio(ranked, cases.sum(axis=1) * controls.sum(axis=1))


def auprc(y: Floats, p: Floats, w: Floats) -> Floats:
    """Average precision: the sum of precision times the step in recall, over falling thresholds."""
    cases, controls = (part[:, ::-1] for part in by_score(y, p, w))
    hits, flagged = np.cumsum(cases, axis=1), np.cumsum(cases + controls, axis=1)
    precision = np.divide(hits, flagged, out=np.zeros_like(hits), where=flagged > 0)
    both = (cases.sum(axis=1) > 0) & (controls.sum(axis=1) > 0)
    return np.where(both, _ratio((cases * precision).sum(axis=1), cases.sum(axis=1)), np.nan)


def log_loss(y: Floats, p: Floats, w: Floats) -> Floats:
    """Mean negative log-likelihood, in nats."""
    q = np.clip(p, _TINY, 1 - _TINY)
    return _mean(w, -(y * np.log(q) + (1 - y) * np.log1p(-q)))


def brier(y: Floats, p: Floats, w: Floats) -> Floats:
    """Mean squared difference between risk and outcome."""
    return _mean(w, (p - y) ** 2)


def calibration_slope(y: Floats, p: Floats, w: Floats) -> Floats:
    """Slope of the logistic recalibration of y on logit(p): 1 is right, below 1 the risks are too extreme."""
    return _recalibrate(y, logit(p), w)


def calibration_intercept(y: Floats, p: Floats, w: Floats) -> Floats:
    """Calibration in the large: shift of logit(p), at slope 1, that makes expected equal observed. 0 is right."""
    return _shift(y, logit(p), w)


def net_benefit(threshold: float) -> Metric:
    """Net benefit per patient of acting above a threshold (Vickers & Elkin 2006, doi:10.1177/0272989X06295361)."""
    odds = threshold / (1 - threshold)

    def metric(y: Floats, p: Floats, w: Floats) -> Floats:
        return _mean(w, (p >= threshold) * (y - (1 - y) * odds))

    return metric


def unweighted(y: Floats) -> Floats:
    """The weights (1, n) of the rows as they are."""
    return np.ones((1, len(y)))


def point_estimate(metric: Metric, y: Floats, p: Floats) -> float:
    """A metric of the rows as they are; NaN where it can't be estimated."""
    return float(metric(y, p, unweighted(y))[0])


def logit(p: Floats) -> Floats:
    """Log-odds of risks; those of 0 and 1 are finite."""
    q = np.clip(p, _TINY, 1 - _TINY)
    return np.log(q) - np.log1p(-q)


def sigmoid(x: Floats) -> Floats:
    """Logistic function, without overflow."""
    return np.exp(-np.logaddexp(0.0, -x))


def by_score(y: Floats, p: Floats, w: Floats) -> tuple[Floats, Floats]:
    """Weight of cases and of non-cases at each distinct score, ascending: two arrays (k, distinct); NaN where a score
    is missing, which has no rank."""
    if np.isnan(p).any():
        return np.full((len(w), 1), np.nan), np.full((len(w), 1), np.nan)
    order = np.argsort(p, kind="stable")
    starts = np.flatnonzero(np.diff(p[order], prepend=-np.inf) > 0)
    ranked, outcome = w[:, order], y[order]
    return np.add.reduceat(ranked * outcome, starts, axis=1), np.add.reduceat(
        ranked * (1 - outcome), starts, axis=1
    )


def _ratio(above: Floats, below: Floats) -> Floats:
    return np.divide(above, below, out=np.full_like(above, np.nan), where=below > 0)


def _mean(w: Floats, values: Floats) -> Floats:
    return _ratio(w @ values, w.sum(axis=1))


def _recalibrate(y: Floats, x: Floats, w: Floats) -> Floats:
    """Slope of k weighted logistic regressions by Newton's method, all at once; NaN where one did not settle.

    They start from the null model, on standardised ``x``, and no step is longer than one: where risks are far too
    extreme or outcomes rare, a whole step can lead away for good.
    """
    if not len(x) or x.min() == x.max():
        return np.full(len(w), np.nan)
    spread = x.std()
    x = (x - x.mean()) / spread
    a, b = logit(_mean(w, y)), np.zeros(len(w))
    length = np.full(len(w), np.inf)
    with np.errstate(all="ignore"):
        for _ in range(30):
            mu = sigmoid(a[:, None] + b[:, None] * x)
            residual, curvature = w * (y - mu), w * mu * (1 - mu)
            h0, h1, h2 = curvature.sum(axis=1), curvature @ x, curvature @ x**2
            g0, g1 = residual.sum(axis=1), residual @ x
            det = h0 * h2 - h1**2
            step_a, step_b = (h2 * g0 - h1 * g1) / det, (h0 * g1 - h1 * g0) / det
            length = np.maximum(np.abs(step_a), np.abs(step_b))
            kept = np.minimum(1, 1 / length)
            a, b = a + kept * step_a, b + kept * step_b
            if np.all((length < 1e-9) | np.isnan(length)):
                break
    return np.where((length < 1e-6) & _both_classes(y, w), b / spread, np.nan)


def _shift(y: Floats, x: Floats, w: Floats) -> Floats:
    a, step = np.zeros(len(w)), np.full(len(w), np.inf)
    with np.errstate(all="ignore"):
        for _ in range(60):
            mu = sigmoid(a[:, None] + x)
            step = (w * (y - mu)).sum(axis=1) / (w * mu * (1 - mu)).sum(axis=1)
            a = a + np.clip(step, -2, 2)
            if np.all((np.abs(step) < 1e-9) | np.isnan(step)):
                break
    return np.where((np.abs(step) < 1e-6) & _both_classes(y, w), a, np.nan)


def _both_classes(y: Floats, w: Floats) -> NDArray[np.bool_]:
    return (w @ y > 0) & (w @ (1 - y) > 0)
