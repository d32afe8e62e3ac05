"""Monotone constraints: in which direction the risk may change with each feature.

A task's file names the plain inputs whose sign medicine knows. With some hundred deaths a tree also finds that a higher
lactate lowers the risk, which is noise; and nobody could explain such an answer at the bedside.
"""

from functools import cache

import numpy as np

from data_pipeline.features import kernel
from mediscale.core import tasks
from mediscale.core.tasks import TaskName
from training.tabular.request_dropout import filled_features


@cache
def signs(task: TaskName) -> tuple[int, ...]:
    """Directions of the features: 1 where the risk may only rise with it, -1 where it may only fall, else 0.

    Constrained are the features that a plain value fills, so that the answer to a request changes in one direction with
    that value. How often or how steeply it was charted is not constrained.
    """
    declared, signs = tasks.load(task).features.monotone, np.zeros(len(kernel.names(task)), dtype=np.int64)
    for inputs, sign in ((declared.rising, 1), (declared.falling, -1)):
        for name in set(inputs).intersection(kernel.plain_inputs(task)):
            signs[filled_features(task, name)] = sign
    return tuple(signs.tolist())
