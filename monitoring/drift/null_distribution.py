"""Thresholds that fit a window's size: how large each statistic gets when nothing has drifted.

A fixed threshold says more about the window's size than about its patients: at n = 60 Evidently's defaults flag most
undrifted columns. Here windows of the same size and the same mix of questions are drawn from the reference, patient by
patient, and the same statistic is computed. The reference is a sample too: each window is drawn from another population
that could have given it (its patients weighted by Rubin's Bayesian bootstrap, 1981, doi:10.1214/aos/1176345338). One
common factor on every column's own spread then keeps the chance that *any* column of an undrifted window passes its
threshold at the stated level (the max-T method of Westfall and Young, Resampling-Based Multiple Testing, 1993).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Flags = NDArray[np.bool_]

CELLS = 201
"""Cells of a column's grid; one more beyond them counts the missing."""
_RELEVANT_SHIFT = 0.1
"""In standard deviations: Evidently's own default. A smaller shift is no drift, however many rows show it."""
_RELEVANT_SHARE = 0.05
"""Share of rows: what must change in a column that hardly varies, and in a column's share of missing values."""
_SPREAD_QUANTILE = 0.95


@dataclass(frozen=True)
class Sample:
    """Rows that are compared as one: ``values`` is (rows, columns), NaN where missing."""

    values: Floats
    strata: Integers
    """Kind of question of each row; rows are only ever compared with rows of the same kind."""
    patients: Integers
    """Rows of one patient carry one number; they are drawn together, for they are alike."""

    def __len__(self) -> int:
        return len(self.values)


@dataclass(frozen=True)
class Grid:
    """Each column cut into equal cells over the reference's middle 98 % and half as much again on either side.

    Values beyond fall into the outermost cell. So one extreme value neither makes a drift nor shows in a report, and a
    distance between distributions is one between histograms.
    """

    low: Floats
    step: Floats
    spread: Floats
    """Standard deviation of each column in the reference, on the grid, at least 0.001 as in Evidently's norm."""
    flat: Flags
    """Columns that hold one value in the reference's middle 98 %."""

    @classmethod
    def over(cls, reference: Floats) -> "Grid":
        """The grid over a reference; a column without a value there gets one from 0 to 1 that nothing is judged on."""
        present = np.where(np.isnan(reference).all(axis=0), 0.0, reference)
        first, last = np.nanpercentile(present, (1, 99), axis=0)
        flat = last <= first
        width = np.where(flat, 1.0, last - first)
        low, step = first - width / 2, width / 100
        bare = cls(low=low, step=step, spread=np.ones_like(low), flat=flat)
        spread = np.nanstd(bare.rounded(present), axis=0)
        return cls(low=low, step=step, spread=np.maximum(spread, 0.001), flat=flat)

    def cells(self, values: Floats) -> Integers:
        """Cell of each value; ``CELLS`` where missing."""
        inside = np.clip(np.rint((values - self.low) / self.step), 0, CELLS - 1)
        return np.where(np.isnan(inside), CELLS, inside).astype(np.int64)

    def rounded(self, values: Floats) -> Floats:
        """Each value replaced by its cell's: what a report may show."""
        cells = self.cells(values)
        return np.where(cells == CELLS, np.nan, self.low + cells * self.step)


@dataclass(frozen=True)
class Thresholds:
    """What each column's statistic must exceed: normed Wasserstein distance, and change of the share missing."""

    shift: Floats
    missing: Floats


@dataclass(frozen=True)
class Null:
    """The statistics of windows drawn from the reference: (n_resamples, columns) each."""

    shift: Floats
    missing: Floats
    grid: Grid


def shifts(reference: Floats, current: Floats, grid: Grid) -> Floats:
    """Normed Wasserstein distance per column from (columns, CELLS + 1) counts; 0 where a side has no value."""
    present, observed = reference[:, :CELLS], current[:, :CELLS]
    totals, counts = present.sum(axis=1), observed.sum(axis=1)
    apart = np.cumsum(present, axis=1) / np.maximum(totals, 1)[:, None]
    apart -= np.cumsum(observed, axis=1) / np.maximum(counts, 1)[:, None]
    distance: Floats = np.abs(apart).sum(axis=1) * grid.step / grid.spread
    return np.where((totals > 0) & (counts > 0), distance, 0.0)


