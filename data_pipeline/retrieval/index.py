"""An index of passages: hybrid search by FAISS and BM25 with reciprocal rank fusion, for whoever may see them.

It needs neither Spark, Ray, MLflow nor torch, and is immutable once it is open, so threads may share it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from data_pipeline.retrieval import index_files
from data_pipeline.retrieval.abstention import Abstention
from data_pipeline.retrieval.embedder import Embedder, Vectors
from data_pipeline.retrieval.index_files import Manifest
from data_pipeline.retrieval.passage_vectors import PassageVectors
from data_pipeline.retrieval.words import stems
from mediscale.core.errors import StorageError

Ids = NDArray[np.int64]

EVERYBODY: frozenset[str] = frozenset()
"""The roles of whoever has none: documents without roles are for them, too."""

RANK_CONSTANT = 60
"""Of reciprocal rank fusion, as its authors chose it (Cormack et al. 2009)."""
CANDIDATES = 50
"""Passages that each of the two rankings gives to the fusion."""


@dataclass(frozen=True, slots=True)
class Citation:
    """Where a statement stands, word for word: ``[start:end]`` of the text of ``place`` in ``source``."""

    text: str
    source: str
    title: str
    place: str
    """A page, a row or an id in the source; empty for the whole."""
    date: str
    """Of the evidence; empty where the document does not say."""
    digest: str
    """SHA-256 of the document's file."""
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Passage:
    """A passage as it was found. ``text`` is ``[start:end]`` of the document's text."""

    text: str
    title: str
    source: str
    place: str
    """Where in the source: a page, a row, an id; empty for the whole."""
    start: int
    end: int
    digest: str
    """SHA-256 of the document's file."""
    date: str
    """Of the evidence; empty where the document doesn't say."""
    dataset: str
    """Of the patient whose note it is from; empty where it is from no note."""
    subject_id: int | None
    """That patient; None where it is from no note."""
    reference: str
    """Index, version and row, as ``documents/3#17``: names the passage without a word of it."""
    score: float
    """Of the fusion; it orders passages, and says nothing of how well they answer."""

    @property
    def patient(self) -> tuple[str, int] | None:
        """Whose note it is from: dataset and patient; None where it is from no note."""
        return None if self.subject_id is None else (self.dataset, self.subject_id)

    def cite(self, start: int, end: int) -> Citation:
        """``[start:end]`` of this passage."""
        where = self.source, self.title, self.place, self.date, self.digest
        return Citation(self.text[start:end], *where, self.start + start, self.start + end)


@dataclass(frozen=True, slots=True)
class Ranked:
    """The rows of the best passages with what the two rankings say of them."""

    rows: Ids
    fused: NDArray[np.float64]
    cosine: NDArray[np.float64]
    """With the question's vector; NaN for what BM25 alone found."""
    bm25: NDArray[np.float64]


