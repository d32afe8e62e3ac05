"""The versions that are served now: they follow an alias in the promotion history, without a restart."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from types import MappingProxyType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from data_pipeline.features import kernel
from mediscale.core import task_names
from mediscale.core.errors import MediscaleError, StorageError
from mediscale.core.refs import ModelRef, TableRef
from mediscale.core.settings import Settings
from mediscale.core.tables import HISTORY, LABELS
from mediscale.core.tasks import TaskName
from mediscale.inference import language_spec, model_files, model_signature, tabular
from mediscale.inference.tabular import Predictor
from mediscale.storage import lake, registry, seen_tables
from mediscale.storage.registry import Alias, Move
from serving.explainer import Explainer
from serving.followed_versions import newest_that_loads, targets

Floats = NDArray[np.float64]

log = logging.getLogger("mediscale.serving")


@dataclass(frozen=True)
class Served:
    """A loaded version and what is worked out once for it. Immutable: a request that began with it ends with it."""

    predictor: Predictor
    moved_at: datetime
    instead_of: str | None = None
    """Why the newest version of the task does not answer, when this one answers in its place."""

    @property
    def model(self) -> ModelRef:
        return self.predictor.model

    def in_place_of_newest(self, reason: str | None) -> Self:
        """The same version, and why it answers though it is not the newest."""
        return replace(self, instead_of=reason)

    @cached_property
    def explainer(self) -> Explainer:
        return Explainer(self.predictor.spec)

    @cached_property
    def _columns(self) -> NDArray[np.intp]:
        """Where the feature kernel has the model's inputs."""
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
        return self.row(kernel.from_values(accepted, spec.task))


class Predictors:
    """The newest good version of each task under an alias; ``current`` is replaced as a whole."""

    def __init__(self, settings: Settings, dataset: str, alias: Alias) -> None:
        self._settings = settings
        self.dataset, self.alias = dataset, alias
        self.current: Mapping[TaskName, Served] = MappingProxyType({})
        self.refused: Mapping[TaskName, str] = MappingProxyType({})
        """Task → why the version that its alias points to is not served. The one before it is, if there was one."""
        self.unserved: Mapping[TaskName, str] = MappingProxyType({})
        """Every other task of the dataset → why no version of it answers."""
        self._seen: TableRef | None = None

    def refresh(self) -> None:
        """Follows the history; cheap when nothing moved. A version that was refused is tried again each time.

        Raises:
            MediscaleError: the history can't be read. What is served stays.
        """
        newest = seen_tables.current(self._settings, self.dataset, HISTORY.name)
        if newest == self._seen and not self.refused:
            return
        served: dict[TaskName, Served] = dict(self.current)
        refused: dict[TaskName, str] = {}
        history = registry.attested(self._settings, self.dataset)
        for task, moves in targets(history, self.alias).items():
            if task == language_spec.TASK:
                continue
            version, reason = newest_that_loads(moves, served.get(task), self._load)
            if reason is not None:
                refused[task] = reason
                if self.refused.get(task) != reason:
                    log.error("%s", reason)
            if version is not None:
                served[task] = version
        self.current, self.refused = MappingProxyType(served), MappingProxyType(refused)
        unserved = {
            task: refused.get(task, self._not_promoted())
            for task in sorted(self._tasks(history) - served.keys())
        }
        self.unserved = MappingProxyType(unserved)
        self._seen = newest

    def check_files(self) -> None:
        """Compares the files of what is served with what was promoted.

        Raises:
            MediscaleError: they were changed or are gone. They are served from memory while this process lives.
        """
        for version in self.current.values():
            try:
                model_files.checked(self._settings, version.model)
            except MediscaleError as error:
                raise StorageError(
                    f"{error} It is served from memory; after a restart an older version would answer."
                ) from error

    def _not_promoted(self) -> str:
        return f"No version of it is in {self.alias}."

    def _tasks(self, history: Sequence[Move]) -> set[TaskName]:
        """The dataset's tasks: those that were ever promoted or have a cohort."""
        with_cohort = (
            task
            for task in task_names.all_names()
            if lake.exists(self._settings, self.dataset, f"{LABELS.name}_{task}")
        )
        return {move.task for move in history if move.task != language_spec.TASK} | set(with_cohort)

    def _load(self, move: Move) -> Served:
        model_signature.check(self._settings, move.version, move.evidence_digest)
        served = Served(tabular.load(self._settings, move.version, move.task), move.moved_at)
        served.row_of_values({})  # works out the columns, so that a version that can't be fed is refused here
        log.info("%s is served as %s", served.model, self.alias)
        return served
