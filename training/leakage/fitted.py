"""Leak checks of what a fit reads: the rows of each split, and what is left of a fit on shuffled labels."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from data_pipeline.features import kernel
from mediscale.core.privacy import splits_in_words
from mediscale.core.refs import TableRef
from mediscale.core.settings import Settings
from mediscale.core.splits import SPLITS
from mediscale.core.tables import TRAINING_SET
from mediscale.core.tasks import TaskName
from mediscale.storage import lake
from training import training_examples
from training.leakage.certificate import Check, check
from training.statistics import metrics
from training.tabular import xgboost_training
from training.tabular.recipe import Recipe
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


def load(settings: Settings, training_set: TableRef, task: TaskName) -> dict[str, Examples]:
    """The splits as a fit and an evaluation read them."""
    names = kernel.names(task)
    return {split: training_examples.load(settings, training_set, split, names) for split in SPLITS}


def rows_of_each_split(
    settings: Settings, training_set: TableRef, task: TaskName, splits: dict[str, Examples]
) -> Check:
    """Check that a fit reads the frozen rows of each split; scaled or imputed over other splits they would differ."""
    names = list(kernel.names(task))
    table = lake.dataset(settings, training_set)
    problems = []
    for split, read in splits.items():
        rows = table.to_table(columns=[*TRAINING_SET.key, *names], filter=pc.field("split") == split)
        rows = rows.sort_by(training_examples.ORDER)
        same = np.array_equal(read.subjects, rows["subject_id"].to_numpy()) and np.array_equal(
            read.inputs, _inputs(rows, names), equal_nan=True
        )
        problems += [] if same else [f"{split.replace('_', ' ')} differs"]
    in_words = splits_in_words([len(rows) for rows in splits.values()])
    return check(
        "rows_of_each_split",
        "a fit reads the frozen rows of its split: nothing is scaled, imputed or encoded over other rows",
        problems,
        ", ".join(f"{split.replace('_', ' ')} {n}" for split, n in zip(splits, in_words, strict=True)),
    )


def _inputs(rows: pa.Table, names: Sequence[str]) -> NDArray[np.float32]:
    inputs = np.empty((rows.num_rows, len(names)), dtype=np.float32)
    for i, name in enumerate(names):
        inputs[:, i] = rows[name].to_numpy()
    return inputs


def shuffled_labels(task: TaskName, splits: dict[str, Examples]) -> Check:
    """Check that trees grown on shuffled outcomes tell other patients apart no better than chance.

    Outcomes are dealt out to patients anew, the same to all of a patient's stays, and the pipeline's own function grows
    the trees: what they tell about other patients, they can't have learned.
    """
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
    estimates = [
        f"{split.replace('_', ' ')} AUROC {means[i]:.3f} ({means[i] - half[i]:.3f} to {means[i] + half[i]:.3f})"
        for i, split in enumerate(_JUDGED)
        if np.isfinite(half[i])
    ]
    judged = check(
        "shuffled_labels",
        "trees grown on shuffled outcomes tell nothing about other patients: 0.5 is not below the interval",
        estimates if np.any(means - half > 0.5) else [],
        f"{SHUFFLES} shuffles: {', '.join(estimates)}" if estimates else "not estimable on so few patients",
    )
    return judged.model_copy(update={"judged": bool(estimates)})


def _aurocs_of_fit(task: TaskName, splits: dict[str, Examples]) -> list[float]:
    """AUROC of a quick fit on each judged split; NaN where fewer than ``_LEAST`` patients had or lacked the outcome."""
    import xgboost

    judged = {split: splits[split] for split in _JUDGED}
    if not len(judged["tuning"]) or splits["train"].events in (0, len(splits["train"])):
        return [np.nan] * len(judged)
    booster, _ = xgboost_training.train(splits["train"], judged["tuning"], task, _RECIPE)
    aurocs = []
    for rows in judged.values():
        matrix = xgboost.DMatrix(rows.inputs, feature_names=list(kernel.names(task)), nthread=1)
        margins = booster.predict(matrix, output_margin=True).astype(np.float64)
        enough = min(rows.events, len(rows) - rows.events) >= _LEAST
        aurocs.append(metrics.point_estimate(metrics.auroc, rows.outcomes, margins) if enough else np.nan)
    return aurocs
