"""The reference that a window is held against: training patients, asked about as the window's patients were.

A patient of the lake is compared with whole rows. A request that gives plain values leaves most inputs out, and which
ones is the caller's doing: a form always asks for the same few, while an interface sends all that it has.

- What a form left out says nothing of its patients: they are compared with those for whom the same things were
  measured, reduced to what the form would have said of them (``plain_inputs.as_request``).
- What an interface left out was not measured: its patients are compared with all, reduced to what any of its requests
  said, and as incomplete as they were.

The reference has the window's own mix of such kinds of questions.
"""

from dataclasses import dataclass

import numpy as np

from data_pipeline.features import plain_inputs
from mediscale.core.tasks import TaskName
from monitoring.drift.null_distribution import Flags, Floats, Integers
from monitoring.drift.prediction_window import MOST_ROWS, Window
from training.tabular import request_dropout
from training.training_examples import Examples, Inputs

LEAST_PATIENTS = 20
"""Reference patients that a kind of question needs; fewer can't say what is usual for it."""
_FORM_ROWS = 20
"""Rows of a window that say the same inputs: a form, if those are fewer than half of what is usually known."""
_TELLING = 0.8
"""Share of what is usually known that requests give, on average, when they come from an interface."""


@dataclass(frozen=True)
class Kind:
    """One way in which the window's patients were asked about."""

    said: tuple[str, ...] | None
    """The plain inputs; None for a patient of the lake."""
    complete: bool = False
    """Whether a reference patient needs all of them: what a form does not say is no news of the patient."""


AnswerableInputs = dict[str, Flags]
"""For each plain input, the reference's rows of which a request could have said it."""


@dataclass(frozen=True)
class MatchedReference:
    """A reference and the rows of the window that it fits."""

    window: Integers
    """Positions of those rows in the window."""
    window_strata: Integers
    inputs: Floats
    """(rows, features) of reference patients, as if they had been asked about in the same ways."""
    strata: Integers
    patients: Integers


def match_reference(
    window: Window, examples: Examples, task: TaskName, generator: np.random.Generator
) -> MatchedReference:
    """Leaves out rows of the window whose kind of question too few reference patients can answer."""
    answerable = _known(examples, task)
    kinds, kind_of = _kinds(window, task, answerable)
    candidates = [_asked_as(kind, answerable) for kind in kinds]
    usable = np.array([len(np.unique(examples.subjects[rows])) >= LEAST_PATIENTS for rows in candidates])
    kept = np.flatnonzero(usable[kind_of]) if len(usable) else np.empty(0, dtype=np.int64)
    counts = np.bincount(kind_of[kept], minlength=len(kinds))
    chosen = _proportional(candidates, counts, generator)
    rows = [_reduced(kind, examples.inputs[picked], task) for kind, picked in zip(kinds, chosen, strict=True)]
    picked = np.concatenate([*chosen, np.empty(0, dtype=np.int64)])
    return MatchedReference(
        window=kept,
        window_strata=kind_of[kept],
        inputs=np.concatenate([*rows, np.empty((0, examples.inputs.shape[1]))]).astype(np.float64),
        strata=np.repeat(np.arange(len(kinds)), [len(part) for part in chosen]),
        patients=examples.subjects[picked],
    )


def _kinds(window: Window, task: TaskName, answerable: AnswerableInputs) -> tuple[list[Kind], Integers]:
    """The kinds of questions in the window, and the number of each row's."""
    names = plain_inputs.names(task)
    given_inputs = np.column_stack(
        [~np.isnan(window.inputs[:, request_dropout.filled_features(task, name)[0]]) for name in names]
    )
    given_inputs &= window.ad_hoc[:, None]
    input_sets, kind_of, times = np.unique(given_inputs, axis=0, return_inverse=True, return_counts=True)
    kind_of = kind_of.ravel() + 2
    sent = _by_an_interface(window, given_inputs, times[kind_of - 2], answerable)
    kind_of[sent], kind_of[~window.ad_hoc] = 1, 0
    exact = [Kind(_named(names, inputs), complete=True) for inputs in input_sets]
    return [
        Kind(None),
        Kind(_named(names, np.logical_or.reduce(given_inputs[sent], axis=0))),
        *exact,
    ], kind_of.astype(np.int64)


def _by_an_interface(window: Window, stated: Flags, times: Integers, answerable: AnswerableInputs) -> Flags:
    """Rows by values that say about all there is to say, each its own; ``times`` is how many rows say the same."""
    usual = sum(column.mean() for column in answerable.values())
    count = stated.sum(axis=1)
    sent: Flags = window.ad_hoc & ~((times >= _FORM_ROWS) & (count < usual / 2))
    if not sent.any() or count[sent].mean() < _TELLING * usual or times[sent].max() > sent.sum() / 2:
        return np.zeros_like(sent)
    return sent


def _named(names: tuple[str, ...], flags: Flags) -> tuple[str, ...]:
    return tuple(name for name, one in zip(names, flags, strict=True) if one)


def _known(examples: Examples, task: TaskName) -> AnswerableInputs:
    names = plain_inputs.names(task)
    whole = plain_inputs.as_request(examples.inputs, task, names)
    return {name: ~np.isnan(whole[:, request_dropout.filled_features(task, name)[0]]) for name in names}


def _asked_as(kind: Kind, answerable: AnswerableInputs) -> Integers:
    """Rows of reference patients who could have been asked about in this way."""
    everyone = np.ones_like(next(iter(answerable.values())))
    needed = (kind.said or ()) if kind.complete else ()
    return np.flatnonzero(np.logical_and.reduce([everyone, *(answerable[name] for name in needed)]))


def _reduced(kind: Kind, rows: Inputs, task: TaskName) -> Floats:
    input_sets = rows if kind.said is None else plain_inputs.as_request(rows, task, kind.said)
    return np.asarray(input_sets, dtype=np.float64)


def _proportional(
    candidates: list[Integers], counts: Integers, generator: np.random.Generator
) -> list[Integers]:
    """Rows of each kind in the window's proportions, as many as the commonest kind has; others repeat theirs."""
    if not counts.any():
        return [rows[:0] for rows in candidates]
    commonest = int(np.argmax(counts))
    total = min(MOST_ROWS, len(candidates[commonest]) * counts.sum() / counts[commonest])
    sizes = np.ceil(total * counts / counts.sum()).astype(np.int64)
    return [
        np.resize(generator.permutation(rows), size) if size else rows[:0]
        for rows, size in zip(candidates, sizes, strict=True)
    ]
