"""Estimates: a figure with its interval."""

import math
from typing import Literal

from mediscale.core.refs import Frozen


class Estimate(Frozen):
    """A figure with its 95 % interval from resampled patients; null where it is not estimable.

    Without an interval, the resamples can't give one: too few of them have a value, or all have the same.
    """

    value: float | None
    low: float | None
    high: float | None

    @property
    def interval(self) -> tuple[float, float, float] | None:
        """The figure and both ends of its interval; None where one of them is missing or not finite."""
        if self.value is None or self.low is None or self.high is None:
            return None
        whole = self.value, self.low, self.high
        return whole if all(map(math.isfinite, whole)) else None

    @property
    def _decimals(self) -> int:
        """Decimals of a text, by what is largest in it."""
        largest = max(map(abs, self.interval or (self.value or 0.0,)))
        return 3 if largest < 2 else 2 if largest < 10 else 1 if largest < 100 else 0

    def text(self, digits: int | None = None, sign: Literal["", "+"] = "") -> str:
        """The figure with its interval; ``sign`` puts a plus before what is above 0.

        Without ``digits`` there are three significant ones or so: more would be of no patient, and of no clock.

        >>> Estimate(value=0.8123, low=0.79, high=0.83).text(), Estimate(value=0.5, low=None, high=None).text()
        ('0.812 (0.790 to 0.830)', '0.500 (no interval)')
        >>> Estimate(value=4.096, low=3.643, high=4.549).text(), Estimate(value=76.117, low=59.8, high=87.78).text()
        ('4.10 (3.64 to 4.55)', '76.1 (59.8 to 87.8)')
        >>> Estimate(value=0.01, low=-0.02, high=0.04).text(digits=2, sign="+")
        '+0.01 (-0.02 to +0.04)'
        """
        if self.value is None:
            return "not estimable"
        number = f"{sign}z.{self._decimals if digits is None else digits}f"
        if self.interval is None:
            return f"{self.value:{number}} (no interval)"
        return f"{self.value:{number}} ({self.low:{number}} to {self.high:{number}})"


NOT_ESTIMABLE = Estimate(value=None, low=None, high=None)
"""The estimate of a figure that has no value, or whose value is withheld."""
