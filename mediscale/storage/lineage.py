"""Lineage: what was made from what, and the runs that made it. Reads call records and run lists, and guesses nothing.

A call's record names the artifacts that it read and made: tables at a version, model versions, digests of files. A call
that reads an artifact stands downstream of the call that made it.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

from pydantic import BaseModel

from mediscale.core.annotations import Meaning, field_meanings
from mediscale.core.errors import MediscaleError, NotFoundError
from mediscale.core.refs import ModelRef, TableRef, parse_version
from mediscale.core.settings import Settings
from mediscale.storage import calls
from mediscale.storage.calls import Call

DECISION = "promotion"
"""The stage that decides about a version of a risk model."""
EVALUATIONS = ("evaluate", "evaluate_language")
"""The stages that leave the evidence that a version is decided by."""
DECISIONS = (DECISION, "promote_language")
"""The stages that decide about a version."""


def artifact_ids(value: BaseModel) -> tuple[str, ...]:
    """Ids of the artifacts that Params or a Result name, each once; not those that are only compared with."""
    return tuple(dict.fromkeys(_ids(value)))


def _ids(value: Any, digest: bool = False) -> Iterator[str]:
    if isinstance(value, TableRef):
        yield f"table:{value.table_id}@{value.version}"
    elif isinstance(value, ModelRef):
        yield f"model:{value.name}/{value.version}"
    elif isinstance(value, BaseModel):
        yield from _ids_of_fields(value)
    elif isinstance(value, dict | list | tuple):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _ids(inner, digest)
    elif digest and isinstance(value, str):
        yield f"digest:{value}"


def _ids_of_fields(value: BaseModel) -> Iterator[str]:
    for name, field in type(value).model_fields.items():
        meanings = field_meanings(field)
        if Meaning.COMPARED_WITH not in meanings:
            yield from _ids(getattr(value, name), Meaning.DIGEST in meanings)


@dataclass(frozen=True)
class Run:
    """The calls of one run and all that they were made from, oldest first."""

    run_id: str
    calls: tuple[Call, ...]
    cached: frozenset[str]
    """Keys of the calls that another run had made."""
    began_at: datetime | None
    """When its first call began or was found; None where all that it lists is gone."""

    def all(self, stage: str, task: str = "") -> list[Call]:
        return [call for call in self.calls if call.stage == stage and task in ("", call.task)]

    def newest(self, stage: str, task: str = "") -> Call | None:
        return next(reversed(self.all(stage, task)), None)

    def only(self, stage: str) -> Call:
        """The newest call of a stage that every such run has.

        Raises:
            MediscaleError: its record is missing.
        """
        call = self.newest(stage)
        if call is None:
            raise MediscaleError(
                f"The run has no record of {stage}; its lake is incomplete, restore it from a backup."
            )
        return call

    @property
    def dataset(self) -> str:
        """The dataset of the first call that names one."""
        return next((str(call.params["dataset"]) for call in self.calls if "dataset" in call.params), "")

    @property
    def tasks(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(call.task for call in self.calls if call.task))

    @property
    def decisions(self) -> list[Call]:
        return [call for call in self.calls if call.stage in DECISIONS]


class Lineage:
    """All calls of a home, and what each was made from."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.calls = tuple(calls.all_calls(settings))
        self.by_key = {call.key: call for call in self.calls}

    @cached_property
    def _makers(self) -> dict[str, list[Call]]:
        makers: dict[str, list[Call]] = {}
        for call in self.calls:
            for artifact in call.produced:
                makers.setdefault(artifact, []).append(call)
        return makers

    def maker(self, name: str, version: int) -> Call:
        """The call that registered a version.

        Raises:
            NotFoundError: no record says so.
        """
        makers = self._makers.get(f"model:{name}/{version}", [])
        if not makers:
            versions = sorted(a.removeprefix("model:") for a in self._makers if a.startswith("model:"))
            raise NotFoundError(
                f"No record of this home registered {name}/{version}; it has {', '.join(versions) or 'none yet'}."
            )
        return makers[-1]

    def makers_of(self, table: TableRef) -> list[Call]:
        """The calls that wrote a version of a table."""
        return self._makers.get(f"table:{table.table_id}@{table.version}", [])

    def maker_of_rows(self, table: TableRef) -> Call | None:
        """The newest call that wrote a version of a table up to this one: compaction makes versions, and no rows."""
        for version in range(table.version, -1, -1):
            if makers := self.makers_of(table.model_copy(update={"version": version})):
                return makers[-1]
        return None

    def parents(self, call: Call) -> Iterator[Call]:
        """The calls that made what this one read."""
        for artifact in call.inputs:
            earlier = [
                maker for maker in self._makers.get(artifact, []) if maker.started_at < call.started_at
            ]
            yield from earlier[-1:]

    def upstream(self, starts: Iterable[Call]) -> dict[str, Call]:
        """The calls and all that they were made from, by key."""
        reached: dict[str, Call] = {}
        waiting = list(starts)
        while waiting:
            call = waiting.pop()
            if call.key not in reached:
                reached[call.key] = call
                waiting.extend(self.parents(call))
        return reached

    def run(self, run_id: str) -> Run:
        """A run with what it was made from: a retraining reads the features of an earlier night's run."""
        return self._of(run_id, calls.entries(self._settings, run_id))

    def _of(self, run_id: str, entries: Iterable[calls.RunEntry]) -> Run:
        listed = [entry for entry in entries if entry.key in self.by_key]
        own = [self.by_key[entry.key] for entry in listed]
        upstream = self.upstream(own)
        cached = frozenset(call.key for call in upstream.values() if call.run_id != run_id)
        made = [call.started_at for call in upstream.values() if call.run_id == run_id]
        began_at = min([*made, *(entry.at for entry in listed)], default=None)
        return Run(run_id, tuple(call for call in self.calls if call.key in upstream), cached, began_at)

    def runs(self) -> list[Run]:
        """Every run that made or found a call, oldest first."""
        listed = {run_id: calls.entries(self._settings, run_id) for run_id in calls.run_ids(self._settings)}
        oldest_first = sorted((entries[0].at, run_id) for run_id, entries in listed.items() if entries)
        runs = (self._of(run_id, listed[run_id]) for _, run_id in oldest_first)
        return [run for run in runs if run.calls]


