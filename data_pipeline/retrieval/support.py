"""Support: whether sources support a sentence, and which of their sentences do.

A logistic regression over what differs between the sentence and the best sentence of the sources. Changed facts of all
kinds are one feature, so what it learned of some kinds holds for others (``benchmarks/support_checker.py`` measures it
on kinds that it never saw, and on one that its features do not know either).
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np

from data_pipeline.clinical_text.sentences import sentences
from data_pipeline.retrieval.words import words
from mediscale.core.refs import Frozen

FEATURES = ("facts", "missing_share", "pairs_missing", "longest_missing")
"""What speaks against support: see ``differences``."""
MOST_MISSING = 0.5
"""Of a sentence's words: a source that lacks more says something else. The checker learned from whole sentences with a
changed fact, and one unknown word alone ("fruits") is only one difference to it."""

_NEGATION = re.compile(
    r"\b(?:no|not|never|without|neither|nor|cannot|lacks?|absent|absence|contraindicated)\b|n['’]t\b",
    re.IGNORECASE,
)
_NUMBER_WORDS = {
    "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9, "ten": 10, "twelve": 12,
}  # fmt: skip
_UNITS = {
    "milligram": "mg", "gram": "g", "microgram": "µg", "mcg": "µg", "μg": "µg", "ug": "µg", "litre": "l", "liter": "l",
    "millilitre": "ml", "milliliter": "ml", "hour": "h", "hr": "h", "minute": "min", "second": "s", "percent": "%",
}  # fmt: skip
_QUANTITY = re.compile(
    rf"(\d+(?:[.,]\d+)*|{'|'.join(_NUMBER_WORDS)})[\s-]*((?:[µμmk]?(?:g|l|mol|eq|iu|u)|units?|mm ?hg|kpa|%|"
    r"min(?:ute)?s?|h(?:ou)?rs?|h|days?|weeks?|months?|years?|milligrams?|grams?|micrograms?|mcg|percent)(?:/(?:\d+(?:\.\d+)?|[a-z²]+))*)(?!\w)",
    re.IGNORECASE,
)
"""A number and its unit."""
_DIRECTIONS = {
    word: direction
    for direction, group in {
        "up": "above higher greater more over raise raised increase increased exceed worsen",
        "down": "below lower fewer less under reduce reduced decrease decreased diminish improve",
        "before": "before prior",
        "after": "after following",
        "early": "early first",
        "late": "late last",
        "acute": "acute",
        "chronic": "chronic",
        "high": "high",
        "low": "low",
        "always": "always",
    }.items()
    for word in group.split()
}
"""Words whose opposite makes another statement, and what they have in common with others."""
_TIMES = {
    "minute": "minute", "hour": "hour", "day": "day", "daily": "day", "week": "week", "weekly": "week",
    "month": "month", "monthly": "month", "year": "year", "yearly": "year", "annual": "year", "annually": "year",
}  # fmt: skip
_PLAIN_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")


@dataclass(frozen=True, slots=True)
class Support:
    """The best supporting span: ``[start:end]`` of ``sources[source]``; ``source`` is −1 where there is none."""

    supported: bool
    score: float
    """Probability that it is supported, from 0 to 1."""
    source: int = -1
    start: int = 0
    end: int = 0


class Checker(Frozen):
    """A logistic regression of ``FEATURES``, and the score from which a sentence counts as supported."""

    weights: dict[str, float]
    intercept: float
    threshold: float

    def score(self, differences: Sequence[float]) -> float:
        log_odds = self.intercept + sum(
            self.weights[name] * value for name, value in zip(FEATURES, differences, strict=True)
        )
        return float(1 / (1 + np.exp(-log_odds)))


@cache
def shipped() -> Checker:
    """The checker that ``benchmarks/support_checker.py --write`` fitted."""
    return Checker.model_validate_json((Path(__file__).parent / "support_checker.json").read_bytes())


def support(sentence: str, sources: Sequence[str]) -> Support:
    """The sentence of the sources that supports a sentence best, and whether it does."""
    checker = shipped()
    best = Support(supported=False, score=0.0)
    for number, source in enumerate(sources if words(sentence) else ()):
        for start, end in sentences(source):
            of_both = differences(sentence, source[start:end])
            if of_both[FEATURES.index("missing_share")] > MOST_MISSING:
                continue
            score = checker.score(of_both)
            if score > best.score:
                best = Support(score >= checker.threshold, score, number, start, end)
    return best


def differences(sentence: str, source: str) -> list[float]:
    """Differences: what the sentence says and the source does not, in the order of ``FEATURES``.

    How many of its facts (numbers, quantities, drugs, directions, and whether it is negated) differ, all kinds counted
    as one; the share of its words that are missing, and of its adjacent words that are not adjacent in the source; and
    the length of the longest missing word.
    """
    sentence_words, source_words = _normalized(sentence), _normalized(source)
    source_set = set(source_words)
    missing = [word for word in dict.fromkeys(sentence_words) if word not in source_set]
    pairs = set(pairwise(sentence_words))
    return [
        float(min(_differing(sentence, source, missing), 3)),
        len(missing) / max(len(set(sentence_words)), 1),
        len(pairs - set(pairwise(source_words))) / max(len(pairs), 1),
        max((len(word) for word in missing if not word[0].isdigit()), default=0) / 10,
    ]


def _differing(sentence: str, source: str, missing: Sequence[str]) -> int:
    facts = sum(word[0].isdigit() or word in _drugs() for word in missing)
    quantities = len(_quantities(sentence) - _quantities(source))
    more = _closed_class(sentence) - _closed_class(source)
    negated = len(_NEGATION.findall(sentence)) != len(_NEGATION.findall(source))
    return facts + quantities + more.total() + negated


@cache
def _drugs() -> frozenset[str]:
    from data_pipeline.drugs import tables

    names = (*tables.drug_names(), *(drug for drug, _ in tables.dose_ranges()))
    return frozenset(word for name in names for word in words(name))


def _closed_class(text: str) -> Counter[str]:
    """Directions and units of time, each as often as it stands there."""
    stems = (word.removesuffix("s") for word in re.findall(r"[a-z]+", text.lower()))
    return Counter(
        _DIRECTIONS.get(stem) or _TIMES.get(stem, "")
        for stem in stems
        if stem in _DIRECTIONS or stem in _TIMES
    )


def _normalized(text: str) -> list[str]:
    """Words with numbers as digits and units as symbols."""
    return [str(_NUMBER_WORDS.get(word, _UNITS.get(word, _digits(word)))) for word in words(text)]


def _digits(word: str) -> str:
    plain = _PLAIN_NUMBER.fullmatch(word) and word.count(".") < 2
    return f"{float(word.replace(',', '')):g}" if plain else word


def _quantities(text: str) -> set[tuple[str, str]]:
    return {(_number(match[1].lower()), _unit(match[2].lower())) for match in _QUANTITY.finditer(text)}


def _number(word: str) -> str:
    return str(_NUMBER_WORDS.get(word, _digits(word)))


def _unit(written: str) -> str:
    singular = written.replace(" ", "").rstrip("s")
    return _UNITS.get(singular, singular)
