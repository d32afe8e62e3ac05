"""Followed versions: the one that an alias points to, and the one that answers where that can't be loaded."""

from collections.abc import Callable, Sequence
from typing import Protocol, Self, TypeVar

from mediscale.core.errors import MediscaleError
from mediscale.core.refs import ModelRef
from mediscale.storage.history_entries import Alias
from mediscale.storage.registry import Move


class Version(Protocol):
    """A loaded version."""

    @property
    def model(self) -> ModelRef: ...

    @property
    def instead_of(self) -> str | None:
        """Why the newest version does not answer, when this one answers in its place."""

    def in_place_of_newest(self, reason: str | None) -> Self:
        """A copy of this version that says why it answers though it is not the newest."""


V = TypeVar("V", bound=Version)


def targets(history: Sequence[Move], alias: Alias) -> dict[str, list[Move]]:
    """The versions that may answer, by task: that of the alias, then its incumbents (what each replaced), newest first.

    A move back to an incumbent withdraws what had replaced it: no server returns to a withdrawn version by itself.
    """
    by_task: dict[str, list[Move]] = {}
    for move in history:
        if move.alias == alias:
            attested = by_task.get(move.task, [])
            versions = [one.version for one in attested]
            kept = attested[versions.index(move.version) + 1 :] if move.version in versions else attested
            by_task[move.task] = [move, *kept]
    return by_task


def newest_that_loads(
    moves: Sequence[Move], current: V | None, load: Callable[[Move], V]
) -> tuple[V | None, str | None]:
    """The newest version that can be loaded from an alias's moves, and why an older one than the newest answers."""
    reason: str | None = None
    for move in moves:
        version = current
        if version is None or version.model != move.version:
            try:
                version = load(move)
            except MediscaleError as error:
                reason = reason or str(error)
                continue
        return _explained(version, reason)
    return _explained(current, reason)


def _explained(version: V | None, reason: str | None) -> tuple[V | None, str | None]:
    """The version as one that answers in another's place, or no longer does."""
    if version is None:
        return None, reason
    if reason is not None:
        reason = f"{reason} Version {version.model.version} answers in its place."
    return (version if version.instead_of == reason else version.in_place_of_newest(reason)), reason
