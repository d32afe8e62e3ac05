"""Sentences of a text as offsets, so that what is quoted is a slice of the text and nothing else."""

import re
from collections.abc import Iterator
from typing import NamedTuple

_ABBREVIATIONS = frozenset({
    "approx", "al", "cf", "dr", "e.g", "ed", "eds", "eg", "et", "etc", "fig", "i.e", "ie", "incl", "max",
    "min", "mr", "mrs", "ms", "no", "nr", "p", "pp", "prof", "resp", "st", "vs",
})  # fmt: skip
_LETTERED = frozenset(
    {"class", "factor", "grade", "group", "hepatitis", "influenza", "stage", "type", "vitamin"}
)
"""What a letter names: it is no initial then."""
_LONGEST = 40
"""Characters before a full stop that may be an abbreviation with its brackets."""
_NEXT = re.compile(r"\s*(\S?)")
_END = re.compile(
    r"[.!?]+[\"'”’)\]]*(?=\s)|\n\s*\n|^#{1,6}[ \t][^\n]*|\n(?=\s*(?:#|[-*•]\s|\d+[.)]\s))"
    r"|\n(?=[^\n|]*\|)|(?<=\|)[ \t]*\n"
    r"|\n(?=(?:[Ll]ast )?(?:[Dd]ate|[Pp]ublished|[Uu]pdated|[Rr]eviewed|[Rr]evised)\b[^\n]{0,12}\d{4})"
)


class Span(NamedTuple):
    """Characters of a text, the end excluded."""

    start: int
    end: int


def sentences(text: str) -> list[Span]:
    """The sentences of a text, without the white space around them.

    A full stop after an abbreviation or an initial, or before a small letter, ends none; one after a number and its
    unit does, and so do a blank line, a heading, a list item, a row of a table and the line of a document's date.

    >>> text = "Give 0.9 mg/kg i.v. over 60 min, e.g. by pump. The maximum is 90 mg."
    >>> [text[start:end] for start, end in sentences(text)]
    ['Give 0.9 mg/kg i.v. over 60 min, e.g. by pump.', 'The maximum is 90 mg.']
    >>> text = "Infuse over 30 min. Then give 2 g. Ask Dr. J. Smith about vitamin K. Repeat it."
    >>> [text[start:end] for start, end in sentences(text)]
    ['Infuse over 30 min.', 'Then give 2 g.', 'Ask Dr. J. Smith about vitamin K.', 'Repeat it.']
    >>> text = "It was compared in stage 2 vs. Stage 3."
    >>> [text[start:end] for start, end in sentences(text)]
    ['It was compared in stage 2 vs. Stage 3.']
    """
    return list(_sentences(text))


def _sentences(text: str) -> Iterator[Span]:
    start = 0
    for match in _END.finditer(text):
        if match[0][0] in ".!?" and not _ends(text, start, match):
            continue
        yield from _trimmed(text, start, match.end())
        start = match.end()
    yield from _trimmed(text, start, len(text))


def _ends(text: str, start: int, match: re.Match[str]) -> bool:
    following = _NEXT.match(text, match.end())[1]  # type: ignore[index]
    if match[0] != ".":
        return not following.islower()
    words = text[max(start, match.start() - _LONGEST) : match.start()].split()
    last = words[-1].lower().strip("([\"'“‘") if words else ""
    before = words[-2].lower() if len(words) > 1 else ""
    is_letter = len(last) == 1 and last.isalpha()
    is_unit = before[-1:].isdigit() and (is_letter or last == "min")  # "2 g.", "60 min.", but "grade 2 vs."
    is_unit = is_unit or (is_letter and before in _LETTERED)  # "vitamin K."
    is_short = last in _ABBREVIATIONS or is_letter
    return not following.islower() and (is_unit or not is_short)


def _trimmed(text: str, start: int, end: int) -> Iterator[Span]:
    sentence = text[start:end]
    first = start + len(sentence) - len(sentence.lstrip())
    last = start + len(sentence.rstrip())
    if any(letter.isalnum() for letter in sentence):
        yield Span(first, last)
