"""Leak checks of what a fit reads: the rows of each split, shuffled labels, and features that tell too much alone."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from data_pipeline.cohort.bitemporal import Floats
from data_pipeline.features import kernel
from mediscale.core import tasks
from mediscale.core.privacy import count
from mediscale.core.refs import TableRef
from mediscale.core.settings import Settings
from mediscale.core.splits import SPLITS
from mediscale.core.tasks import TaskName
from mediscale.storage import lake
from training import training_examples
from training.evaluation import metrics
from training.leakage.certificate import Check, SinglePredictor, check
from training.tabular import xgboost_training
from training.tabular.xgboost_training import Recipe
from training.training_examples import Examples

SHUFFLES = 8
T_999 = 4.785
"""The 99.9 % quantile of Student's t with SHUFFLES - 1 degrees of freedom: a clean training set fails once in a
thousand."""
MOST_ROWS = 4000
"""Of a split, that are fitted on or looked at: a shuffled label is as random in more."""
_JUDGED = ("tuning", "held_out")
_LEAST = 3
_RECIPE = Recipe(rounds=15, patience=15, depth=3, learning_rate=0.3, threads=1, seed=0)

IMPLAUSIBLE_AUROC = 0.9
"""For one feature alone. The strongest published single predictors of these outcomes (lactate, the Glasgow coma
scale, age) reach 0.6 to 0.75, and whole bedside scores 0.7 to 0.8. A policy that suspects a whole model at less is the
limit."""


def load(settings: Settings, training_set: TableRef, task: TaskName) -> dict[str, Examples]:
    """The splits as a fit and an evaluation read them."""
    names = kernel.names(task)
    return {split: training_examples.load(settings, training_set, split, names) for split in SPLITS}


def rows_of_each_split(
    settings: Settings, training_set: TableRef, task: TaskName, splits: dict[str, Examples]
) -> Check:
    """What is scaled, imputed or encoded over the rows of another split would differ from the frozen rows."""
    names = list(kernel.names(task))
    table = lake.dataset(settings, training_set)
    problems = []
    for split, read in splits.items():
        rows = table.to_table(columns=["subject_id", "stay_id", *names], filter=pc.field("split") == split)
        rows = rows.sort_by([("subject_id", "ascending"), ("stay_id", "ascending")])
        same = np.array_equal(read.subjects, rows["subject_id"].to_numpy()) and np.array_equal(
            read.inputs, _inputs(rows, names), equal_nan=True
        )
        problems += [] if same else [f"{split.replace('_', ' ')} differs"]
    return check(
        "rows_of_each_split",
        "a fit reads the frozen rows of its split: nothing is scaled, imputed or encoded over other rows",
        problems,
        ", ".join(f"{split.replace('_', ' ')} {count(len(rows))}" for split, rows in splits.items()),
    )


def _inputs(rows: pa.Table, names: Sequence[str]) -> NDArray[np.float32]:
    inputs = np.empty((rows.num_rows, len(names)), dtype=np.float32)
    for i, name in enumerate(names):
        inputs[:, i] = rows[name].to_numpy()
    return inputs


def shuffled_labels(task: TaskName, splits: dict[str, Examples]) -> Check:
    """Outcomes are dealt out to patients anew, the same to all of a patient's stays, and the pipeline's own function
    grows trees: what these tell about other patients, they can't have learned."""
    few = {split: rows.where(np.arange(len(rows)) < MOST_ROWS) for split, rows in splits.items()}
    patients = np.unique(np.concatenate([rows.subjects for rows in few.values()]))
    n_with = max(round(few["train"].events / max(len(few["train"]), 1) * len(patients)), 1)
    aurocs = []
    for seed in range(SHUFFLES):
        outcome = (
            np.random.default_rng(seed).permutation(np.arange(len(patients)) < n_with).astype(np.float64)
        )
        dealt = {
            split: replace(rows, outcomes=outcome[np.searchsorted(patients, rows.subjects)])
            for split, rows in few.items()
        }
        aurocs.append(_aurocs_of_fit(task, dealt))
    means, deviations = np.mean(aurocs, axis=0), np.std(aurocs, axis=0, ddof=1)
    half = T_999 * deviations / np.sqrt(SHUFFLES)
    shown = [
        f"{split.replace('_', ' ')} AUROC {means[i]:.3f} ({means[i] - half[i]:.3f} to {means[i] + half[i]:.3f})"
        for i, split in enumerate(_JUDGED)
        if np.isfinite(half[i])
    ]
    return check(
        "shuffled_labels",
        "trees grown on shuffled outcomes tell nothing about other patients: 0.5 is not below the interval",
        shown if np.any(means - half > 0.5) else [],
        f"{SHUFFLES} shuffles: {', '.join(shown)}" if shown else "not estimable on so few patients",
    )