def null(window: Sample, reference: Sample, n_resamples: int, generator: np.random.Generator) -> Null:
    """Draws windows like ``window`` from the reference, by patient, and measures each against the reference.

    Where the window holds fewer values of a column than its draw, the draw is thinned to as many, so that a threshold
    on values does not read a change of missingness as one of the values.
    """
    grid = Grid.over(reference.values)
    keys = _keys(grid.cells(reference.values))
    base, available = _counts(keys), np.count_nonzero(~np.isnan(window.values), axis=0)
    resampler = _Resampler(window, reference)
    shift = np.zeros((n_resamples, reference.values.shape[1]))
    missing = np.zeros_like(shift)
    for draw in range(n_resamples):
        drawn = _counts(keys[resampler.draw(generator)])
        missing[draw] = np.abs(drawn[:, CELLS] / len(window) - base[:, CELLS] / len(reference))
        shift[draw] = shifts(base, _thinned(drawn, available, generator), grid)
    return Null(shift=shift, missing=missing, grid=grid)


def thresholds(nulls: Sequence[Null], family_wise_error_rate: float) -> tuple[Thresholds, ...]:
    """The thresholds of all columns of all nulls (drawn as often), as one family of tests.

    At most ``family_wise_error_rate`` of quiet windows pass any of them.
    """
    parts = [part for each in nulls for part in (each.shift, each.missing)]
    spreads = [np.maximum(np.quantile(part, _SPREAD_QUANTILE, axis=0), 1e-9) for part in parts]
    largest = np.max(
        [(part / spread).max(axis=1) for part, spread in zip(parts, spreads, strict=True)], axis=0
    )
    rank = min(math.ceil((len(largest) + 1) * (1 - family_wise_error_rate)), len(largest))
    factor = float(np.sort(largest)[rank - 1])
    scaled = [factor * spread for spread in spreads]
    return tuple(
        Thresholds(
            shift=np.maximum(shift, _least_shift(each.grid)), missing=np.maximum(missing, _RELEVANT_SHARE)
        )
        for each, shift, missing in zip(nulls, scaled[::2], scaled[1::2], strict=True)
    )


def _least_shift(grid: Grid) -> Floats:
    """A flat column has no spread to measure a shift by: 5 % of its rows must move by a unit."""
    return np.where(grid.flat, _RELEVANT_SHARE / grid.spread, _RELEVANT_SHIFT)


def _keys(cells: Integers) -> Integers:
    """Cells numbered through over all columns, so that one count serves them all."""
    return cells + np.arange(cells.shape[1]) * (CELLS + 1)


def _counts(keys: Integers) -> Floats:
    columns = keys.shape[1]
    counts = np.bincount(keys.ravel(), minlength=columns * (CELLS + 1))
    return counts.reshape(columns, CELLS + 1).astype(np.float64)


def _thinned(counts: Floats, available: Integers, generator: np.random.Generator) -> Floats:
    thinned = counts.copy()
    for column in np.flatnonzero(counts[:, :CELLS].sum(axis=1) > available):
        present = counts[column, :CELLS].astype(np.int64)
        thinned[column, :CELLS] = generator.multivariate_hypergeometric(
            present, int(available[column]), method="marginals"
        )
    return thinned


class _Resampler:
    """Rows of the reference that could have been this window."""

    def __init__(self, window: Sample, reference: Sample) -> None:
        self._strata = window.strata
        _, first, cluster = np.unique(
            np.stack([window.strata, window.patients]), axis=1, return_index=True, return_inverse=True
        )
        self._leader = first[cluster.ravel()]
        self._order = np.lexsort((reference.patients, reference.strata))
        strata, patients = reference.strata[self._order], reference.patients[self._order]
        self._begin = np.searchsorted(strata, np.arange(window.strata.max(initial=0) + 2))
        change = np.r_[True, (np.diff(strata) != 0) | (np.diff(patients) != 0)]
        self._group = np.cumsum(change) - 1
        self._group_begin = np.r_[np.flatnonzero(change), len(strata)]
        self._patient = np.unique(patients, return_inverse=True)[1].ravel()

    def draw(self, generator: np.random.Generator) -> Integers:
        """A draw from a reweighted reference: as many rows per kind of question and per patient as the window has.

        Where the window asks k times about one patient, k rows of one drawn patient stand for them, repeated if the
        reference has fewer.
        """
        weights = generator.exponential(size=self._patient.max() + 1)[self._patient]
        total = np.r_[0.0, np.cumsum(weights)]
        begin, end = total[self._begin[self._strata]], total[self._begin[self._strata + 1]]
        aim = begin + generator.random(len(begin)) * (end - begin)
        row = np.minimum(np.searchsorted(total, aim[self._leader], side="right"), len(weights)) - 1
        first, last = self._group_begin[self._group[row]], self._group_begin[self._group[row] + 1]
        drawn: Integers = self._order[first + (generator.random(len(row)) * (last - first)).astype(np.int64)]
        return drawn
