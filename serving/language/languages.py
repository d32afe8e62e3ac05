"""The language versions that are served now: they follow an alias in the promotion history, without a restart."""

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from typing import Self

from pydantic import ValidationError

from mediscale.core.errors import StorageError
from mediscale.core.refs import ModelRef, TableRef
from mediscale.core.settings import Settings
from mediscale.core.tables import HISTORY
from mediscale.core.task_names import LANGUAGE
from mediscale.inference import model_files, model_signature
from mediscale.inference.chat_template import ChatTemplate, conversation
from mediscale.inference.language_spec import LanguageSpec
from mediscale.inference.model_files import LANGUAGE_FILE
from mediscale.storage import history, registry, seen_tables, traffic
from mediscale.storage.history_entries import Alias, Entry, Traffic
from mediscale.storage.registry import Move
from serving.language import language_engine
from serving.language.language_engine import Engine, EngineError
from serving.traffic.followed_versions import newest_that_loads, targets
from serving.traffic.shared_refusals import SharedRefusals
from serving.traffic.splits import Split, Splits

RETRY_SECONDS = 30.0
"""After which a version that was refused is tried again, for loading one may take a core for a minute."""

_QUESTION = "\N{OBJECT REPLACEMENT CHARACTER}"
"""Stands for a question while its surroundings are looked for."""

log = logging.getLogger("mediscale.serving")


@dataclass(frozen=True)
class ServedLanguage:
    """A version with its engine. Immutable: a request that began with it ends with it."""

    model: ModelRef
    spec: LanguageSpec
    engine: Engine
    moved_at: datetime
    instead_of: str | None = None
    """Why the newest version does not answer, when this one answers in its place."""

    @cached_property
    def template(self) -> ChatTemplate:
        return ChatTemplate(self.spec.chat_template, self.spec.special_tokens)

    @cached_property
    def _around_question(self) -> tuple[str, str]:
        """What stands before and after a question in the prompt of this version."""
        turns = conversation(_QUESTION, "", self.spec.instruction)
        before, _, after = self.template.render(turns).partition(_QUESTION)
        return before, after

    def question_in(self, prompt: str) -> str:
        """What a text asks that may be a prompt of this version: without its instruction and its template's marks.

        Anything else of such marks stays, as somebody else's who would pass for the system.
        """
        before, after = self._around_question
        if not (before and prompt.startswith(before) and after in prompt):
            return prompt
        question, _, begun = prompt.removeprefix(before).partition(after)
        return f"{question}\n{begun}".strip()

    @property
    def name(self) -> str:
        """The version's name, as people and as clients of OpenAI's protocol write it."""
        return f"{self.model.name}/{self.model.version}"

    def in_place_of_newest(self, reason: str | None) -> Self:
        """A copy of this version that says why it answers though it is not the newest."""
        return replace(self, instead_of=reason)


