"""Plain inputs: the values of a request that gives them by name, such as ``age`` and ``creatinine``, as features."""

from collections.abc import Mapping, Sequence
from functools import cache

import numpy as np
import numpy.typing as npt

from data_pipeline.features import history, kernel
from mediscale.core import tasks
from mediscale.core.concepts import by_name
from mediscale.core.errors import InputError
from mediscale.core.tasks import TaskName


@cache
def names(task: TaskName) -> tuple[str, ...]:
    """The inputs that a request may give by a plain name: ``age`` in years, ``sex`` (1 female, 0 male) and concepts."""
    return ("age", "sex", *dict.fromkeys(concept for concept, _, _ in tasks.load(task).features.measurements))


@cache
def _targets(task: TaskName) -> dict[str, tuple[int, ...]]:
    """The columns that each plain input fills; the first is the one that holds a patient's newest value."""
    position = kernel.position(task)
    targets: dict[str, tuple[int, ...]] = {"age": (position["age_years"],), "sex": (position["sex_female"],)}
    ranks = {"last": 0, "mean": 1, "min": 2, "max": 3}
    measured = tasks.load(task).features.measurements
    for concept in names(task)[2:]:
        cells = [(ranks[stat], f"{concept}_{stat}_{window}")
                 for name, stat, window in measured if name == concept and stat in ranks]  # fmt: skip
        targets[concept] = tuple(position[name] for _, name in sorted(cells))
    return targets


def features(values: Mapping[str, float], task: TaskName) -> npt.NDArray[np.float32]:
    """The features of a request that gives plain values, shape ``[len(kernel.names(task))]``.

    A plain value is the last, lowest, highest and mean value of its concept; every feature that the request does not
    give is NaN.

    Raises:
        InputError: a name is not among those of the task or an alias of one.
    """
    row = np.full(len(kernel.names(task)), np.nan, dtype=np.float32)
    targets = _targets(task)
    for name, value in values.items():
        concept = by_name().get(name)
        plain = concept.name if concept else name
        if plain not in targets:
            raise InputError(f"The {task} model has no input {name!r}; it takes {', '.join(targets)}.")
        row[list(targets[plain])] = as_feature(plain, value)
    return row


def as_feature(plain: str, value: float) -> float:
    """A plain input's value as its features hold it: a high age counts as ``history.OLDEST``."""
    return min(value, history.OLDEST) if plain == "age" else value


@cache
def newest_columns(task: TaskName) -> dict[str, int]:
    """The column that holds a patient's newest value of each plain input."""
    return {plain: targets[0] for plain, targets in _targets(task).items()}


def newest_values(row: npt.NDArray[np.floating], task: TaskName) -> dict[str, float]:
    """The plain inputs that a request about a patient with this row would give, each with its newest value."""
    newest = {plain: float(row[column]) for plain, column in newest_columns(task).items()}
    return {plain: value for plain, value in newest.items() if not np.isnan(value)}


def as_request(
    rows: npt.NDArray[np.floating], task: TaskName, inputs: Sequence[str]
) -> npt.NDArray[np.floating]:
    """The features that ``features`` would give if requests gave only the newest value of each of ``inputs``.

    Models are trained and evaluated with it on what requests can give. ``rows`` has shape
    ``[n, len(kernel.names(task))]``; the result is a new array of the same shape and type.
    """
    requests = np.full_like(rows, np.nan)
    for plain in inputs:
        targets = _targets(task)[plain]
        requests[:, targets] = rows[:, targets[:1]]
    return requests