def _aurocs_of_fit(task: TaskName, splits: dict[str, Examples]) -> list[float]:
    """Of each judged split; NaN where it has fewer than ``_LEAST`` patients with the outcome, or without it."""
    import xgboost

    judged = {split: splits[split] for split in _JUDGED}
    if not len(judged["tuning"]) or splits["train"].events in (0, len(splits["train"])):
        return [np.nan] * len(judged)
    booster, _ = xgboost_training.train(splits["train"], judged["tuning"], task, _RECIPE)
    found = []
    for rows in judged.values():
        matrix = xgboost.DMatrix(rows.inputs, feature_names=list(kernel.names(task)), nthread=1)
        margins = booster.predict(matrix, output_margin=True).astype(np.float64)
        enough = min(rows.events, len(rows) - rows.events) >= _LEAST
        found.append(_auroc(rows.outcomes, margins) if enough else np.nan)
    return found


def _auroc(outcomes: Floats, scores: Floats) -> float:
    return float(metrics.auroc(outcomes, scores, metrics.unweighted(outcomes))[0])


def single_features(task: TaskName, train: Examples) -> tuple[Check, tuple[SinglePredictor, ...]]:
    """The check, and what a person should look at. One stay of each patient of the training split is judged."""
    policy = tasks.load(task).policy
    _, first = np.unique(train.subjects, return_index=True)
    first = first[:MOST_ROWS]
    outcomes = train.outcomes[first]
    limit = min(IMPLAUSIBLE_AUROC, policy.suspicious_above)
    found = tuple(_implausible(kernel.names(task), train.inputs[first], outcomes, limit))
    named = [
        f"{one.name} {one.auroc:.3f} (at least {one.low:.3f})"
        for one in found
        if one.auroc > policy.suspicious_above
    ]
    most = f"AUROC {policy.suspicious_above:g}"
    asks = f"no feature alone tells the outcome better than an honest model of all of them ({most})"
    return check(
        "single_features", asks, named, f"{len(kernel.names(task))} features, {len(found)} to look at"
    ), found


def _implausible(
    names: Sequence[str], inputs: NDArray[np.float32], outcomes: Floats, limit: float
) -> Iterator[SinglePredictor]:
    least = min(int(outcomes.sum()), int(len(outcomes) - outcomes.sum()))
    if not least:
        return
    for i, name in enumerate(names):
        auroc = _auroc_alone(inputs[:, i].astype(np.float64), outcomes)
        low = lower_end(auroc, least)
        if low >= limit:
            yield SinglePredictor(name=name, auroc=auroc, low=low)


def _auroc_alone(values: Floats, outcomes: Floats) -> float:
    """Of the values in either direction; where some are missing, as if they were the lowest or the highest."""
    best = 0.5
    for missing in (-np.inf, np.inf) if np.isnan(values).any() else (np.inf,):
        filled = np.where(np.isnan(values), missing, values)
        if filled.min() < filled.max():
            ranks = np.unique(filled, return_inverse=True)[1].astype(np.float64)
            auroc = _auroc(outcomes, ranks)
            best = max(best, auroc, 1 - auroc)
    return best


def lower_end(auroc: float, least: int, z: float = 1.96) -> float:
    """The lower end of the 95 % interval of an AUROC whose smaller class has ``least`` patients.

    Whatever the distributions, its variance is at most A (1 - A) / least (van Dantzig 1951), so Wilson's interval with
    that many trials is on the safe side; a few patients who happen to be separated perfectly prove nothing.

    >>> round(lower_end(1.0, 5), 2), round(lower_end(1.0, 100), 2)
    (0.57, 0.96)
    """
    centre = auroc + z * z / (2 * least)
    half = z * np.sqrt(auroc * (1 - auroc) / least + z * z / (4 * least * least))
    return float((centre - half) / (1 + z * z / least))
