"""Error analysis of written answers: patterns, each a rule over an answer and its reference, and what helps."""

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from mediscale.core.refs import Frozen
from training.language.answer_metrics import normalised
from training.statistics.bootstrap import Resamples
from training.statistics.estimate import Estimate

_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_MEASURED = re.compile(
    r"(?i)\d\s*(mg|µg|mcg|g|kg|ml|l|mmol/l|mol|mmhg|%|hours?|minutes?|days?|weeks?|months?|years?)(?![a-z])"
)
_REFUSAL = re.compile(
    r"(?i)\b(as an ai|i(?: am|'m) (?:sorry|unable|not able)|i (?:can't|cannot|can not|do not know|don't know)"
    r"|consult (?:a|your) (?:doctor|physician|healthcare)|seek medical advice)\b"
)
_TIMES_LONGER, _WORDS_MORE = 3, 10


class ErrorPattern(Frozen):
    """How often a kind of error was seen."""

    name: str
    n: int
    """Answers that could have it."""
    count: int
    share: Estimate
    """Of those answers, with its 95 % interval from resampled families of questions."""
    remedy: str


class _Rule(NamedTuple):
    concerns: Callable[[str], bool]
    """Whether an answer to this reference can have the error."""
    holds: Callable[[str, str], bool]
    """Whether an answer has it, beside its reference."""
    remedy: str


def is_refusal(answer: str) -> bool:
    """Whether an answer declines to answer, or is empty.

    >>> is_refusal("I'm sorry, please consult a doctor."), is_refusal("the kidney")
    (True, False)
    """
    return not answer.strip() or bool(_REFUSAL.search(answer))


def is_verbose(answer: str, reference: str) -> bool:
    """Whether an answer has three times the reference's words, and ten more at least."""
    long, short = len(normalised(answer)), len(normalised(reference))
    return long >= _TIMES_LONGER * short and long >= short + _WORDS_MORE


def has_wrong_number(answer: str, reference: str) -> bool:
    """Whether an answer lacks a number of the reference while it says another one, or gives another unit.

    >>> has_wrong_number("25 mg", "50 mg"), has_wrong_number("50 g a day", "50 mg"), has_wrong_number("50 mg", "50 mg")
    (True, True, False)
    """
    numbers, expected = set(_NUMBER.findall(answer)), set(_NUMBER.findall(reference))
    units, expected_units = _units(answer), _units(reference)
    return bool(expected - numbers and numbers - expected) or bool(
        expected_units and units and not expected_units & units
    )


def _units(text: str) -> set[str]:
    return {unit.lower().removesuffix("s") for unit in _MEASURED.findall(text)}


def is_another_entity(answer: str, reference: str) -> bool:
    """Whether an answer that declines nothing shares no word with the reference."""
    return not is_refusal(answer) and not set(normalised(answer)) & set(normalised(reference))


def _has_number(reference: str) -> bool:
    return bool(_NUMBER.search(reference))


RULES = {
    "wrong number or unit": _Rule(
        _has_number, has_wrong_number, "let the answer quote the passage that holds the number"
    ),
    "another entity": _Rule(
        lambda reference: not _has_number(reference),
        is_another_entity,
        "more training questions on that subject, or retrieval",
    ),
    "verbosity": _Rule(
        lambda _: True, is_verbose, "a lower maximum of tokens, or shorter answers in the training questions"
    ),
    "refusal where none was due": _Rule(
        lambda _: True,
        lambda answer, _: is_refusal(answer),
        "answers in the training questions where the base declines",
    ),
}
"""Each pattern by name."""


def patterns(
    answers: Sequence[str], references: Sequence[str], families: Sequence[str], bootstrap: int, seed: int
) -> tuple[ErrorPattern, ...]:
    """How often each pattern is seen in some answers; a pattern that concerns none of them is left out."""
    frequencies = []
    for name, rule in RULES.items():
        rows = [i for i, reference in enumerate(references) if rule.concerns(reference)]
        if rows:
            has = np.array([float(rule.holds(answers[i], references[i])) for i in rows])
            share = share_of(has, [families[i] for i in rows], bootstrap, seed)
            frequencies.append(
                ErrorPattern(name=name, n=len(rows), count=int(has.sum()), share=share, remedy=rule.remedy)
            )
    return tuple(frequencies)


def share_of(has: "np.ndarray", families: Sequence[str], bootstrap: int, seed: int) -> Estimate:
    """A share of answers, with its interval from resampled families."""
    index = np.unique(families, return_inverse=True)[1].astype(np.int64)
    return Resamples(index, bootstrap, seed).shares(has[:, None], np.ones((len(has), 1)))[0]
