"""Intervals by drawing patients, not rows: one patient with fifteen visits is one piece of evidence, not fifteen.

Where every draw gives the same, drawing can't say how else it might have come: there is no interval then, but for
shares, which have an exact one.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from training.statistics.estimate import NOT_ESTIMABLE, Estimate
from training.statistics.metrics import Floats

Weighted = Callable[[Floats], Floats]

_CELLS = 4_000_000
"""Weights held at a time: resamples are worked through in blocks of about 32 MB."""
_SAME = 1e-12
"""Resamples that lie closer together differ by rounding only."""
_USABLE = 0.9
"""Share of resamples that must give a value; with fewer, an interval would describe only the lucky ones."""


@dataclass(frozen=True)
class Resamples:
    """``count`` bootstrap resamples of the patients behind n rows."""

    subjects: NDArray[np.int64]
    """Patient of each row (n)."""
    count: int
    seed: int

    @cached_property
    def _index(self) -> NDArray[np.int64]:
        return np.unique(self.subjects, return_inverse=True)[1].astype(np.int64)

    def values(self, metric: Weighted) -> Floats:
        """The metric's value in every resample; ``metric`` takes weights (k, n) and returns k values."""
        patients = int(self._index.max()) + 1
        rng = np.random.default_rng(self.seed)
        block = max(1, _CELLS // len(self._index))
        sizes = [min(block, self.count - start) for start in range(0, self.count, block)]
        even = np.full(patients, 1 / patients)
        draws = (rng.multinomial(patients, even, size=size)[:, self._index] for size in sizes)
        return np.concatenate([metric(weights.astype(np.float64)) for weights in draws])

    def estimate(self, metric: Weighted) -> Estimate:
        """The metric on the rows as they are, with its 95 % percentile interval."""
        value = float(metric(np.ones((1, len(self._index))))[0])
        drawn = self.values(metric) if np.isfinite(value) else np.empty(0)
        return percentile_estimate(value, drawn)

    def estimates(self, curve: Weighted) -> tuple[Estimate, ...]:
        """``estimate`` of each place of a curve; ``curve`` takes weights (k, n) and returns (k, places)."""
        values, drawn = curve(np.ones((1, len(self._index))))[0], self.values(curve)
        return tuple(percentile_estimate(float(value), drawn[:, i]) for i, value in enumerate(values))

    def shares(self, part: Floats, whole: Floats) -> tuple[Estimate, ...]:
        """The share of rows in ``whole`` (n, places; 0 or 1) that are in ``part``, place by place.

        Where the resamples give no interval, it is Clopper and Pearson's (1934) for as many draws as there are patients
        behind the whole: 12 of 12 is 74 to 100 %, and not 100 to 100 %.
        """

        def share(w: Floats) -> Floats:
            counted = w @ whole
            return np.divide(w @ part, counted, out=np.full_like(counted, np.nan), where=counted > 0)

        patients = [len(np.unique(self._index[rows > 0])) for rows in whole.T]
        return tuple(
            point if point.value is None or point.low is not None else _exact(point.value, behind)
            for point, behind in zip(self.estimates(share), patients, strict=True)
        )


def _exact(share: float, patients: int) -> Estimate:
    from scipy.stats import binomtest

    interval = binomtest(round(share * patients), patients).proportion_ci(method="exact")
    return Estimate(value=share, low=float(interval.low), high=float(interval.high))


def percentile_estimate(value: float, drawn: Floats) -> Estimate:
    """A metric's value on the rows as they are, with its 95 % percentile interval from the resamples.

    ``drawn`` are its values (count) in these. There is no interval where too few of them are finite, or all are the
    same.
    """
    if not np.isfinite(value):
        return NOT_ESTIMABLE
    usable = drawn[np.isfinite(drawn)]
    if len(usable) < _USABLE * len(drawn) or not len(usable):
        return Estimate(value=value, low=None, high=None)
    low, high = map(float, np.quantile(usable, [0.025, 0.975]))
    same = high - low <= _SAME
    return Estimate(value=value, low=None if same else low, high=None if same else high)


def simultaneous_estimates(
    values: Floats, drawn: Floats, error_rate: float
) -> tuple[tuple[Estimate, ...], float | None]:
    """A family of metrics (m) with intervals that hold together but for ``error_rate``, by single-step max-T.

    ``values`` (m) are of the rows as they are, ``drawn`` (count, m) of the resamples. The second result is the
    critical value: the intervals' half width in standard errors, None where no metric of the family has one.
    """
    enough = np.isfinite(drawn).mean(axis=0) >= _USABLE
    usable = np.isfinite(values) & enough
    spread = np.full(len(values), np.nan)
    spread[usable] = np.nanstd(drawn[:, usable], axis=0, ddof=1)
    usable &= spread > _SAME
    if not usable.any():
        return tuple(percentile_estimate(float(value), np.empty(0)) for value in values), None
    deviations = np.abs(drawn[:, usable] - values[usable]) / spread[usable]
    # a resample in which nothing of the family is estimable says nothing of its largest deviation
    critical = float(np.nanquantile(np.fmax.reduce(deviations, axis=1), 1 - error_rate))
    return tuple(
        Estimate(value=float(v), low=float(v - critical * s), high=float(v + critical * s))
        if ok
        else percentile_estimate(float(v), np.empty(0))
        for v, s, ok in zip(values, spread, usable, strict=True)
    ), critical
