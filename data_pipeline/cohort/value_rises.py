"""Rises of a measured value over its own earlier values, such as acute kidney injury by creatinine.

The definition is KDIGO's (2012, doi:10.1038/kisup.2012.1): by 0.3 mg/dL within 48 hours, or to 1.5 times the baseline
within 7 days. The baseline of a value is the lowest one of so many hours before it, because a value from before the
illness is known of few: it moves along, so that a slow rise over weeks is none.
"""

import numpy as np

from data_pipeline.cohort.bitemporal import HOUR, Bools, Floats, Ints
from mediscale.core.outcomes import ValueRise

_ROUNDING = 1e-9
"""A rise from 1.0 to 1.3 is one of 0.3, though not in binary fractions."""


def risen(time: Ints, value: Floats, outcome: ValueRise) -> Bools:
    """Whether each value stands so far above an earlier one as the outcome asks, shape ``[len(time)]``.

    ``time`` is in microseconds, in rising order. Values of the same time are no earlier ones of each other.

    >>> from mediscale.core.outcomes import Rise
    >>> outcome = ValueRise.model_construct(rises=(Rise(by=0.3, within_hours=48), Rise(times=1.5, within_hours=168)))
    >>> days = np.array([1, 2, 5, 6])
    >>> risen(days * 24 * HOUR, np.array([1.0, 1.2, 1.3, 1.6]), outcome).tolist()
    [False, False, False, True]
    """
    above = np.zeros(len(time), dtype=np.bool_)
    age = time[:, None] - time[None, :]
    for rise in outcome.rises:
        earlier = (age > 0) & (age <= rise.within_hours * HOUR)
        lowest = np.min(np.where(earlier, value[None, :], np.inf), axis=1, initial=np.inf)
        if rise.times is not None:  # so many times nothing is nothing
            lowest[lowest <= 0] = np.inf
        above |= value >= (lowest + rise.by if rise.by is not None else lowest * rise.times) - _ROUNDING
    return above
