"""Phrase patterns: a small language for rules that a clinician can read, searched by an index of their first words.

``chest (pain|tightness)`` words and alternatives, which may be phrases themselves · ``(my|the)?`` may be missing ·
``...`` up to four other words of the sentence · ``vomit*`` a word that begins so · ``#`` a number · ``{body}`` a list
of words that the file of rules names.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from data_pipeline.clinical_text.text import ClinicalText

GAP = 4
"""The most words that ``...`` stands for."""
_TOKEN = re.compile(r"\.\.\.|\)\?|[()|]|[^\s()|]+")


def load(path: Path) -> Any:
    """A file of rules: ``phrases`` by label, ``lists`` of words that they name, and what else its module reads."""
    return yaml.load(path.read_text(encoding="utf-8"), yaml.CSafeLoader)


class PhraseMatch(NamedTuple):
    """Words ``first`` to before ``last`` of a text match a phrase of that label."""

    label: str
    first: int
    last: int


class Phrases:
    """Phrases by label, ready to be searched.

    Raises:
        ValueError: a phrase is not written as phrases are, or may begin with any word.
    """

    def __init__(self, phrases: Mapping[str, Iterable[str]], lists: Mapping[str, str] | None = None) -> None:
        self.words: set[str] = set()
        """All literal words, for the correction of misspelt ones."""
        self._patterns: list[tuple[str, re.Pattern[str]]] = []
        self._by_word: defaultdict[str, list[int]] = defaultdict(list)
        self._by_prefix: defaultdict[str, list[int]] = defaultdict(list)
        for label, texts in phrases.items():
            for text in texts:
                self._add(label, text, lists or {})
        self._lengths = sorted({len(prefix) for prefix in self._by_prefix})

    def _add(self, label: str, text: str, lists: Mapping[str, str]) -> None:
        for name, words in lists.items():
            text = text.replace("{" + name + "}", f"({words})")
        parsed = _Parser(text)
        if not parsed.first or "..." in parsed.first:
            raise ValueError(f"The phrase {text!r} does not say with which word it begins.")
        for word in parsed.first:
            index = self._by_prefix if word.endswith("*") else self._by_word
            index[word.rstrip("*")].append(len(self._patterns))
        self.words |= {word for word in parsed.words if word.isalpha()}
        self._patterns.append((label, re.compile("(?<= )" + parsed.pattern)))

    def find(self, text: ClinicalText) -> list[PhraseMatch]:
        """All places of all phrases, in the order of the text."""
        matches = [
            PhraseMatch(label, text.word_at(match.start()), text.word_at(match.end() - 2) + 1)
            for label, pattern in self._candidates(text)
            for match in pattern.finditer(text.joined)
        ]
        return sorted(matches, key=lambda match: (match.first, match.last))

    def _candidates(self, text: ClinicalText) -> Iterator[tuple[str, re.Pattern[str]]]:
        """The patterns of which a first word is in the text."""
        indices: set[int] = set()
        for word in text.vocabulary:
            indices.update(self._by_word.get(word, ()))
            if word[0].isdigit():
                indices.update(self._by_word.get("#", ()))
            for length in self._lengths:
                indices.update(self._by_prefix.get(word[:length], ()))
        return (self._patterns[i] for i in sorted(indices))


class _Parser:
    """A phrase as a regular expression over words that each end with a blank, with the words it may begin with."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.words: set[str] = set()
        self._tokens = [token.strip('"') for token in _TOKEN.findall(text)]
        self._at = 0
        self.pattern, self.first, can_be_empty = self._alternatives()
        if self._at < len(self._tokens) or can_be_empty:
            raise ValueError(f"The phrase {text!r} has a bracket too many, or nothing that it needs.")

    def _alternatives(self) -> tuple[str, set[str], bool]:
        patterns, first, can_be_empty = [], set[str](), False
        while True:
            pattern, words, empty = self._sequence()
            patterns.append(pattern)
            first |= words
            can_be_empty |= empty
            if self._peek() != "|":
                return "|".join(patterns), first, can_be_empty
            self._at += 1

    def _sequence(self) -> tuple[str, set[str], bool]:
        pattern, first, can_be_empty = "", set[str](), True
        while self._peek() not in ("|", ")", ")?", ""):
            piece, words, empty = self._piece()
            pattern += piece
            if can_be_empty:
                first |= words
            can_be_empty &= empty
        return pattern, first, can_be_empty

    def _piece(self) -> tuple[str, set[str], bool]:
        token = self._tokens[self._at]
        self._at += 1
        if token == "(":
            inner, first, empty = self._alternatives()
            closing = self._peek()
            self._at += 1
            if closing not in (")", ")?"):
                raise ValueError(f"The phrase {self.text!r} lacks a bracket.")
            return f"(?:{inner}){closing[1:]}", first, empty or closing == ")?"
        if token == "...":
            return rf"(?:[^ .]+ ){{0,{GAP}}}?", {"..."}, True
        if token == "#":
            return r"\d[\d.]* ", {"#"}, False
        if token.endswith("*"):
            return re.escape(token[:-1]) + r"[^ .]*(?:\.\d+)? ", {token}, False
        self.words.add(token)
        return re.escape(token) + " ", {token}, False

    def _peek(self) -> str:
        return self._tokens[self._at] if self._at < len(self._tokens) else ""
