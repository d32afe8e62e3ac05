"""The versions that are served now: they follow an alias in the promotion history, without a restart."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from types import MappingProxyType

from mediscale.core import task_names
from mediscale.core.errors import MediscaleError, StorageError
from mediscale.core.refs import ModelRef, TableRef
from mediscale.core.settings import Settings
from mediscale.core.tables import HISTORY, LABELS
from mediscale.core.tasks import TaskName
from mediscale.inference import model_files, model_signature, tabular
from mediscale.storage import history, lake, registry, seen_tables, traffic
from mediscale.storage.history_entries import Alias, Entry, Traffic
from mediscale.storage.registry import Move
from serving.helper_process import HelperProcess
from serving.risk import note_reader
from serving.risk.note_reader import ServedReader
from serving.risk.served import ServedVersion, ServedVersions
from serving.traffic.followed_versions import newest_that_loads, targets
from serving.traffic.shared_refusals import SharedRefusals
from serving.traffic.splits import Splits

log = logging.getLogger("mediscale.serving")


class Predictors:
    """The newest good version of each task under an alias; ``current`` is replaced as a whole."""

    def __init__(self, settings: Settings, dataset: str, alias: Alias) -> None:
        self._settings = settings
        self.notes = HelperProcess()
        self.dataset, self.alias = dataset, alias
        self.current = ServedVersions({})
        self.refused: Mapping[TaskName, str] = MappingProxyType({})
        """Task → why the version that its alias points to is not served. The one before it is, if there was one."""
        self.splits: Splits[ServedVersion] = Splits(settings, dataset, self._load_beside)
        """The versions that answer beside those of ``current``."""
        self.refused_elsewhere: Mapping[TaskName, str] = MappingProxyType({})
        """Task → what another server says of the version that answers here."""
        self._traffic: Mapping[TaskName, tuple[Entry, Traffic]] = {}
        self._refusals = SharedRefusals(settings, dataset)
        self._newest: Mapping[TaskName, Entry] = {}
        self._seen: TableRef | None = None

    @property
    def loaded(self) -> tuple[ServedVersion, ...]:
        """Every version that answers somebody, those beside production included."""
        return (*self.current.values(), *(split.version for split in self.splits.current.values()))

    def refresh(self) -> None:
        """Follows the history; cheap when nothing moved. A version that was refused is tried again each time.

        Raises:
            MediscaleError: the history can't be read. What is served stays.
        """
        newest = seen_tables.current(self._settings, self.dataset, HISTORY.name)
        if newest != self._seen or self.refused:
            self._follow(newest)
        self.splits.refresh(self._traffic)
        note_reader.drop_unused()

    def share_refusals(self) -> None:
        """Tells the other servers what is refused here, and looks at what they refuse.

        Raises:
            StorageError: the lake can't be read or written.
        """
        self.refused_elsewhere = MappingProxyType(self._refusals.share(self._newest, self.refused))

    def _follow(self, newest: TableRef | None) -> None:
        served: dict[TaskName, ServedVersion] = dict(self.current)
        refused: dict[TaskName, str] = {}
        recorded = history.entries(self._settings, self.dataset)
        attested = registry.attested_in(self._settings, recorded)
        followed = targets(attested, self.alias)
        followed.pop(task_names.LANGUAGE, None)
        for task, moves in followed.items():
            current = served.pop(task, None)
            version, reason = newest_that_loads(
                moves, None if current and current.is_points_score else current, self._load
            )
            if version is None:
                version = self._points_score(moves, reason)
                reason = version.instead_of if version else reason
            if reason is not None:
                refused[task] = reason
                if self.refused.get(task) != reason:
                    log.error("%s", reason)
            if version is not None:
                served[task] = version
        unserved = {
            task: refused.get(task, self._not_promoted())
            for task in sorted(self._tasks(attested) - served.keys())
        }
        self.current, self.refused = ServedVersions(served, unserved), MappingProxyType(refused)
        self._newest = {task: recorded[moves[0].sequence - 1] for task, moves in followed.items()}
        if self.alias == "production":
            beside = traffic.attested(self._settings, recorded)
            self._traffic = {task: each for task, each in beside.items() if task != task_names.LANGUAGE}
        self._seen = newest

    def check_files(self) -> None:
        """Compares the files of what is served with what was promoted.

        Raises:
            MediscaleError: they were changed or are gone. They are served from memory while this process lives.
        """
        for version in self.loaded:
            try:
                model_files.read_verified(self._settings, version.model)
            except MediscaleError as error:
                raise StorageError(
                    f"{error} It is served from memory; after a restart an older version would answer."
                ) from error

    def _not_promoted(self) -> str:
        return f"No version of it is in {self.alias}."

    def _tasks(self, attested: Sequence[Move]) -> set[TaskName]:
        """The dataset's tasks: those that were ever promoted or have a cohort."""
        with_cohort = (
            task
            for task in task_names.all_names()
            if lake.exists(self._settings, self.dataset, f"{LABELS.name}_{task}")
        )
        return {move.task for move in attested if move.task != task_names.LANGUAGE} | set(with_cohort)

    def _load(self, move: Move) -> ServedVersion:
        served = self._loaded(move.version, move.evidence_digest, move.task, move.moved_at)
        log.info("%s is served as %s", served.model, self.alias)
        return replace(served, points_score=_fallback(served))

    def _points_score(self, moves: Sequence[Move], reason: str | None) -> ServedVersion | None:
        """The points score of the newest version whose files hold one: it answers where no version can be loaded."""
        for move in moves:
            try:
                model_signature.check(self._settings, move.version, move.evidence_digest)
                score = tabular.load_points_score(self._settings, move.version, move.task)
                why = f"{reason} The points score of {move.version} answers in its place."
                served = ServedVersion(score, move.moved_at, why)
                served.row_of_values({})
            except MediscaleError:
                continue
            return served
        return None

    def _load_beside(self, entry: Entry, setting: Traffic) -> ServedVersion:
        return self._loaded(setting.challenger, setting.evidence_digest, setting.task, entry.at)

    def _loaded(
        self, model: ModelRef, evidence_digest: str, task: TaskName, since: datetime
    ) -> ServedVersion:
        model_signature.check(self._settings, model, evidence_digest)
        reader_of = partial(ServedReader, self.notes, partial(self._note_files, model))
        served = ServedVersion(tabular.load(self._settings, model, task, reader_of), since)
        served.row_of_values({})  # works out the columns, so that a version that can't be fed is refused here
        return served

    def _note_files(self, model: ModelRef) -> dict[str, bytes]:
        return model_files.note_model_files(model_files.read_verified(self._settings, model))


def _fallback(version: ServedVersion) -> ServedVersion | None:
    score = tabular.points_score_of(version.predictor)
    if score is None:
        return None
    why = f"{version.model} failed while it answered. Its points score answers in its place."
    return ServedVersion(score, version.moved_at, why)
