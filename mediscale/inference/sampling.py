"""Sampling of a language model: how the tokens of an answer are chosen, and the tokens that were."""

import math
import time
from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the tokens of an answer are chosen."""

    max_tokens: int
    temperature: float = 0.0
    """0 takes the likeliest token each time (greedy decoding)."""
    seed: int = 0
    """Of the draws above temperature 0: the same request gets the same answer."""
    deadline: float = math.inf
    """Moment of ``time.monotonic()`` after which no token is chosen."""

    @property
    def is_late(self) -> bool:
        """Whether the deadline is over."""
        return time.monotonic() >= self.deadline


class Token(NamedTuple):
    """A token of a text, with its log-probability by the model itself, whatever the temperature."""

    text: str
    """Empty while the bytes of a character are incomplete."""
    log_probability: float | None
    """Natural logarithm, after the tokens before it; None for a text's first token."""
    likeliest: tuple[str, float] | None = None
    """The likeliest token in its place, and its log-probability."""
