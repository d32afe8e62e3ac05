"""Promotion context, which a caller looks up about a version: the incumbent, and the history's next number.

A repeated run finds the calls of an earlier one, so what was looked up for each past decision can be told again.
"""

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from mediscale.core.refs import Frozen, ModelRef
from mediscale.core.settings import Settings
from mediscale.core.stage import Context
from mediscale.storage import history, registry


class PromotionContext(Frozen):
    """How the promotion history stood for a version."""

    incumbent: ModelRef | None
    """The version in production; None where there was none, or it was this version."""
    sequence: int
    """The next number of the history."""


class PastDecision(Frozen):
    """The context of a call that moved an alias to a version, and who called it when."""

    context: PromotionContext
    actor: str
    moved_at: datetime
    key: str


def promotion_context(settings: Settings, dataset: str, model: ModelRef) -> PromotionContext:
    """How the history stands for a version now."""
    recorded = history.entries(settings, dataset)
    incumbent = incumbent_in(registry.moves_in(recorded), model)
    return PromotionContext(incumbent=incumbent, sequence=len(recorded) + 1)


def past_decisions(settings: Settings, dataset: str, model: ModelRef) -> Iterator[PastDecision]:
    """The decisions that moved an alias to a version, the latest first."""
    moves = registry.history(settings, dataset)
    first_moves = {move.key: move for move in reversed(moves) if move.version == model}
    for key, first in first_moves.items():
        earlier = [move for move in moves if move.sequence < first.sequence]
        context = PromotionContext(incumbent=incumbent_in(earlier, model), sequence=first.sequence)
        yield PastDecision(context=context, actor=first.actor, moved_at=first.moved_at, key=key)


def incumbent_in(moves: list[registry.Move], model: ModelRef) -> ModelRef | None:
    """The version in production after these moves, oldest first; None where there is none, or it is this version."""
    production = [move for move in moves if (move.model, move.alias) == (model.name, "production")]
    return production[-1].version if production and production[-1].version != model else None


def incumbents(params: Mapping[str, Any], settings: Settings) -> Iterator[Context]:
    """The version in production to compare with, as it was when the version was decided about, else as it is now. A
    ``runtime_inputs`` hook of stages that judge a version."""
    if {"dataset", "model"} <= params.keys():
        about = params["dataset"], ModelRef.model_validate(params["model"])
        for past in past_decisions(settings, *about):
            yield Context({"incumbent": past.context.incumbent})
        yield Context({"incumbent": promotion_context(settings, *about).incumbent})