class Languages:
    """The newest good language version under an alias; ``current`` is replaced as a whole."""

    def __init__(self, settings: Settings, dataset: str, alias: Alias) -> None:
        self._settings = settings
        self.dataset, self.alias = dataset, alias
        self.current: ServedLanguage | None = None
        self.refused: str | None = None
        """Why the version that the alias points to is not served. The one before it is, if there was one."""
        self.is_promoted: bool | None = None
        """Whether the alias points to a version; None until the history was read."""
        self.refused_elsewhere: str | None = None
        """What another server says of the version that answers here."""
        self.splits: Splits[ServedLanguage] = Splits(settings, dataset, self._load_beside, RETRY_SECONDS)
        """The version that answers beside ``current``, where there is one."""
        self._traffic: Mapping[str, tuple[Entry, Traffic]] = {}
        self._refusals = SharedRefusals(settings, dataset)
        self._newest: Mapping[str, Entry] = {}
        self._seen: TableRef | None = None
        self._tries_again = 0.0
        self.prepare: Callable[[], object] = lambda: None
        """Called before a version answers, by the thread that loaded it."""

    @property
    def is_loaded(self) -> bool:
        """Whether the version that the alias points to answers, or it points to none."""
        return self.refused is None and (self.current is not None or self.is_promoted is False)

    @property
    def split(self) -> Split[ServedLanguage] | None:
        """The version that answers beside ``current``, and for whom."""
        return self.splits.current.get(LANGUAGE)

    @property
    def loaded(self) -> tuple[ServedLanguage, ...]:
        """Every version that answers somebody."""
        beside = [split.version for split in self.splits.current.values()]
        return tuple(version for version in (self.current, *beside) if version is not None)

    def refresh(self) -> None:
        """Follows the history; cheap when nothing moved. A version that was refused is tried again.

        Raises:
            MediscaleError: the history can't be read. What is served stays.
        """
        newest = seen_tables.current(self._settings, self.dataset, HISTORY.name)
        if newest != self._seen or (self.refused is not None and time.monotonic() >= self._tries_again):
            self._follow(newest)
        self.splits.refresh(self._traffic)

    def share_refusals(self) -> None:
        """Tells the other servers what is refused here, and looks at what they refuse.

        Raises:
            StorageError: the lake can't be read or written.
        """
        refused = {} if self.refused is None else {LANGUAGE: self.refused}
        self.refused_elsewhere = self._refusals.share(self._newest, refused).get(LANGUAGE)

    def _follow(self, newest: TableRef | None) -> None:
        recorded = history.entries(self._settings, self.dataset)
        attested = registry.attested_in(self._settings, recorded)
        moves = targets(attested, self.alias).get(LANGUAGE, [])
        self._newest = {LANGUAGE: recorded[moves[0].sequence - 1]} if moves else {}
        self.is_promoted = bool(moves)
        version, refused = newest_that_loads(moves, self.current, self._load)
        if refused is not None and refused != self.refused:
            log.error("%s", refused)
        if version is not None:
            self.prepare()
        self.current, self.refused, self._seen = version, refused, newest
        if self.alias == "production":
            beside = traffic.attested(self._settings, recorded)
            self._traffic = {task: each for task, each in beside.items() if task == LANGUAGE}
        self._tries_again = time.monotonic() + RETRY_SECONDS

    def check(self) -> None:
        """Compares the files of what is served with what was promoted, and its engine with the training.

        Raises:
            MediscaleError: files were changed or are gone; the version is served on from memory.
            EngineError: the engine does not answer as it should; it gets no question until it does.
        """
        for loaded in self.loaded:
            model_files.read_verified(self._settings, loaded.model)
        version = self.current
        if version is None:
            return
        try:
            version.engine.check()
        except EngineError as error:
            self.current, self.refused = None, str(error)
            raise

    def _load(self, move: Move) -> ServedLanguage:
        served = self._loaded(move.version, move.evidence_digest, move.moved_at)
        log.info("%s is served as %s", served.model, self.alias)
        return served

    def _load_beside(self, entry: Entry, setting: Traffic) -> ServedLanguage:
        return self._loaded(setting.challenger, setting.evidence_digest, entry.at)

    def _loaded(self, model: ModelRef, evidence_digest: str, since: datetime) -> ServedLanguage:
        model_signature.check(self._settings, model, evidence_digest)
        for version in self.loaded:  # in memory already, as a canary that is promoted is
            if version.model == model:
                return replace(version, moved_at=since, instead_of=None)
        try:
            spec = LanguageSpec.model_validate_json(
                model_files.read_verified(self._settings, model)[LANGUAGE_FILE]
            )
        except (KeyError, ValidationError) as error:
            raise StorageError(f"The files of {model} lack what serving reads; train it again.") from error
        if spec.name != model.name:
            raise StorageError(f"The files of {model} belong to another model; it is not served.")
        engine: Engine
        if self._settings.language_engine:
            from serving.language import engine_client

            engine = engine_client.connected(self._settings, f"{model.name}/{model.version}", spec)
        else:
            engine = language_engine.in_process(self._settings, model)
        return ServedLanguage(model, spec, engine, since)
