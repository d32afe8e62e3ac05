"""Normalisation and tokenisation: one pass over a text, whose words every rule then searches.

Look-alike characters, digits of other scripts, case, apostrophes and hyphens are made alike, dotted abbreviations are
joined and misspelt words corrected; each word keeps its place in the original.
"""

import re
import unicodedata
from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

from data_pipeline.clinical_text.folding import FoldedText, fold

END = "."
"""Stands between sentences among the words."""

_LOOK_ALIKES = str.maketrans("асдеіјорԛѕтухԝвнкмиԁαεικνορτυχωıɡ", "acdeijopqstyxwbhkmudaeikvoptuxwig")
"""Letters of other scripts that are drawn like Latin ones; only used inside of words that mix scripts."""
_TOKEN = re.compile(
    r"(?P<dotted>(?<![^\W_])(?:[^\W\d_]\.){2,}[^\W\d_]?(?![^\W_]))"
    r"|(?P<number>\d+(?:,\d{3})+(?:\.\d+)?(?!\d)|\d+(?:[.,]\d+)?)"
    r"|(?P<word>[^\W\d_]+(?:'[^\W\d_]+)*(?:\d{1,2}(?![\d.,]*\d|[^\W_]))?)"
    r"|(?P<end>[.!?;]+(?=[\s,]|$|[\"')\]])|\n\s*\n|\n(?=\s*(?:[-*•]|\d{1,2}[.)])\s)|[.!?](?=[A-Z])|(?<=[A-Z]):"
    r"|(?<=\.[A-Za-z]\.)\s{2,}(?=[A-Z]))"
)
_NO_END = frozenset(
    [
        "dr",
        "mr",
        "mrs",
        "ms",
        "prof",
        "st",
        "vs",
        "approx",
        "no",
        "pt",
        "pts",
        "resp",
        "temp",
        "fig",
        "e",
        "i",
        "eg",
        "ie",
        "max",
        "min",
        "wt",
    ]
)
"""Words whose full stop ends no sentence."""


@dataclass(frozen=True)
class ClinicalText:
    """A text as the words that rules search.

    ``plain`` is the folded text in lower case with ASCII digits. ``words[i]`` stands at ``plain[starts[i]:ends[i]]``,
    a full stop between sentences has an empty place.
    """

    original: str
    plain: str
    words: tuple[str, ...]
    starts: tuple[int, ...]
    ends: tuple[int, ...]
    folded: FoldedText

    @cached_property
    def joined(self) -> str:
        """All words, each with one blank after it, and one before the first."""
        return f" {' '.join(self.words)} "

    @cached_property
    def _offsets(self) -> list[int]:
        offsets, at = [], 1
        for word in self.words:
            offsets.append(at)
            at += len(word) + 1
        return offsets

    @cached_property
    def vocabulary(self) -> frozenset[str]:
        """The different words."""
        return frozenset(self.words)

    def word_at(self, position: int) -> int:
        """The index of the word that ``joined[position]`` belongs to."""
        return bisect_right(self._offsets, position) - 1

    def word_in_plain(self, position: int) -> int:
        """The index of the last word that begins at or before ``plain[position]``; 0 before the first."""
        return max(bisect_right(self.starts, position) - 1, 0)

    def span(self, first: int, last: int) -> tuple[int, int]:
        """The place in the original of the words from ``first`` to before ``last``."""
        return self.original_span(self.starts[first], self.ends[last - 1])

    def original_span(self, start: int, end: int) -> tuple[int, int]:
        """The place in the original of ``plain[start:end]``, which is not empty."""
        return self.folded.original_span(start, end)

    @cached_property
    def _sentence_ends(self) -> list[int]:
        return [i for i, word in enumerate(self.words) if word == END]

    def sentence(self, index: int) -> tuple[int, int]:
        """The words, from the first to behind the last, of the sentence that a word belongs to."""
        i = bisect_right(self._sentence_ends, index)
        start = self._sentence_ends[i - 1] + 1 if i else 0
        end = self._sentence_ends[i] if i < len(self._sentence_ends) else len(self.words)
        return start, max(end, start)

    def sentences(self) -> Iterator[tuple[int, int]]:
        """All sentences that have words, in order."""
        start = 0
        for end in [*self._sentence_ends, len(self.words)]:
            if end > start:
                yield start, end
            start = end + 1

    def comma_before(self, index: int) -> bool:
        """Whether a comma, a colon or a dash stands between a word and the one before it."""
        gap = self.plain[self.ends[index - 1] : self.starts[index]] if index else ""
        return any(mark in gap for mark in ",:(") or " - " in gap


def read(text: str, correct: Callable[[str], str] | None = None) -> ClinicalText:
    """The words of a text; ``correct`` gives the right spelling of a word, or the word itself."""
    folded = fold(text)
    cased = _plain(folded.text)
    plain = _lower(cased)
    words: list[str] = []
    starts: list[int] = []
    ends: list[int] = []
    for match in _TOKEN.finditer(cased):
        word = _word(match, words, correct)
        if word:
            words.append(word)
            starts.append(match.start())
            ends.append(match.end())
    return ClinicalText(text, plain, tuple(words), tuple(starts), tuple(ends), folded)


def _word(match: re.Match[str], before: list[str], correct: Callable[[str], str] | None) -> str:
    """The word of a token; empty for a full stop that ends no sentence."""
    token = _lower(match.group())
    if match.lastgroup == "end":
        is_end = bool(before) and before[-1] != END and not (token == "." and before[-1] in _NO_END)
        return END if is_end else ""
    if match.lastgroup == "number":
        return re.sub(r",(?=\d{3}(?:\D|$))", "", token).replace(",", ".")
    if match.lastgroup == "dotted":
        return token.replace(".", "")
    word = token.replace("'", "")
    return correct(word) if correct else word


def _lower(text: str) -> str:
    lower = text.lower()
    if len(lower) == len(text):
        return lower
    return "".join(c.lower() if len(c.lower()) == 1 else c for c in text)


def _plain(text: str) -> str:
    """The text with ASCII digits and without look-alikes of Latin letters inside of Latin words; of equal length."""
    if text.isascii():
        return text
    digits = {ord(c): str(unicodedata.digit(c)) for c in set(text) if not c.isascii() and c.isdigit()}
    text = text.translate(digits)
    if not any("\u0370" <= c <= "\u052f" for c in text):
        return text
    return re.sub(r"[^\W\d_]+", _latin, text)


def _latin(word: re.Match[str]) -> str:
    letters = word.group().lower()
    latin = letters.translate(_LOOK_ALIKES)
    if len(latin) == len(letters) and latin.isascii() and not letters.isascii():
        return latin
    return word.group()