def find(settings: Settings, name: str = "") -> Run:
    """Finds a run: by nothing (the newest that decided), by its id, by a dataset, by a version as ``name/3``,
    or by the beginning of a call's key.

    Raises:
        NotFoundError: there is none.
    """
    lineage = Lineage(settings)
    decisions = [call for call in reversed(lineage.calls) if call.stage in DECISIONS]
    if version := parse_version(name):
        name = "{}/{}".format(*version)
    if name in calls.run_ids(settings):
        return lineage.run(name)
    for decision in decisions:
        if not name or name in (decision.params["dataset"], version_of(decision)):
            return lineage.run(_first_of_version(decision, decisions, name).run_id)
    if len(name) >= _PREFIX:
        for call in reversed(lineage.calls):
            if call.key.startswith(name):
                return lineage.run(call.run_id)
    if not decisions:
        raise NotFoundError("No run has come to a decision in this home yet; run `mediscale run` first.")
    datasets = ", ".join(dict.fromkeys(decision.params["dataset"] for decision in decisions))
    raise NotFoundError(
        f"There is no run {name!r} in this home: name a run (see `mediscale runs`), a dataset ({datasets}), a version "
        f"as {version_of(decisions[0])}, or at least {_PREFIX} letters of a call's key."
    )


_PREFIX = 6


def version_of(decision: Call) -> str:
    """The version that a decision is about, as ``name/3``."""
    return f"{decision.params['model']['name']}/{decision.params['model']['version']}"


def status_of(decision: Call) -> str:
    """What was decided about the version: ``production``, ``staging`` or ``refused``."""
    result = decision.result
    return "production" if result["promoted"] else "staging" if result["staged"] else "refused"


def _first_of_version(decision: Call, newest_first: list[Call], name: str) -> Call:
    """The first decision about a version that is named, whose run trained it: a person may have released it later."""
    if name != version_of(decision):
        return decision
    return [other for other in newest_first if version_of(other) == name][-1]
