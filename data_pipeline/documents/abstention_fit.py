"""When an index abstains: fitted on the project's own questions, each with its passage in the index and without it."""

import hashlib
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from data_pipeline.documents import corpus, passages, readers
from data_pipeline.documents.questions import Question
from data_pipeline.retrieval import index_files
from data_pipeline.retrieval.answer import FEATURES, Abstention, evidence
from data_pipeline.retrieval.embedder import Embedder
from data_pipeline.retrieval.index import Index
from data_pipeline.retrieval.index_files import Contents
from mediscale.core.errors import QualityError
from mediscale.core.settings import Settings
from mediscale.core.splits import assign_split
from mediscale.storage import durable_files

ABSTAIN_WITHOUT_PASSAGE = 0.95
"""Aim: the share of questions that abstain when the passage that answers them is not in the index."""
ABSTAIN_WITH_PASSAGE = 0.10
"""Aim: no larger share of the others does."""

Floats = NDArray[np.float64]


class Features(NamedTuple):
    """The evidence for questions: (n, features) each."""

    with_passage: Floats
    without: Floats
    """When the passages that a question refers to are not ranked, as if they were not there."""


def features(index: Index, questions: Sequence[Question]) -> Features:
    """The evidence for each question. A question's ``references`` name the places of its passages."""
    rows_of = _rows_by_place(index)
    both = []
    for question in questions:
        vector = index.embedder.question(question.question)
        hidden = [row for place in question.references for row in rows_of[place]]
        by_question = (
            evidence(index, question.question, index.rank(question.question, vector, hidden=rows))
            for rows in ((), hidden)
        )
        both.append([[each[name] for name in FEATURES] for each in by_question])
    values = np.array(both)
    return Features(values[:, 0], values[:, 1])


def _rows_by_place(index: Index) -> dict[str, list[int]]:
    rows: dict[str, list[int]] = {}
    for row, place in enumerate(index.passages["place"].to_pylist()):
        rows.setdefault(place, []).append(row)
    return rows


def of_own_questions(settings: Settings, embedder: Embedder) -> Abstention:
    """Fitted on the project's own corpus and questions with an embedder, once in a home."""
    made_of = hashlib.sha256(embedder.graph)
    for name in ("passages.jsonl", "questions.jsonl"):
        made_of.update((corpus.FOLDER / name).read_bytes())
    kept = settings.home / "embedders" / f"abstention-{made_of.hexdigest()[:16]}.json"
    if not kept.exists():
        own = passages.table(readers.read([corpus.FOLDER / "passages.jsonl"]).documents)
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder) / "index"
            index_files.write(place, "own", 1, Contents(own, index_files.embed(embedder, own), embedder))
            fitted = fit(Index.open(place, threads=0), corpus.questions())
        durable_files.replace(kept, fitted.model_dump_json(indent=1))
    return Abstention.model_validate_json(kept.read_text())


def fit(index: Index, questions: Sequence[Question]) -> Abstention:
    """Weights from training questions, and the threshold from tuning questions. Held-out ones are not looked at.

    Raises:
        QualityError: there is no training or no tuning question.
    """
    parts = {
        split: [q for q in questions if assign_split(q.family) == split] for split in ("train", "tuning")
    }
    if not all(parts.values()):
        raise QualityError(
            "There are no questions to fit an index's abstention on; give more families of them."
        )
    train, tuning = (features(index, part) for part in parts.values())
    weights, intercept = _logistic(np.vstack(train), len(train.with_passage))
    threshold = _threshold(*(1 / (1 + np.exp(-(part @ weights + intercept))) for part in tuning))
    return Abstention(
        weights=dict(zip(FEATURES, map(float, weights), strict=True)),
        intercept=float(intercept),
        threshold=threshold,
        training=len(parts["train"]),
        tuning=len(parts["tuning"]),
    )


def _logistic(values: Floats, answerable: int) -> tuple[Floats, float]:
    """Coefficients on the features as they are; the first rows are the answerable ones."""
    from sklearn.linear_model import LogisticRegression

    mean, deviation = values.mean(axis=0), values.std(axis=0) + 1e-12
    model = LogisticRegression().fit((values - mean) / deviation, np.arange(len(values)) < answerable)
    weights = model.coef_[0] / deviation
    return weights, float(model.intercept_[0] - weights @ mean)


def _threshold(with_passage: Floats, without: Floats) -> float:
    """The confidence at which both aims are met best: the smaller of the two distances from them is largest."""
    candidates = np.unique(np.concatenate([with_passage, without]))
    between = (candidates[1:] + candidates[:-1]) / 2

    def distance(threshold: float) -> float:
        met = float((without < threshold).mean()) - ABSTAIN_WITHOUT_PASSAGE
        return min(met, ABSTAIN_WITH_PASSAGE - float((with_passage < threshold).mean()))

    return float(max(between, key=distance))
