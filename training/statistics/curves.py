"""Curves of a model over all operating points, for many reweightings of the rows at once, on fixed grids.

Outcomes ``y`` (n), risks or scores ``p`` (n) and weights ``w`` (k, n) as in ``metrics``; each function returns
(k, len(grid)). A fixed grid gives every resample a value at the same place, and shows no single patient's rank.
"""

from collections.abc import Callable

import numpy as np

from training.statistics import metrics
from training.statistics.metrics import Floats

Curve = Callable[[Floats, Floats, Floats], Floats]

SHARES = np.linspace(0, 1, 51)
"""Of non-cases flagged, or of cases found."""
THRESHOLDS = np.linspace(0.01, 0.5, 50)
"""Of the risk at which one would act."""


def roc(y: Floats, p: Floats, w: Floats) -> Floats:
    """Share of cases found where ``SHARES`` of the non-cases are flagged, on straight lines between the thresholds;
    NaN where one class is absent."""
    hits, alarms = _over_falling_thresholds(y, p, w)
    pairs = zip(hits, alarms, strict=True)
    interpolated = [np.interp(SHARES * a[-1] + _ROUNDING, np.r_[0.0, a], np.r_[0.0, h]) for h, a in pairs]
    return _share(np.array(interpolated), hits[:, -1:], (hits[:, -1:] > 0) & (alarms[:, -1:] > 0))


def precision_recall(y: Floats, p: Floats, w: Floats) -> Floats:
    """Share of cases among the flagged at the highest threshold that finds ``SHARES`` of the cases.

    At 0 it is that of the first threshold that finds any; NaN where one class is absent.
    """
    hits, alarms = _over_falling_thresholds(y, p, w)
    least = np.maximum(SHARES[None, :] * hits[:, -1:], 1)
    at = np.array([np.searchsorted(h, hit - _ROUNDING) for h, hit in zip(hits, least, strict=True)])
    at = np.minimum(at, hits.shape[1] - 1)
    flagged_cases, wrong = np.take_along_axis(hits, at, axis=1), np.take_along_axis(alarms, at, axis=1)
    return _share(flagged_cases, flagged_cases + wrong, (hits[:, -1:] > 0) & (alarms[:, -1:] > 0))


def decision(y: Floats, p: Floats, w: Floats) -> Floats:
    """Net benefit per patient of acting above each of ``THRESHOLDS``."""
    flagged, odds = p[:, None] >= THRESHOLDS, THRESHOLDS / (1 - THRESHOLDS)
    gains = flagged * (y[:, None] - (1 - y[:, None]) * odds)
    return np.asarray(w @ gains / w.sum(axis=1, keepdims=True))


def alarms(y: Floats, p: Floats, threshold: float) -> tuple[Floats, Floats]:
    """Numerators and denominators (n, 3 each) of the flag rate, the sensitivity and the positive predictive value of
    acting above a threshold."""
    over = (p >= threshold).astype(np.float64)
    return np.stack([over, over * y, over * y], axis=1), np.stack([np.ones_like(y), y, over], axis=1)


_ROUNDING = 1e-9
"""Weights are whole numbers; their shares are not."""


def _over_falling_thresholds(y: Floats, p: Floats, w: Floats) -> tuple[Floats, Floats]:
    """Cases and non-cases at or above each distinct score, the highest first: two arrays (k, distinct)."""
    cases, controls = (part[:, ::-1] for part in metrics.by_score(y, p, w))
    return np.cumsum(cases, axis=1), np.cumsum(controls, axis=1)


def _share(part: Floats, whole: Floats, where: np.ndarray) -> Floats:
    shares = np.full(part.shape, np.nan)
    np.divide(part, whole, out=shares, where=np.broadcast_to(where, part.shape))
    return shares
