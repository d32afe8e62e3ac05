"""Estimated performance of answers whose outcomes have not matured, by confidence-based performance estimation (CBPE).

Each answer counts as a case with the weight of its risk and as no case with the rest: the expected value of what is
measured later, if the risks mean what they say. So it sees that patients have become harder to tell apart, and never
that the outcome has come to depend on something else, nor that the risks are no longer calibrated: it is no
measurement. (NannyML's documentation, "How it works: performance estimation"; Kivimäki et al. 2025, arXiv:2505.05295.)
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from training.statistics import metrics
from training.statistics.bootstrap import Resamples
from training.statistics.estimate import Estimate
from training.statistics.metrics import Floats, Metric

METRICS: Mapping[str, Metric] = {"auroc": metrics.auroc, "log_loss": metrics.log_loss, "brier": metrics.brier}
"""What can be estimated. Calibration can't: it is what the estimate assumes."""


def estimate(risk: Floats, subjects: NDArray[np.int64], n_resamples: int) -> dict[str, Estimate]:
    """The expected metrics of risks (n), with intervals by drawing patients, for the risks' own luck is not in them."""
    resamples = Resamples(subjects, n_resamples, seed=0)
    outcome, twice = np.repeat([1.0, 0.0], len(risk)), np.tile(risk, 2)

    def expected(metric: Metric) -> Estimate:
        return resamples.estimate(
            lambda weights: metric(outcome, twice, np.hstack([weights * risk, weights * (1 - risk)]))
        )

    return {name: expected(metric) for name, metric in METRICS.items()}
