"""Request dropout: training rows as requests would give them, with a few plain inputs and all others missing.

A model trained on full records alone reads "unsaid" as "not measured", which in a hospital means "not worried".
"""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from data_pipeline.features import plain_inputs
from mediscale.core.tasks import TaskName

if TYPE_CHECKING:
    from training.training_examples import Examples

SHARE = 0.5
"""Weight of a patient's row as a request; the full record keeps the rest, so that a row still weighs 1. In
cross-validation over patients of the synthetic train and tuning splits, a half served full records better than none,
a tenth or a quarter did too: what is unsaid at random also keeps trees from leaning on single inputs."""
_PERSON = ("age", "sex")
_PERSON_SAID = 0.9
"""Age and sex are nearly always said, whatever else is."""


def with_requests(
    training: "Examples", task: TaskName, seed: int
) -> tuple[NDArray[np.float32], NDArray[np.float64], NDArray[np.float64]]:
    """Inputs, outcomes and weights of the rows to train on: each as it is, and as a request would give it.

    Every stay weighs 1, however often it is predicted (``Examples.weights``).
    """
    requests = as_requests(training.inputs, task, np.random.default_rng(seed))
    weights = np.repeat([1 - SHARE, SHARE], len(training)) * np.tile(training.weights, 2)
    return np.vstack([training.inputs, requests]), np.tile(training.outcomes, 2), weights


def as_requests(rows: NDArray[np.float32], task: TaskName, rng: np.random.Generator) -> NDArray[np.float32]:
    """Each row as one request that says some of its inputs: from almost none to nearly all, few being the commonest."""
    inputs = plain_inputs.names(task)
    is_given = rng.random((len(rows), len(inputs))) < rng.random((len(rows), 1)) ** 2
    for i, name in enumerate(inputs):
        if name in _PERSON:
            is_given[:, i] = rng.random(len(rows)) < _PERSON_SAID
    requests = np.asarray(plain_inputs.as_request(rows, task, inputs), dtype=np.float32)
    for i, name in enumerate(inputs):
        unsaid = np.ix_(~is_given[:, i], filled_features(task, name))
        requests[unsaid] = np.nan
    return requests


def filled_features(task: TaskName, name: str) -> NDArray[np.intp]:
    """Positions of the features that one plain input fills."""
    return np.flatnonzero(~np.isnan(plain_inputs.features({name: 1.0}, task)))
