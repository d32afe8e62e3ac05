"""The reference that a window is held against: training patients, asked about as the window's patients were.

A request that gives plain values leaves most inputs out by design, so it is compared only with patients for whom the
same things were measured, their rows reduced to what such a request would have said (``features.as_request``). A
patient of the lake is compared with whole rows. The reference has the window's own mix of such kinds of questions.
"""

from dataclasses import dataclass

import numpy as np

from data_pipeline import features
from mediscale.predictor import Task
from monitoring.calibration import Floats, Integers
from monitoring.windows import MOST_ROWS, Window
from training import masking
from training.examples import Examples, Inputs

LEAST_PATIENTS = 20
"""Reference patients that a kind of question needs; fewer can't say what is usual for it."""


@dataclass(frozen=True)
class Matched:
    """A reference and the rows of the window that it fits."""

    window: Integers
    """Positions of those rows in the window."""
    window_strata: Integers
    inputs: Floats
    """(rows, features) of reference patients, as if they had been asked about in the same ways."""
    strata: Integers
    patients: Integers


def matched(window: Window, examples: Examples, task: Task, generator: np.random.Generator) -> Matched:
    """Leaves out rows of the window whose kind of question too few reference patients can answer."""
    kinds, kind_of = _kinds(window, task)
    candidates = [_asked_as(kind, examples, task) for kind in kinds]
    usable = np.array([len(np.unique(examples.subjects[rows])) >= LEAST_PATIENTS for rows in candidates])
    kept = np.flatnonzero(usable[kind_of]) if len(usable) else np.empty(0, dtype=np.int64)
    counts = np.bincount(kind_of[kept], minlength=len(kinds))
    chosen = _proportional(candidates, counts, generator)
    rows = [_reduced(kind, examples.inputs[picked], task) for kind, picked in zip(kinds, chosen, strict=True)]
    picked = np.concatenate([*chosen, np.empty(0, dtype=np.int64)])
    return Matched(
        window=kept,
        window_strata=kind_of[kept],
        inputs=np.concatenate([*rows, np.empty((0, examples.inputs.shape[1]))]).astype(np.float64),
        strata=np.repeat(np.arange(len(kinds)), [len(part) for part in chosen]),
        patients=examples.subjects[picked],
    )


Kind = tuple[str, ...] | None
"""The plain inputs that a request gave; None for a patient of the lake."""


def _kinds(window: Window, task: Task) -> tuple[list[Kind], Integers]:
    """The kinds of questions in the window, and the number of each row's."""
    names = features.plain_inputs(task)
    said = np.column_stack([~np.isnan(window.inputs[:, masking.filled(task, name)[0]]) for name in names])
    asked = np.column_stack([~window.by_values, said & window.by_values[:, None]])
    found, kind_of = np.unique(asked, axis=0, return_inverse=True)
    kinds: list[Kind] = [
        None if row[0] else tuple(name for name, given in zip(names, row[1:], strict=True) if given)
        for row in found
    ]
    return kinds, kind_of.ravel().astype(np.int64)


def _asked_as(kind: Kind, examples: Examples, task: Task) -> Integers:
    """Rows of patients for whom everything that such a request gives is known."""
    if kind is None:
        return np.arange(len(examples))
    given = [column for name in kind for column in masking.filled(task, name)]
    whole = features.as_request(examples.inputs, task, kind)[:, given]
    return np.flatnonzero(~np.isnan(whole).any(axis=1))


def _reduced(kind: Kind, rows: Inputs, task: Task) -> Floats:
    asked = rows if kind is None else features.as_request(rows, task, kind)
    return np.asarray(asked, dtype=np.float64)


def _proportional(
    candidates: list[Integers], counts: Integers, generator: np.random.Generator
) -> list[Integers]:
    """Rows of each kind in the window's proportions, as many as the commonest kind has; others repeat theirs."""
    if not counts.any():
        return [rows[:0] for rows in candidates]
    commonest = int(np.argmax(counts))
    total = min(MOST_ROWS, len(candidates[commonest]) * counts.sum() / counts[commonest])
    wanted = np.ceil(total * counts / counts.sum()).astype(np.int64)
    return [
        np.resize(generator.permutation(rows), size) if size else rows[:0]
        for rows, size in zip(candidates, wanted, strict=True)
    ]
