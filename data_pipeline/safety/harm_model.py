"""A linear model of harmful requests over words and pairs of words, for intents that no phrase names.

``benchmarks/safety_model.py`` trained it; the weights are JSON, and adding them up is all that is done with them.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from data_pipeline.clinical_text.text import END, ClinicalText

FILE = Path(__file__).with_name("harm_model.json")


@dataclass(frozen=True)
class HarmModel:
    """The weights of the words; a request above the threshold is harmful."""

    intercept: float
    threshold: float
    """For words alone; with an embedding the score is one input of ``embedding_model``."""
    weights: dict[str, float]

    def score(self, text: ClinicalText) -> float:
        """Log-odds that the request as a whole is harmful."""
        return self.intercept + sum(self.weights.get(name, 0.0) for name in set(features(text)))

    def is_harmful(self, text: ClinicalText) -> bool:
        """Whether the words alone score above the threshold."""
        return self.score(text) > self.threshold


def features(text: ClinicalText) -> list[str]:
    """Words, and pairs of words of a sentence; numbers are alike."""
    return list(_features(text))


def _features(text: ClinicalText) -> Iterator[str]:
    before = ""
    for word in text.words:
        token = "#" if word[0].isdigit() else word
        if token != END:
            yield token
        if before and END not in (before, token):
            yield f"{before} {token}"
        before = token


@cache
def load() -> HarmModel:
    """The packaged model."""
    return HarmModel(**json.loads(FILE.read_text(encoding="utf-8")))
