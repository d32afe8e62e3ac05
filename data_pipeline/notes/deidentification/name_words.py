"""Name words: what a single word, or two beside each other, can be: a name, a word that is also one, or neither."""

import re
from collections.abc import Iterator

from data_pipeline.clinical_text.name_lexicon import ORDINARY, Evidence, Lexicon, plain
from data_pipeline.notes.deidentification.name_patterns import (
    CAPITAL,
    END_OF_SENTENCE,
    EPONYM_NEXT,
    NOT_NAMES,
    OPENERS,
    THING_AFTER,
)

PERSONAL: frozenset[Evidence] = frozenset({"name", "either", "unknown"})
"""What a word of a person's name may be evidence of."""
JOINT = re.compile(r"['’-]")
_CAPITALS = re.compile(rf"(?<!\w){CAPITAL}")


def capitalised_words(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """The capitalised words of a run; particles such as ``van der`` name nobody alone."""
    for match in _CAPITALS.finditer(text, start, end):
        yield match.span()


class NameWords:
    """The lexicon's evidence on words, with how they are written."""

    def __init__(self, lexicon: Lexicon) -> None:
        self.lexicon = lexicon
        self.kind = lexicon.kind

    def is_surname(self, word: str) -> bool:
        kind = self.kind(word)
        return kind in ("unknown", "name") or (kind == "either" and plain(word) in self.lexicon.family)

    def is_surname_in_capitals(self, word: str) -> bool:
        """``Anna MUELLER``; not ``Anna ECMO``, ``Anna PLAN`` or ``Anna DO``."""
        kind = self.kind(word)
        if len(word) < 4:
            return kind == "name" and len(word) == 3
        parts = JOINT.split(plain(word))
        listed = any(part in self.lexicon.family and part not in ORDINARY for part in parts)
        return kind == "name" or (kind == "unknown" and len(word) > 4) or (kind == "either" and listed)

    def is_listed_word(self, word: str) -> bool:
        """Whether a word is also a listed name and may be one here."""
        token = plain(word)
        listed = token in self.lexicon.given or token in self.lexicon.family
        return self.kind(word) == "either" and listed and word not in OPENERS and word not in NOT_NAMES

    def both_listed(self, text: str, words: list[tuple[int, int]]) -> bool:
        """``Rose Park``: exactly a listed given name and a listed surname."""
        return len(words) == 2 and self.are_listed(text, *words)

    def are_listed(self, text: str, one: tuple[int, int], other: tuple[int, int]) -> bool:
        first, last = text[slice(*one)], text[slice(*other)]
        if (
            first.isupper()
            or last.isupper()
            or {first, last} & NOT_NAMES
            or THING_AFTER.match(text, other[1])
        ):
            return False
        if self.kind(first) == "unknown" and self.kind(last) == "either":
            return not EPONYM_NEXT.match(text, other[1])
        if plain(first) not in self.lexicon.given:
            return False
        if END_OF_SENTENCE.search(text, max(0, one[0] - 8), one[0]) and first in OPENERS:
            return False
        return plain(last) in self.lexicon.family or self.kind(last) == "unknown"
