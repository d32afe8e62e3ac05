"""What was made from what, and which calls belong to one run: reads of manifests alone.

A call made what its result names and its parameters do not: tables at a version, model versions, digests of files. A
call whose parameters name one of these stands downstream of it.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

from mediscale.core.errors import NotFoundError
from mediscale.core.settings import Settings
from mediscale.core.tasks import TASKS
from mediscale.storage import calls as manifest
from mediscale.storage.calls import Manifest

DECISION = "promotion"
"""The stage that a run ends with, for each task."""
ROOT = "silver"
"""What the tasks of one run share."""
AFTERWARDS = ("rehearsal", "rounds", "drift", "retrain")
"""What is done with a decided version, and belongs to its run."""
_BESIDE = "incumbent"
"""Begins the names of parameters about another run's model, which this run is only compared with."""

Mark = tuple[str, ...]


@dataclass(frozen=True)
class Run:
    """The calls from an extract to the decisions about the models made of it, and what was done with those since."""

    dataset: str
    calls: tuple[Manifest, ...]
    """Oldest first; of a task that came to no decision, as far as it came."""

    def all(self, stage: str, task: str = "") -> list[Manifest]:
        return [call for call in self.calls if call.stage == stage and task in ("", task_of(call))]

    def newest(self, stage: str, task: str = "") -> Manifest | None:
        return next(reversed(self.all(stage, task)), None)

    @property
    def tasks(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(task for call in self.calls if (task := task_of(call))))

    @property
    def name(self) -> str:
        """Of its files: dataset, when it was decided (UTC), and the beginning of the decision's key."""
        last = self.all(DECISION)[-1]
        return f"{self.dataset}-{last.started_at:%Y%m%d-%H%M}-{last.key[:8]}"


def find(settings: Settings, asked: str = "") -> Run:
    """The run that is meant: by nothing (the newest), by a dataset, by a version as ``name/3``, or by the beginning of
    a manifest's key.

    Raises:
        NotFoundError: there is none.
    """
    graph = Graph(tuple(manifest.everything(settings)))
    for decision in reversed(graph.decisions):
        if not asked or asked in (decision.params["dataset"], _version(decision)):
            return graph.run(decision)
        if _holds(run := graph.run(decision), asked):
            return run
    if not graph.decisions:
        raise NotFoundError("No run has come to a decision in this home yet; run the loop first.")
    known = ", ".join(dict.fromkeys(decision.params["dataset"] for decision in graph.decisions))
    raise NotFoundError(
        f"There is no run {asked!r} in this home: name a dataset ({known}), a version as "
        f"{_version(graph.decisions[-1])}, or at least {_PREFIX} letters of a manifest's key."
    )


_PREFIX = 6


def _version(decision: Manifest) -> str:
    return f"{decision.params['model']['name']}/{decision.params['model']['version']}"


def _holds(run: Run, prefix: str) -> bool:
    return len(prefix) >= _PREFIX and any(call.key.startswith(prefix) for call in run.calls)


def task_of(call: Manifest) -> str:
    """The task that a call was made for; empty for what the tasks share."""
    return str(call.params.get("task") or "")


