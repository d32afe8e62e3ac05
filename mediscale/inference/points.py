"""Points score: a few named values, each worth whole points, whose sum stands for a risk: to be added up by hand."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from mediscale.core.refs import Frozen

Floats = NDArray[np.float64]


class Band(Frozen):
    """The values of an item from the band before up to ``below``."""

    below: float | None
    """Excluded; None for the last band."""
    points: int


class Item(Frozen):
    """A value that gives points."""

    feature: str
    """The model's input that holds it."""
    name: str
    """Of the plain input, as a request names it."""
    bands: tuple[Band, ...]
    """From the lowest values to the highest; together they hold every number."""
    missing: int
    """Points where there is no value."""
    mean: float
    """Of a training row's points: what a contribution is measured from."""

    def points(self, values: Floats) -> NDArray[np.int64]:
        """Points (n) of the values (n), NaN where missing."""
        ends = np.array([band.below for band in self.bands[:-1]], dtype=np.float64)
        worth = np.array([band.points for band in self.bands])
        points = worth[np.searchsorted(ends, np.nan_to_num(values), side="right")]
        return np.where(np.isnan(values), self.missing, points).astype(np.int64)


@dataclass(frozen=True)
class PointsTable:
    """A score in the place of a version's trees: contributions that, with ``bias``, sum to the log-odds."""

    score: "PointsScore"
    feature_names: tuple[str, ...]

    @property
    def n_features(self) -> int:
        return len(self.feature_names)

    @cached_property
    def bias(self) -> float:
        """Log-odds that the contributions are measured from."""
        items = self.score.items
        return self.score.log_odds_at_zero + self.score.log_odds_per_point * sum(item.mean for item in items)

    def contributions(self, row: Floats) -> Floats:
        """Exact SHAP values (features) of one row, in log-odds: of a sum, each value's distance from its mean."""
        worth = np.zeros(self.n_features)
        for item in self.score.items:
            at = self.feature_names.index(item.feature)
            worth[at] = self.score.log_odds_per_point * (item.points(row[at : at + 1])[0] - item.mean)
        return worth


class PointsScore(Frozen):
    """A fitted score: a part of ``predictor.json``."""

    items: tuple[Item, ...]
    log_odds_per_point: float
    log_odds_at_zero: float
    """Of the risk, where the points sum to 0."""
    strata: dict[str, int]
    """Least sum of each stratum, by its name, from the lowest to the highest."""

    def totals(self, rows: NDArray[np.floating], features: tuple[str, ...]) -> NDArray[np.int64]:
        """Sums of points (n) of rows (n, features), NaN where missing."""
        columns = {name: i for i, name in enumerate(features)}
        values = np.asarray(rows, dtype=np.float64)
        totals = np.zeros(len(values), dtype=np.int64)
        for item in self.items:
            totals += item.points(values[:, columns[item.feature]])
        return totals

    def risks(self, rows: NDArray[np.floating], features: tuple[str, ...]) -> Floats:
        """The risk (n) of each row."""
        return self.risk_of(self.totals(rows, features))

    def risk_of(self, totals: NDArray[np.int64]) -> Floats:
        """The risk (n) that sums of points (n) stand for."""
        log_odds = self.log_odds_at_zero + self.log_odds_per_point * totals
        return np.asarray(np.exp(-np.logaddexp(0.0, -log_odds)), dtype=np.float64)

    @property
    def thresholds(self) -> dict[str, float]:
        """The risk at which each stratum but the lowest begins, by its name."""
        risks = self.risk_of(np.array(list(self.strata.values())))
        return dict(zip(list(self.strata)[1:], risks[1:].tolist(), strict=True))
