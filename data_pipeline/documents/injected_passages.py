"""Prompt injection in passages: those that instruct the model are left out of an index, when it is made.

Each passage is read once, by the rules of questions and answers, and by a linear model over the embedding of each of
its sentences; an answer then costs nothing more. ``benchmarks/passage_injection.py`` trained the weights and says how
many it finds, and how many passages it takes for what they are not.
"""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from data_pipeline.clinical_text import text as clinical_text
from data_pipeline.documents.passages import RejectedDocument
from data_pipeline.documents.sentences import sentences
from data_pipeline.retrieval import embedders
from data_pipeline.retrieval.embedder import Embedder, Vectors
from data_pipeline.safety import injection
from data_pipeline.safety.layer import CheckedText
from mediscale.core.errors import QualityError
from mediscale.core.settings import Settings

FILE = Path(__file__).with_name("injected_passages.npz")


def without(
    settings: Settings, used: Embedder, new: pa.Table, indexed: frozenset[str]
) -> tuple[pa.Table, list[RejectedDocument]]:
    """Passages without those that instruct the model, and what is said of the files that those stand in.

    ``known``: texts that were read before. The weights are for the packaged embedder, which is loaded where the index
    has another one.

    Raises:
        QualityError: none is left.
    """
    texts = new["text"].to_pylist()
    fresh = [i for i, text in enumerate(texts) if text not in indexed]
    if not fresh:
        return new, []
    embedder = used if used.spec.name == embedders.PACKAGED else embedders.load(settings, threads=0)
    instructs = np.zeros(len(texts), bool)
    instructs[fresh] = are_injected([texts[i] for i in fresh], embedder)
    if instructs.all():
        raise QualityError(
            f"All {len(texts)} passages have instructions to a language model; none of them is indexed."
        )
    files = [_named(row) for row in new.filter(pa.array(instructs)).to_pylist()]
    rejected = [
        RejectedDocument(file=name, reason=_reason(files.count(name))) for name in dict.fromkeys(files)
    ]
    return new.filter(pa.array(~instructs)), rejected


def _named(row: dict[str, Any]) -> str:
    """The file of a passage; no note by itself, for an erasure of its patient does not look here."""
    return f"notes of {row['dataset']}" if row["subject_id"] is not None else str(row["file"])


def _reason(n: int) -> str:
    return f"It has instructions to a language model in {n} {'passage' if n == 1 else 'passages'}, left out."


def are_injected(texts: Sequence[str], embedder: Embedder) -> NDArray[np.bool_]:
    """Whether each passage has a sentence that instructs the model."""
    parts = [(i, text[start:end]) for i, text in enumerate(texts) for start, end in sentences(text)]
    injected = np.array(
        [bool(injection.check(CheckedText(clinical_text.read(text))).findings) for text in texts]
    )
    if parts:
        scores = _scores(embedder.passages([part for _, part in parts]))
        injected[[i for (i, _), score in zip(parts, scores, strict=True) if score > 0]] = True
    return injected


def _scores(vectors: Vectors) -> Vectors:
    weights, intercept = _weights()
    scores: Vectors = vectors @ weights + intercept
    return scores


@cache
def _weights() -> tuple[Vectors, float]:
    """The packaged weights; the threshold is subtracted from the intercept."""
    with np.load(FILE, allow_pickle=False) as arrays:
        return arrays["weights"], float(arrays["intercept"])
