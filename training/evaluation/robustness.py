"""Robustness: how the answers change when inputs are missing, a whole system is down, or measurements are noisy.

What is stressed is what the server would then be given: a measurement that was not made leaves its values missing, and
counts and flags at 0, for the kernel counts what it finds. So a model that reads "not counted" as "not ill" is caught.
Noise is normal, its standard deviation a share of the measurement's own over the training patients, in the
measurement's unit, and leaves no value outside of the concept's plausible range that was inside. All values of one
measurement in one row move together, as an instrument that reads high does, so a minimum stays below its maximum; when
it was charted stays as it was.

The stresses and their bounds are the policy's, the seed is the evaluation's, and each patient is compared with itself:
changes are paired over the same resamples.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from data_pipeline.features import comorbidity, kernel, plain_inputs
from mediscale.core import tasks
from mediscale.core.concepts import by_name
from mediscale.core.policy import Stress
from mediscale.core.task_features import CHARTING
from mediscale.core.tasks import TaskName
from training.evaluation.evaluation_report import StressTest
from training.statistics import metrics
from training.statistics.metrics import Floats

if TYPE_CHECKING:
    from training.evaluation.performance import Performance

Inputs = NDArray[np.float32]
_LEVELS = ("last", "min", "max", "mean")
"""Statistics in the measurement's own unit and size."""


@dataclass(frozen=True)
class Source:
    """The features that one measurement, treatment group or coded history fills."""

    group: str
    values: tuple[int, ...] = ()
    """Columns that are missing without it."""
    counts: tuple[int, ...] = ()
    """Columns that are 0 without it."""
    concept: str = ""
    """Of a measurement."""


def sources(task: TaskName) -> tuple[Source, ...]:
    """What the features of a task come from, each of which may be missing by itself."""
    position = kernel.position(task)
    declared = tasks.load(task).features
    concepts = dict.fromkeys(concept for concept, _, _ in declared.measurements)
    columns = {
        concept: [(statistic, position[f"{concept}_{statistic}_{window}"])
                  for name, statistic, window in declared.measurements if name == concept]
        for concept in concepts
    }  # fmt: skip
    measured = (
        Source(
            by_name()[concept].group,
            tuple(i for statistic, i in own if statistic != "count"),
            tuple(i for statistic, i in own if statistic == "count"),
            concept,
        )
        for concept, own in columns.items()
    )
    treated = dict.fromkeys(group for group, _ in declared.treated)
    medications = (
        Source(
            "medications",
            (),
            tuple(position[f"treatment_{g}_{w}"] for g, w in declared.treated if g == group),
        )
        for group in treated
    )
    own = (Source("", tuple(columns), ()) for columns in _own_columns(task).values())
    coded = (*(group.name for group in comorbidity.GROUPS), "charlson_score")
    return *measured, *medications, *own, Source("diagnoses", (), tuple(position[name] for name in coded))


def _own_columns(task: TaskName) -> dict[str, list[int]]:
    """The columns of each code that the task declares itself; of an occurrence, nothing is what is not there."""
    columns: dict[str, list[int]] = {}
    for name, _, statistic, window in tasks.load(task).features.numbers:
        columns.setdefault(name, []).append(kernel.position(task)[f"{name}_{statistic}_{window}"])
    return columns


def apply_stress(
    inputs: Inputs, task: TaskName, stress: Stress, spread: Floats, generator: np.random.Generator
) -> Inputs:
    """The inputs (n, features) under a stress; ``spread`` (features) are standard deviations over the training rows."""
    rows = inputs.copy()
    for source in sources(task):
        if stress.kind == "noise":
            _add_noise(rows, task, source, float(stress.share or 0) * spread, generator)
        elif stress.kind == "missing":
            _remove(rows, source, generator.random(len(rows)) < float(stress.share or 0))
        elif source.group == stress.group:
            _remove(rows, source, np.ones(len(rows), dtype=np.bool_))
    return rows


def _remove(rows: Inputs, source: Source, where: NDArray[np.bool_]) -> None:
    at = np.flatnonzero(where)[:, None]
    rows[at, list(source.values)] = np.nan
    rows[at, list(source.counts)] = 0


def _add_noise(
    rows: Inputs, task: TaskName, source: Source, scale: Floats, generator: np.random.Generator
) -> None:
    if not source.concept:
        return
    error, concept = generator.normal(size=len(rows)), by_name()[source.concept]
    names, own = kernel.names(task), scale[plain_inputs.newest_columns(task)[source.concept]]
    for column in source.values:
        statistic = names[column].rsplit("_", 2)[-2]
        before = rows[:, column]
        if statistic in _LEVELS:
            low, high = np.minimum(before, concept.low), np.maximum(before, concept.high)
            rows[:, column] = np.clip(before + own * error, low, high)
        elif statistic not in CHARTING:
            rows[:, column] = before + scale[column] * error


def spread_of(rows: Inputs) -> Floats:
    """Standard deviation (features) of what was measured; 0 where nothing was."""
    many = np.isfinite(rows).sum(axis=0) > 1
    spread = np.zeros(rows.shape[1])
    spread[many] = np.nanstd(rows[:, many].astype(np.float64), axis=0)
    return spread


def measure(
    held_out: "Performance",
    task: TaskName,
    stresses: Sequence[Stress],
    train: Inputs,
    risks: Callable[[Inputs], Floats],
) -> tuple[StressTest, ...]:
    """Each stress in turn; ``train`` are the training rows' inputs, ``risks`` the version's own answers to rows."""
    if not stresses:
        return ()
    spread = spread_of(train)
    seeds = np.random.SeedSequence(held_out.resamples.seed).spawn(len(stresses))
    answers = [
        risks(apply_stress(held_out.rows.inputs, task, stress, spread, np.random.default_rng(seed)))
        for stress, seed in zip(stresses, seeds, strict=True)
    ]
    y = held_out.rows.outcomes

    def changes(w: Floats) -> Floats:
        auroc, intercept = (
            metric(y, held_out.risk, w) for metric in (metrics.auroc, metrics.calibration_intercept)
        )
        columns = []
        for risk in answers:
            under = metrics.auroc(y, risk, w)
            columns += [under, auroc - under, metrics.calibration_intercept(y, risk, w) - intercept]
        return np.stack(columns, axis=1)

    estimates = held_out.estimates(changes)
    tests = []
    for i, stress in enumerate(stresses):
        auroc, loss, shift = estimates[3 * i : 3 * i + 3]
        declared = stress.model_dump(include={"kind", "share", "group"})
        unchanged = np.array_equal(answers[i], held_out.risk)
        tests.append(
            StressTest(**declared, auroc=auroc, auroc_loss=loss, intercept_shift=shift, unchanged=unchanged)
        )
    return tuple(tests)
