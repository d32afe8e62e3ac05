"""Served versions: loaded risk models by task, and how a request's values become the inputs of each."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from types import MappingProxyType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from data_pipeline.features import kernel, plain_inputs
from mediscale.core.errors import StorageError
from mediscale.core.refs import ModelRef
from mediscale.core.tasks import TaskName
from mediscale.inference.points import PointsTable
from mediscale.inference.tabular import Predictor
from serving.risk.explainer import Explainer

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class ServedVersion:
    """A loaded version and what is worked out once for it. Immutable: a request that began with it ends with it."""

    predictor: Predictor
    moved_at: datetime
    instead_of: str | None = None
    """Why the newest version of the task does not answer, when this one answers in its place."""
    points_score: "ServedVersion | None" = None
    """What answers where this version fails while it answers; None beside production, and of older versions."""

    @property
    def is_points_score(self) -> bool:
        """Whether it is the points score of a version that can't be loaded."""
        return isinstance(self.predictor.trees, PointsTable)

    @property
    def model(self) -> ModelRef:
        return self.predictor.model

    def in_place_of_newest(self, reason: str | None) -> Self:
        """A copy of this version that says why it answers though it is not the newest."""
        return replace(self, instead_of=reason)

    @cached_property
    def explainer(self) -> Explainer:
        return Explainer(self.predictor.spec)

    @cached_property
    def _columns(self) -> NDArray[np.intp]:
        """The columns of the feature kernel's rows that are the model's inputs.

        Raises:
            StorageError: this release does not compute some of them.
        """
        spec = self.predictor.spec
        position = {name: i for i, name in enumerate(kernel.names(spec.task))}
        absent = [name for name in spec.features if name not in position]
        if absent:
            raise StorageError(
                f"{self.model} was trained on {len(absent)} features that this release does not compute; "
                "train it again."
            )
        return np.array([position[name] for name in spec.features], dtype=np.intp)

    def row(self, computed: NDArray[np.floating]) -> Floats:
        """The model's inputs from a row of the feature kernel."""
        return computed[self._columns].astype(np.float64)

    def row_of_values(self, values: Mapping[str, float]) -> Floats:
        """The model's inputs from plain values, those that it does not know left out."""
        spec = self.predictor.spec
        accepted = {name: value for name, value in values.items() if name in spec.plain_inputs}
        return self.row(plain_inputs.features(accepted, spec.task))


class ServedVersions(Mapping[TaskName, ServedVersion]):
    """The version of each task that answers. Immutable: a request that began with them ends with them."""

    def __init__(
        self, versions: Mapping[TaskName, ServedVersion], unserved: Mapping[TaskName, str] | None = None
    ) -> None:
        self._versions = dict(versions)
        self.unserved: Mapping[TaskName, str] = MappingProxyType(dict(unserved or {}))
        """Every other task of the dataset → why no version of it answers."""

    def __getitem__(self, task: TaskName) -> ServedVersion:
        return self._versions[task]

    def __iter__(self) -> Iterator[TaskName]:
        return iter(self._versions)

    def __len__(self) -> int:
        return len(self._versions)
