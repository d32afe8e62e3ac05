"""Passages as an index takes them: read for instructions to a language model, and embedded, each text once."""

from collections import Counter

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from data_pipeline.documents import injected_passages, passages
from data_pipeline.documents.readers import Read
from data_pipeline.retrieval import embedders, passage_vectors
from data_pipeline.retrieval.embedder import Embedder
from data_pipeline.retrieval.index import Index
from data_pipeline.retrieval.index_files import RejectedDocument
from data_pipeline.retrieval.passage_vectors import PassageVectors
from mediscale.core.errors import QualityError
from mediscale.core.plural import counted
from mediscale.core.settings import Settings

AT_ONCE = 2000
"""Passages whose sentences' vectors are in memory in full precision."""


def indexed_passages(
    settings: Settings, used: Embedder, read: Read, before: Index | None
) -> tuple[pa.Table, PassageVectors, list[RejectedDocument]]:
    """The passages of documents without those that instruct a model, their vectors, and the files those stand in.

    What ``before`` holds with the same embedder is taken from it.

    Raises:
        QualityError: no passage is left.
    """
    table = passages.table(read.documents)
    indexed = _rows_by_text(before, used)
    row_of = np.array([indexed.get(text, -1) for text in passage_vectors.embedded_texts(table)], np.int64)
    fresh, vectors = _read_and_embedded(settings, used, table.filter(pa.array(row_of < 0)))
    instructs = np.zeros(table.num_rows, bool)
    instructs[row_of < 0] = fresh
    if table.num_rows and instructs.all():
        raise QualityError(
            f"All {table.num_rows} passages have instructions to a language model; none of them is indexed."
        )
    old = row_of[row_of >= 0]
    if before is not None and len(old):
        vectors = passage_vectors.joined([before.vectors(old), vectors])
    place = np.where(
        row_of >= 0, np.cumsum(row_of >= 0) - 1, len(old) + np.cumsum((row_of < 0) & ~instructs) - 1
    )
    return (
        table.filter(pa.array(~instructs)),
        vectors.take(place[~instructs]),
        _rejected(table.filter(pa.array(instructs))),
    )


def _rows_by_text(before: Index | None, used: Embedder) -> dict[str, int]:
    """Rows by what was embedded; none where that was done by another embedder."""
    if before is None or before.manifest.embedder != used.spec:
        return {}
    return {text: row for row, text in enumerate(passage_vectors.embedded_texts(before.passages))}


def _read_and_embedded(
    settings: Settings, used: Embedder, table: pa.Table
) -> tuple[NDArray[np.bool_], PassageVectors]:
    """Which passages instruct a model, and the vectors of the others.

    A sentence's vector serves both. The weights that find instructions are for the packaged embedder, which reads the
    sentences once more where the index has another one.
    """
    is_packaged = used.spec.name == embedders.PACKAGED
    reader = used if is_packaged or not table.num_rows else embedders.load(settings, threads=0)
    instructs, parts = [], []
    for start in range(0, max(table.num_rows, 1), AT_ONCE):
        chunk = table.slice(start, AT_ONCE)
        texts, first = passage_vectors.sentences_of(chunk)
        vectors = used.passages(texts)
        instructs.append(
            injected_passages.are_injected(
                chunk["text"].to_pylist(), texts, vectors if is_packaged else reader.passages(texts), first
            )
        )
        kept = ~instructs[-1]
        parts.append(
            passage_vectors.embed_with(
                used,
                chunk.filter(pa.array(kept)),
                vectors[np.repeat(kept, np.diff(first))],
                passage_vectors.first_rows(np.diff(first)[kept]),
            )
        )
    return np.concatenate(instructs), passage_vectors.joined(parts)


def _rejected(instructing: pa.Table) -> list[RejectedDocument]:
    """The files of passages with instructions; no note by itself, for an erasure of its patient does not look here."""
    files = Counter(
        f"notes of {row['dataset']}" if row["subject_id"] is not None else str(row["file"])
        for row in instructing.to_pylist()
    )
    said = "It has instructions to a language model in"
    return [
        RejectedDocument(file=f, reason=f"{said} {counted(n, 'passage')}, left out.")
        for f, n in files.items()
    ]
