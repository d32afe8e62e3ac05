"""Candidates: the best passages of an index for a question, compared with its words, and what speaks for an answer."""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, replace

import numpy as np

from data_pipeline.clinical_text.sentences import Span, sentences
from data_pipeline.retrieval.aspects import Aspect
from data_pipeline.retrieval.definitions import Definition
from data_pipeline.retrieval.embedder import Vectors
from data_pipeline.retrieval.index import EVERYBODY, Index, Passage, Ranked
from data_pipeline.retrieval.subjects import Subject
from data_pipeline.retrieval.words import stems

COMPARED = 5
"""Best passages that the question's words are looked for in."""
COVERAGE_WEIGHT = 0.02
"""Of the share of the question's words that one sentence has, beside the fusion's score: with it the best passage is
the right one for 98.2 % of the questions that are not held out, without it for 94.7 %."""


@dataclass(frozen=True, slots=True)
class Compared:
    """A passage whose words are compared with the question's."""

    row: int
    passage: Passage
    title: frozenset[str]
    """Stems of the title."""
    spans: tuple[Span, ...]
    """Its sentences."""
    sentences: tuple[frozenset[str], ...]
    """Stems of each; of a row of a table with those of its columns' names."""


@dataclass(frozen=True, slots=True)
class Candidates:
    """What an index ranks for a question, the best passages compared with its words."""

    ranked: Ranked
    compared: tuple[Compared, ...]
    rarity: Mapping[str, float]
    """Of each word of the question, by its stem."""

    def share(self, has: Set[str]) -> float:
        """The share of the question's words, weighted by rarity, that are among others."""
        total = sum(self.rarity.values()) or 1.0
        return sum(value for word, value in self.rarity.items() if word in has) / total

    def about(self, asked: Subject) -> "Candidates":
        """Candidates whose passage speaks of the drugs and of the patients that are asked about."""
        compared = [each for each in self.compared if asked.is_met_by(each.passage.title, each.passage.text)]
        return replace(self, compared=tuple(compared))

    def defining(self, term: Definition | None) -> "Candidates":
        """Candidates whose passage says what is defined, where a question asks for that."""
        compared = [
            each
            for each in self.compared
            if not term or term.is_met_by(each.passage.title, each.passage.text)
        ]
        return replace(self, compared=tuple(compared))

    def on(self, asked: Aspect | None) -> "Candidates":
        """Candidates whose passage is not titled by another aspect than the one that a question asks for."""
        compared = [
            each
            for each in self.compared
            if not asked or asked.is_met_by(each.passage.title, each.passage.text)
        ]
        return replace(self, compared=tuple(compared))

    def coverage(self, compared: Compared) -> float:
        """The share that a passage's title has with that sentence which adds most."""
        return max((self.share(compared.title | has) for has in compared.sentences), default=0.0)


def candidates(
    index: Index,
    question: str,
    vector: Vectors,
    roles: frozenset[str] = EVERYBODY,
    hidden: Sequence[int] = (),
) -> Candidates:
    """The index's ranking, its best passages by how much of the question one of their sentences has, too: a passage
    that defines what the question is about is near to it, and may not have what is asked of it."""
    ranked = index.rank(question, vector, roles, hidden)
    first = min(COMPARED, len(ranked.rows))
    compared = [_compared(index, int(row)) for row in ranked.rows[:first]]
    found = Candidates(ranked, tuple(compared), {word: index.rarity(word) for word in set(stems(question))})
    scores = [
        float(score) + COVERAGE_WEIGHT * found.coverage(each)
        for score, each in zip(ranked.fused, compared, strict=False)
    ]
    order = sorted(range(first), key=lambda place: -scores[place])
    in_order = [
        replace(compared[place], passage=replace(compared[place].passage, score=scores[place]))
        for place in order
    ]
    return replace(found, compared=tuple(in_order))


def _compared(index: Index, row: int) -> Compared:
    passage = index.passage(row)
    spans = tuple(sentences(passage.text))
    texts = [passage.text[start:end] for start, end in spans]
    has = [frozenset(stems(text)) for text in texts]
    with_columns = (has[place] | has[first_row(texts, place)] for place in range(len(texts)))
    return Compared(row, passage, frozenset(stems(passage.title)), spans, tuple(with_columns))


def evidence(index: Index, vector: Vectors, found: Candidates) -> dict[str, float]:
    """Evidence for an answer in the index, by the names of ``abstention.FEATURES``.

    The cosine of the nearest passage, by how much it is above the next, and above those that follow, and that of the
    nearest sentence of the best passages; the share of the question's words, weighted by rarity, that one sentence of
    the best passage has with its title; the share of words that no passage has; BM25 of the best passage for each unit
    of the question's rarity, and by how much it is above the next. None of them grows with the index.
    """
    ranked, rarity, total = found.ranked, found.rarity, sum(found.rarity.values()) or 1.0
    cosines = np.sort(ranked.cosine[~np.isnan(ranked.cosine)])[::-1]
    lexical = np.sort(ranked.bm25)[::-1]
    return {
        "cosine": _at(cosines, 0),
        "cosine_margin": _at(cosines, 0) - _at(cosines, 1),
        "cosine_contrast": _at(cosines, 0) - float(np.mean(cosines[2:7])) if len(cosines) > 2 else 0.0,
        "sentence_cosine": max(
            float(index.sentences.cosines(vector, each.row).max(initial=-1.0)) for each in found.compared
        ),
        "coverage": found.coverage(found.compared[0]),
        "unknown": -sum(value for word, value in rarity.items() if not index.knows(word)) / total,
        "bm25": _at(lexical, 0) / total,
        "bm25_margin": (_at(lexical, 0) - _at(lexical, 1)) / total,
    }


def _at(values: Sequence[float] | np.ndarray, place: int) -> float:
    return float(values[place]) if place < len(values) else 0.0


def first_row(texts: Sequence[str], place: int) -> int:
    """The first row of the table that a sentence is a row of; the sentence itself where it is none."""
    while place and "|" in texts[place] and "|" in texts[place - 1]:
        place -= 1
    return place