@dataclass(frozen=True)
class Graph:
    """Calls, oldest first, and what each was made from."""

    calls: tuple[Manifest, ...]

    @cached_property
    def decisions(self) -> list[Manifest]:
        return [call for call in self.calls if call.stage == DECISION]

    @cached_property
    def _makers(self) -> dict[Mark, list[Manifest]]:
        makers: dict[Mark, list[Manifest]] = {}
        for call in self.calls:
            for mark in set(marks(call.result)) - set(marks(call.params)):
                makers.setdefault(mark, []).append(call)
        return makers

    @cached_property
    def _parents(self) -> dict[str, list[Manifest]]:
        return {call.key: list(self._made_for(call)) for call in self.calls}

    def _made_for(self, call: Manifest) -> Iterator[Manifest]:
        for mark in dict.fromkeys(marks(call.params)):
            earlier = [maker for maker in self._makers.get(mark, []) if maker.started_at < call.started_at]
            yield from earlier[-1:]

    def upstream(self, call: Manifest) -> dict[str, Manifest]:
        """The call and all that it was made from, by key."""
        found: dict[str, Manifest] = {}
        waiting = [call]
        while waiting:
            one = waiting.pop()
            if one.key not in found:
                found[one.key] = one
                waiting.extend(self._parents[one.key])
        return found

    def run(self, decision: Manifest) -> Run:
        """The run of a decision, with the other tasks of the same records as far as each came.

        What was decided about the same records later is another run, and changes nothing in this one.
        """
        made = self.upstream(decision)
        shared = {call.key for call in made.values() if call.stage == ROOT}
        of_these = [
            call
            for call in self.calls
            if task_of(call) and call.stage not in AFTERWARDS
            if call is decision or shared & self.upstream(call).keys()
        ]
        for end in self._beside(decision, of_these):
            made |= self.upstream(end)
        for call in list(self._about(made.values())):
            made |= {call.key: call} if call.stage in AFTERWARDS else self.upstream(call)
        return Run(decision.params["dataset"], tuple(call for call in self.calls if call.key in made))

    def _beside(self, decision: Manifest, of_these: Sequence[Manifest]) -> Iterator[Manifest]:
        """The last calls of the other tasks: the decision that was made together with this one, or the newest before
        it; without any, the newest call of every stage that was reached before this task was decided about again."""
        own = task_of(decision)
        rounds = self._rounds([call for call in of_these if call.stage == DECISION])
        this = next(i for i, held in enumerate(rounds) if _version(decision) in map(_version, held.values()))
        again = next((held[own].started_at for held in rounds[this + 1 :] if own in held), None)
        for task in dict.fromkeys(task_of(call) for call in of_these if task_of(call) != own):
            decided = next((held[task] for held in reversed(rounds[: this + 1]) if task in held), None)
            reached = [call for call in of_these if task_of(call) == task]
            before = [call for call in reached if again is None or call.started_at < again]
            yield from [decided] if decided else {call.stage: call for call in before}.values()

    def _rounds(self, decisions: Sequence[Manifest]) -> list[dict[str, Manifest]]:
        """Decisions about the same records by task, those together that one run made. A version that is decided about
        once more, as when a person releases it, makes no round."""
        rounds: list[dict[str, Manifest]] = []
        known: set[str] = set()
        used: set[str] = set()
        for decision in decisions:
            if _version(decision) in known:
                continue
            made = self.upstream(decision)
            began = min(call.started_at for key, call in made.items() if key not in used)
            if not rounds or not _together(rounds[-1], task_of(decision), began):
                rounds.append({})
            rounds[-1][task_of(decision)] = decision
            known.add(_version(decision))
            used |= made.keys()
        return rounds

    def _about(self, made: Iterable[Manifest]) -> Iterator[Manifest]:
        """Calls about the decided versions: what was done with them since, and what they were left as by."""
        decided = (call for call in made if call.stage == DECISION)
        versions = {mark for call in decided for mark in marks({"": call.params["model"]})}
        for call in self.calls:
            named = set(marks(call.params if call.stage in AFTERWARDS else call.result))
            if versions & named:
                yield call


def _together(held: Mapping[str, Manifest], task: str, began: datetime) -> bool:
    """Whether the run that made these decisions made one about this task too, for which it first called a stage then:
    a run takes the tasks in their order, or side by side."""
    in_order = all(TASKS.index(other) < TASKS.index(task) for other in held)
    side_by_side = task not in held and began < max(call.started_at for call in held.values())
    return in_order or side_by_side


def marks(values: Mapping[str, Any]) -> Iterator[Mark]:
    """What parameters or a result name so that it can be told apart wherever it is named again."""
    for name, value in values.items():
        if not name.startswith(_BESIDE):
            yield from _marks(name, value)


def _marks(name: str, value: Any) -> Iterator[Mark]:
    if isinstance(value, str) and name.endswith("_digest"):
        yield ("digest", value)
    elif isinstance(value, Mapping):
        if {"table_id", "version"} <= value.keys():
            yield ("table", str(value["table_id"]), str(value["version"]))
        elif {"name", "version", "digest"} <= value.keys():
            yield ("model", str(value["name"]), str(value["version"]))
        else:
            yield from marks(value)
    elif isinstance(value, list):
        for item in value:
            yield from _marks(name, item)
