"""Splits: the versions that answer beside those in production, as the signed history and the servers' fallbacks say."""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import Generic, TypeVar

from mediscale.core.errors import MediscaleError
from mediscale.core.settings import Settings
from mediscale.core.tasks import TaskName
from mediscale.storage import fallbacks
from mediscale.storage.fallbacks import Fallback
from mediscale.storage.history_entries import Entry, Traffic
from serving.traffic import arms
from serving.traffic.followed_versions import Version
from serving.traffic.sequential_test import SequentialTest

V = TypeVar("V", bound=Version)

log = logging.getLogger("mediscale.serving")


@dataclass(frozen=True)
class Split(Generic[V]):
    """A version that answers beside the one in production, for whom, and what its requests showed so far."""

    entry: Entry
    traffic: Traffic
    version: V
    test: SequentialTest = field(default_factory=SequentialTest)

    def draws(self, key: str) -> bool:
        """Whether this patient is one of those who are drawn."""
        return arms.is_drawn(self.traffic.model_digest, key, self.traffic.percent)

    def arm(self, key: str) -> str:
        """The arm of a patient, whichever version then answers."""
        return "canary" if self.traffic.mode == "canary" and self.draws(key) else "control"


class Splits(Generic[V]):
    """The split of each task, where there is one; ``current`` is replaced as a whole."""

    def __init__(
        self,
        settings: Settings,
        dataset: str,
        load: Callable[[Entry, Traffic], V],
        retry_seconds: float = 0.0,
    ) -> None:
        """``retry_seconds`` are how long a version that can't be loaded is left alone."""
        self._settings, self._dataset, self._load = settings, dataset, load
        self._retry_seconds = retry_seconds
        self._unloadable: dict[str, tuple[float, MediscaleError]] = {}
        """When a version could not be loaded, and why, by the entry's digest."""
        self.current: Mapping[TaskName, Split[V]] = MappingProxyType({})
        self.problems: Mapping[TaskName, str] = MappingProxyType({})
        """Task → why the version that the history lets answer beside production does not."""
        self._broken: dict[str, tuple[Entry, Fallback]] = {}
        """What this process found broken, by the entry's digest."""
        self._to_keep: list[tuple[Entry, Fallback]] = []
        self._replacing = threading.Lock()
        """Versions are loaded by a thread of the background, and given up by whoever answers."""

    def refresh(self, attested: Mapping[TaskName, tuple[Entry, Traffic]]) -> None:
        """Follows the history and what other servers found; a version that can't be loaded is tried again.

        Raises:
            StorageError: the lake does not take what this process found broken; it is tried again.
        """
        while self._to_keep:
            fallbacks.keep(self._settings, self._dataset, *self._to_keep[0])
            del self._to_keep[0]
        current: dict[TaskName, Split[V]] = {}
        problems: dict[TaskName, str] = {}
        for task, (entry, setting) in attested.items():
            try:
                current[task] = self._followed(task, entry, setting)
            except MediscaleError as error:
                problems[task] = str(error)
        for task in self.current.keys() - attested.keys():
            log.info("%s beside production ended", self.current[task].traffic.challenger)
        for task, problem in problems.items():
            if self.problems.get(task) != problem:
                log.error("%s", problem)
        with self._replacing:
            self._keep_sound(current)
            given_up = {task: self.problems[task] for task in current.keys() - self.current.keys()}
            self.problems = MappingProxyType(problems | given_up)

    def give_up(self, split: Split[V], reason: str, at: datetime) -> None:
        """The version in production answers alone at once; ``refresh`` then says so to the other servers."""
        fallback = Fallback(reason=reason, at=at)
        with self._replacing:
            if split.entry.digest in self._broken:
                return
            self._broken[split.entry.digest] = split.entry, fallback
            self._to_keep.append((split.entry, fallback))
            self._keep_sound(self.current)
            sentence = _sentence(split.traffic, fallback)
            self.problems = MappingProxyType({**self.problems, split.traffic.task: sentence})
        log.error("%s", sentence)

    def _keep_sound(self, splits: Mapping[TaskName, Split[V]]) -> None:
        sound = {task: split for task, split in splits.items() if split.entry.digest not in self._broken}
        self.current = MappingProxyType(sound)

    def _followed(self, task: TaskName, entry: Entry, setting: Traffic) -> Split[V]:
        mine = self._broken.get(entry.digest)
        fallback = mine[1] if mine else fallbacks.read(self._settings, self._dataset, entry)
        if fallback is not None:
            raise BrokenVersionError(_sentence(setting, fallback))
        before = self.current.get(task)
        if before is not None and before.entry == entry:
            return before
        at, problem = self._unloadable.get(entry.digest, (0.0, None))
        if problem is not None and time.monotonic() < at + self._retry_seconds:
            raise problem
        try:
            split = Split(entry, setting, self._load(entry, setting))
        except MediscaleError as error:
            self._unloadable[entry.digest] = time.monotonic(), error
            raise
        log.info("%s", setting)
        return split


class BrokenVersionError(MediscaleError):
    """A version was found broken while it answered."""


def _sentence(setting: Traffic, fallback: Fallback) -> str:
    return (
        f"{setting.challenger} no longer answers beside production: {fallback.reason} The version in production "
        f"answers alone. Sign it with `mediscale canary {setting.model}/{setting.version} --stop`."
    )
