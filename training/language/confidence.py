"""Confidence of a language model's answers, from 0 to 1, and its calibration: is it right as often as it says?"""

import math
from collections.abc import Sequence
from functools import partial

import numpy as np

from mediscale.core.refs import Frozen
from training.statistics.bootstrap import Resamples
from training.statistics.estimate import Estimate
from training.statistics.metrics import Floats

LOW = 0.5
"""Answers of a lower confidence are flagged."""


class Calibration(Frozen):
    """How confidence and correctness go together."""

    n: int
    families: int
    accuracy: Estimate
    confidence: Estimate
    """Mean."""
    overconfidence: Estimate
    """Mean confidence less accuracy: above 0 the model claims more than it knows."""
    brier: Estimate
    """Mean squared difference of confidence and correctness: 0 is best (Brier 1950)."""
    flagged: int
    """Answers whose confidence is low."""
    accuracy_of_flagged: Estimate
    accuracy_of_others: Estimate


def of_options(per_token: Sequence[float]) -> float:
    """Confidence in a choice among options: the largest softmax of their log-likelihoods per token.

    >>> of_options([-1.0, -1.0])
    0.5
    """
    largest = max(per_token)
    return 1 / sum(math.exp(value - largest) for value in per_token)


def of_text(per_token: float) -> float:
    """Confidence in a written answer: the geometric mean of its tokens' probabilities."""
    return math.exp(min(per_token, 0.0))


def calibration(
    confidences: Floats, right: Floats, families: Sequence[str], bootstrap: int, seed: int
) -> Calibration:
    """The calibration of answers with these confidences, of which some are right (1) and some are not (0)."""
    index = np.unique(families, return_inverse=True)[1].astype(np.int64)
    resamples = Resamples(index, bootstrap, seed)
    low = (confidences < LOW).astype(float)
    groups = np.stack([np.ones_like(low), low, 1 - low], axis=1)
    accuracy, flagged, others = resamples.shares(right[:, None] * groups, groups)
    return Calibration(
        n=len(right),
        families=len(np.unique(index)),
        accuracy=accuracy,
        confidence=resamples.estimate(partial(mean, confidences)),
        overconfidence=resamples.estimate(partial(mean, confidences - right)),
        brier=resamples.estimate(partial(mean, (confidences - right) ** 2)),
        flagged=int(low.sum()),
        accuracy_of_flagged=flagged,
        accuracy_of_others=others,
    )


def mean(values: Floats, weights: Floats) -> Floats:
    """Weighted means (k) of values (n) by weights (k, n)."""
    means: Floats = weights @ values / weights.sum(axis=1)
    return means
