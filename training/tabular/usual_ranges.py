"""Usual ranges: between which values lies the middle 99 % of what a model was trained on, for each plain input.

The server says of a value outside that the model has hardly seen such a value: most often it is in another unit.
"""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from data_pipeline.features import plain_inputs
from mediscale.core.tasks import TaskName

if TYPE_CHECKING:
    from training.training_examples import Examples

QUANTILES = (0.005, 0.995)
MIN_PATIENTS = 200
"""With fewer, one patient's highest value would be the range's end. An answer names the inputs that have no range."""
_DIGITS = 3
"""Significant digits of a range's ends, rounded outwards: none is a patient's own value to the last digit."""


def usual_ranges(train: "Examples", task: TaskName) -> dict[str, tuple[float, float]]:
    """The range of the newest values of each plain input that enough patients of the training split have.

    ``train.inputs`` has the columns of ``kernel.names(task)``. Sex is no measured value and has no range.
    """
    ranges = {}
    for plain, column in plain_inputs.newest_columns(task).items():
        values = train.inputs[:, column]
        recorded = np.isfinite(values)
        if plain != "sex" and len(np.unique(train.subjects[recorded])) >= MIN_PATIENTS:
            low, high = np.quantile(values[recorded].astype(np.float64), QUANTILES)
            ranges[plain] = (rounded(low, math.floor), rounded(high, math.ceil))
    return ranges


def rounded(value: float, direction: Callable[[float], int]) -> float:
    """The value rounded to ``_DIGITS`` significant digits.

    >>> rounded(7.3214, math.ceil), rounded(0.41, math.floor), rounded(-3.256, math.floor)
    (7.33, 0.41, -3.26)
    """
    if value == 0:
        return 0.0
    decimals = _DIGITS - 1 - math.floor(math.log10(abs(value)))
    scaled = round(value * 10.0**decimals, 3)  # what float32 adds is no reason to go a step further
    return round(direction(scaled) / 10.0**decimals, max(decimals, 0))
