"""Whether a sentence is supported by sources, and by which of their sentences."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from data_pipeline.documents.sentences import Span, sentences
from data_pipeline.retrieval.words import words

_NEGATION = re.compile(
    r"\b(?:no|not|never|without|neither|nor|cannot|absent|denies|contraindicated)\b|n['’]t\b", re.I
)
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_LEAST_COVERED = 0.8


@dataclass(frozen=True, slots=True)
class Support:
    """The best supporting span: ``[start:end]`` of ``sources[source]``."""

    supported: bool
    score: float
    """From 0 (nothing supports it) to 1."""
    source: int = -1
    start: int = 0
    end: int = 0


def support(sentence: str, sources: Sequence[str]) -> Support:
    """The sentence of the sources that supports a sentence best, and whether it does.

    Every number of the sentence must stand in it, both must be negated or neither, and it must have most of the
    sentence's words.
    """
    best = Support(supported=False, score=0.0)
    for number, source in enumerate(sources):
        for span in sentences(source):
            score = _score(sentence, source[span.start : span.end])
            if score > best.score:
                best = Support(score >= _LEAST_COVERED, score, number, *Span(*span))
    return best


def _score(sentence: str, source: str) -> float:
    claimed, said = set(words(sentence)), set(words(source))
    if not claimed:
        return 0.0
    covered = len(claimed & said) / len(claimed)
    numbers = set(_NUMBER.findall(sentence)) <= set(_NUMBER.findall(source))
    same_polarity = bool(_NEGATION.search(sentence)) == bool(_NEGATION.search(source))
    return covered if numbers and same_polarity else covered / 2
