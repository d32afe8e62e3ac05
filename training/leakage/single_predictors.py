"""Leak checks of single predictors: a feature, or a token of notes, that tells the outcome implausibly well alone."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from data_pipeline.cohort.bitemporal import Floats
from data_pipeline.features import kernel
from mediscale.core import tasks
from mediscale.core.tasks import TaskName
from mediscale.inference.collate import Tokens
from training.leakage.certificate import Check, SinglePredictor, check
from training.statistics import metrics
from training.training_examples import Examples

MOST_PATIENTS = 4000
IMPLAUSIBLE_AUROC = 0.9
"""For one feature alone. The strongest published single predictors of these outcomes (lactate, the Glasgow coma
scale, age) reach 0.6 to 0.75, and whole bedside scores 0.7 to 0.8. A policy that suspects a whole model at less is the
limit."""

CheckAndFindings = tuple[Check, tuple[SinglePredictor, ...]]
"""The check, and what a person should look at."""


def single_features(task: TaskName, train: Examples) -> CheckAndFindings:
    """Features that tell the outcome implausibly well alone, by one stay of each patient of the training split."""
    _, first = np.unique(train.subjects, return_index=True)
    first = first[:MOST_PATIENTS]
    outcomes = train.outcomes[first]
    aurocs = {
        name: _auroc_alone(train.inputs[first, i].astype(np.float64), outcomes)
        for i, name in enumerate(kernel.names(task))
    }
    return _judged("single_features", "feature", task, outcomes, aurocs)


def single_tokens(task: TaskName, read: Sequence[list[Tokens]], outcomes: Floats) -> CheckAndFindings:
    """Tokens of the notes that tell the outcome implausibly well alone.

    ``read`` has the notes that a model reads of each stay, and ``outcomes`` (stays) what came. A token is named by its
    number in the tokenizer: a word of a note is in no certificate.
    """
    own = [np.unique(np.concatenate(notes)) if notes else np.empty(0, np.int32) for notes in read]
    stay = np.repeat(np.arange(len(own)), [len(tokens) for tokens in own])
    tokens, index = np.unique(np.concatenate([*own, np.empty(0, np.int32)]), return_inverse=True)
    n_with, n_without = outcomes.sum(), len(outcomes) - outcomes.sum()
    sensitivity = np.bincount(index, outcomes[stay], len(tokens)) / max(n_with, 1)
    false_alarms = np.bincount(index, 1 - outcomes[stay], len(tokens)) / max(n_without, 1)
    aurocs = 0.5 + np.abs(sensitivity - false_alarms) / 2
    named = {f"token {token}": float(value) for token, value in zip(tokens.tolist(), aurocs, strict=True)}
    return _judged("single_tokens", "token of the notes", task, outcomes, named)


def _judged(
    name: str, what: str, task: TaskName, outcomes: Floats, aurocs: Mapping[str, float]
) -> CheckAndFindings:
    suspicious = tasks.load(task).policy.suspicious_above
    least = min(int(outcomes.sum()), int(len(outcomes) - outcomes.sum()))
    implausible = tuple(_implausible(aurocs, least, min(IMPLAUSIBLE_AUROC, suspicious)))
    too_good = [
        f"{one.name} {one.auroc:.3f} (at least {one.low:.3f})"
        for one in implausible
        if one.auroc > suspicious
    ]
    asks = f"no {what} alone predicts the outcome better than an honest model of all inputs (AUROC {suspicious:g})"
    return check(
        name, asks, too_good, f"{len(aurocs):,} looked at, {len(implausible)} for a person to judge"
    ), implausible


def _implausible(aurocs: Mapping[str, float], least: int, limit: float) -> Iterator[SinglePredictor]:
    for name, value in aurocs.items():
        low = lower_end(value, least) if least else 0.0
        if low >= limit:
            yield SinglePredictor(name=name, auroc=value, low=low)


def _auroc_alone(values: Floats, outcomes: Floats) -> float:
    """AUROC of a single predictor in its better direction; missing values count as the lowest or the highest."""
    best = 0.5
    for missing in (-np.inf, np.inf) if np.isnan(values).any() else (np.inf,):
        filled = np.where(np.isnan(values), missing, values)
        if filled.min() < filled.max():
            ranks = np.unique(filled, return_inverse=True)[1].astype(np.float64)
            value = metrics.point_estimate(metrics.auroc, outcomes, ranks)
            best = max(best, value, 1 - value)
    return best


def lower_end(auroc: float, least: int) -> float:
    """The lower end of the 95 % interval of an AUROC whose smaller class has ``least`` patients.

    Whatever the distributions, its variance is at most A (1 - A) / least (van Dantzig 1951), so Wilson's interval with
    that many trials is on the safe side; a few patients who happen to be separated perfectly prove nothing.

    >>> round(lower_end(1.0, 5), 2), round(lower_end(1.0, 100), 2)
    (0.57, 0.96)
    """
    z = 1.96
    centre = auroc + z * z / (2 * least)
    half = z * np.sqrt(auroc * (1 - auroc) / least + z * z / (4 * least * least))
    return float((centre - half) / (1 + z * z / least))
