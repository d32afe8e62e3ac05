"""Vectors of passages, by which they are ranked, and of their sentences, by which an index knows if one answers."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from data_pipeline.clinical_text.sentences import sentences
from data_pipeline.retrieval.embedder import Embedder, Vectors

if TYPE_CHECKING:
    import pyarrow as pa

TITLE_WEIGHT = 0.5
"""Of the title's vector in that of a sentence, which may not say what it is about. It is as good as embedding both
together, and the vector of the sentence alone can be read for instructions, too (``documents.indexed_passages``)."""


class SentenceVectors(NamedTuple):
    """Vectors of sentences in eight bits each, on a scale of its own for each vector: only their direction counts."""

    values: NDArray[np.int8]
    """(sentences, dimensions)."""
    first: NDArray[np.int64]
    """The sentences of passage ``i`` are the rows from ``first[i]`` to ``first[i + 1]``."""

    def cosines(self, vector: Vectors, passage: int) -> Vectors:
        """The cosine between a unit vector and each sentence of the passage."""
        rows = self.values[self.first[passage] : self.first[passage + 1]].astype(np.float32)
        cosines: Vectors = (rows @ vector) / np.linalg.norm(rows, axis=1)
        return cosines

    def take(self, passages: NDArray[np.int64]) -> Self:
        """The vectors of some passages' sentences, in the order of the passages."""
        counts = np.diff(self.first)[passages]
        first = first_rows(counts)
        rows = np.repeat(self.first[passages] - first[:-1], counts) + np.arange(first[-1])
        return type(self)(self.values[rows], first)


class PassageVectors(NamedTuple):
    """Vectors of passages and of their sentences; ``whole`` has a row for each passage."""

    whole: Vectors
    """Unit vectors: (passages, dimensions)."""
    sentences: SentenceVectors

    def take(self, passages: NDArray[np.int64]) -> Self:
        """The vectors of some passages, in their order."""
        return type(self)(self.whole[passages], self.sentences.take(passages))


def joined(parts: Sequence[PassageVectors]) -> PassageVectors:
    """Concatenates vectors. A part without any passage has no dimensions and is left out."""
    some = [part for part in parts if len(part.whole)] or list(parts[:1])
    counts = np.concatenate([np.diff(part.sentences.first) for part in some])
    values = np.concatenate([part.sentences.values for part in some])
    return PassageVectors(
        np.concatenate([part.whole for part in some]), SentenceVectors(values, first_rows(counts))
    )


def embed(embedder: Embedder, passages: "pa.Table") -> PassageVectors:
    """Embeds passages, whole and by sentence."""
    texts, first = sentences_of(passages)
    return embed_with(embedder, passages, embedder.passages(texts), first)


def embed_with(
    embedder: Embedder, passages: "pa.Table", of_sentences: Vectors, first: NDArray[np.int64]
) -> PassageVectors:
    """Embeds whole passages whose sentences are embedded already."""
    whole = embedder.passages(embedded_texts(passages))
    if not len(whole):
        return PassageVectors(whole, SentenceVectors(np.empty((0, 0), np.int8), first))
    titles = passages["title"].to_pylist()
    names = sorted({title for title in titles if title})
    vectors = np.zeros((len(names) + 1, whole.shape[1]), np.float32)  # the last one: of no title
    if names:
        vectors[:-1] = embedder.passages(names)
    row_of = {name: row for row, name in enumerate(names)}
    of_title = vectors[[row_of.get(title, -1) for title in titles]]
    both = of_sentences.reshape(-1, whole.shape[1]) + TITLE_WEIGHT * np.repeat(
        of_title, np.diff(first), axis=0
    )
    return PassageVectors(whole, SentenceVectors(_in_eight_bits(both), first))


def sentences_of(passages: "pa.Table") -> tuple[list[str], NDArray[np.int64]]:
    """The sentences of passages, and ``SentenceVectors.first``."""
    parts = [[text[start:end] for start, end in sentences(text)] for text in passages["text"].to_pylist()]
    return [text for part in parts for text in part], first_rows([len(part) for part in parts])


def embedded_texts(passages: "pa.Table") -> list[str]:
    """The text that is embedded of each passage, its title first: alone a passage may not say what it is about."""
    rows = passages.select(["title", "text"]).to_pylist()
    return [f"{row['title']}\n{row['text']}".strip() for row in rows]


def first_rows(counts: Sequence[int] | NDArray[np.int64]) -> NDArray[np.int64]:
    """``SentenceVectors.first`` of so many sentences a passage."""
    return np.concatenate([[0], np.cumsum(counts, dtype=np.int64)]).astype(np.int64)


def _in_eight_bits(vectors: Vectors) -> NDArray[np.int8]:
    largest = np.abs(vectors).max(axis=1, keepdims=True, initial=1e-12)
    rounded: NDArray[np.int8] = np.round(127 * vectors / largest).astype(np.int8)
    return rounded