class Index:
    """An opened index."""

    def __init__(self, folder: Path, manifest: Manifest, embedder: Embedder) -> None:
        import bm25s
        import faiss
        import pyarrow as pa

        self.folder, self.manifest, self.embedder = folder, manifest, embedder
        self.passages: pa.Table = index_files.read_passages(folder)
        self._vectors: Any = faiss.read_index(str(folder / index_files.VECTORS))
        self.sentences = index_files.read_sentences(folder)
        self._bm25: Any = bm25s.BM25.load(str(folder / "bm25"), allow_pickle=False, show_progress=False)
        self._bm25.backend = "numpy"
        self._visible = lru_cache(maxsize=64)(self._visible_to)

    @classmethod
    def open(cls, folder: Path, threads: int = 1) -> Self:
        """Opens an index after comparing its files with its manifest.

        Raises:
            NotFoundError: there is no index in the folder.
            StorageError: a file is missing, damaged or changed.
        """
        manifest = index_files.read_manifest(folder)
        index_files.check(folder, manifest)
        graph, tokenizer = (
            (folder / index_files.GRAPH).read_bytes(),
            (folder / index_files.TOKENIZER).read_bytes(),
        )
        embedder = Embedder(manifest.embedder, graph, tokenizer, threads)
        try:
            return cls(folder, manifest, embedder)
        except Exception as error:  # of Arrow, FAISS, NumPy and bm25s, which have no common class
            raise StorageError(
                f"The index in {folder} can't be read; delete its folder and make it again."
            ) from error

    def search(self, question: str, k: int = 5, roles: frozenset[str] = EVERYBODY) -> list[Passage]:
        """The best ``k`` passages among those that somebody with these roles may see."""
        ranked = self.rank(question, self.embedder.question(question), roles)
        return [
            self.passage(int(row), float(score))
            for row, score in zip(ranked.rows[:k], ranked.fused[:k], strict=True)
        ]

    def hidden_from(self, roles: frozenset[str]) -> int:
        """The number of passages that somebody with these roles may not see."""
        visible = self._visible(roles)
        return 0 if visible is None else int(np.count_nonzero(~visible))

    @cached_property
    def abstention(self) -> Abstention:
        """The rule by which this index abstains.

        Raises:
            StorageError: it does not say.
        """
        try:
            return Abstention.model_validate_json((self.folder / index_files.ABSTENTION).read_bytes())
        except (OSError, ValidationError) as error:
            raise StorageError(
                f"The index {self.manifest.name}/{self.manifest.version} does not say when it abstains, as this "
                "release reads it; make it again."
            ) from error

    def passage(self, row: int, score: float = 0.0) -> Passage:
        """A passage by its row."""
        values: dict[str, Any] = self.passages.slice(row, 1).to_pylist()[0]
        reference = f"{self.manifest.name}/{self.manifest.version}#{row}"
        return Passage(**{name: values[name] for name in _SHOWN}, reference=reference, score=score)

    def rank(
        self, question: str, vector: Vectors, roles: frozenset[str] = EVERYBODY, hidden: Sequence[int] = ()
    ) -> Ranked:
        """Rows by reciprocal rank fusion: the sum of ``1 / (RANK_CONSTANT + rank)`` over both rankings.

        Both leave out what the roles may not see, and the rows ``hidden``, before they rank anything.
        """
        mask = self._visible(roles)
        if len(hidden):
            mask = np.ones(self.manifest.passages, bool) if mask is None else mask.copy()
            mask[list(hidden)] = False
        dense_rows, cosines = self._dense(vector, mask)
        sparse_rows, bm25 = self._sparse(question, mask)
        rows, where = np.unique(np.concatenate([dense_rows, sparse_rows]), return_inverse=True)
        fused = np.zeros(len(rows))
        cosine, lexical = np.full(len(rows), np.nan), np.zeros(len(rows))
        n = len(dense_rows)
        np.add.at(fused, where[:n], 1 / (RANK_CONSTANT + 1 + np.arange(n)))
        np.add.at(fused, where[n:], 1 / (RANK_CONSTANT + 1 + np.arange(len(sparse_rows))))
        cosine[where[:n]], lexical[where[n:]] = cosines, bm25
        order = np.lexsort((rows, -fused))
        return Ranked(rows[order], fused[order], cosine[order], lexical[order])

    def vectors(self, rows: Ids) -> PassageVectors:
        """The vectors of the passages in these rows."""
        return PassageVectors(self._reconstructing.reconstruct_batch(rows), self.sentences.take(rows))

    @cached_property
    def _reconstructing(self) -> Any:
        if hasattr(self._vectors, "make_direct_map"):
            self._vectors.make_direct_map()
        return self._vectors

    def rarity(self, word: str) -> float:
        """Inverse document frequency of a word, as BM25 has it; that of a word that no passage has is the largest."""
        token = self._bm25.vocab_dict.get(word)
        bounds = self._bm25.scores["indptr"]
        frequency = 0 if token is None else int(bounds[token + 1] - bounds[token])
        return float(np.log(1 + (self.manifest.passages - frequency + 0.5) / (frequency + 0.5)))

    def knows(self, word: str) -> bool:
        """Whether a passage has the word, as BM25 counts words."""
        return word in self._bm25.vocab_dict

    def _dense(self, vector: Vectors, mask: NDArray[np.bool_] | None) -> tuple[Ids, NDArray[np.float64]]:
        import faiss

        options: dict[str, Any] = {}
        if mask is not None:
            selector: Any = faiss.IDSelectorBitmap(np.packbits(mask, bitorder="little"))
            if isinstance(self._vectors, faiss.IndexIVF):
                options["params"] = faiss.SearchParametersIVF(sel=selector, nprobe=self._vectors.nprobe)
            else:
                options["params"] = faiss.SearchParameters(sel=selector)
        cosines, rows = self._vectors.search(vector[None], min(CANDIDATES, self.manifest.passages), **options)
        real = rows[0] >= 0
        return rows[0][real], cosines[0][real].astype(np.float64)

    def _sparse(self, question: str, mask: NDArray[np.bool_] | None) -> tuple[Ids, NDArray[np.float64]]:
        tokens = self._bm25.get_tokens_ids(sorted(set(stems(question))))
        if not tokens:
            return np.empty(0, np.int64), np.empty(0)
        scores = self._bm25.get_scores_from_ids(tokens)
        if mask is not None:
            scores *= mask
        # to part what is 0 for the most part takes argpartition 17 times as long
        best = np.flatnonzero(scores > 0)
        if len(best) > CANDIDATES:
            best = best[np.argpartition(scores[best], -CANDIDATES)[-CANDIDATES:]]
        best = best[np.lexsort((best, -scores[best]))]
        return best.astype(np.int64), scores[best].astype(np.float64)

    def _visible_to(self, roles: frozenset[str]) -> NDArray[np.bool_] | None:
        """Which passages somebody may see; None for all."""
        from pyarrow import compute as pc

        column = pc.binary_join(self.passages["roles"], "\0").combine_chunks().dictionary_encode()
        allowed = [
            not named or not roles.isdisjoint(named.split("\0")) for named in column.dictionary.to_pylist()
        ]
        visible: NDArray[np.bool_] = np.array(allowed)[column.indices.to_numpy()]
        return None if visible.all() else visible


_SHOWN = ("text", "title", "source", "place", "start", "end", "digest", "date", "dataset", "subject_id")
