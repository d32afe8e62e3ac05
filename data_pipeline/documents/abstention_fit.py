"""Fit of the abstention model on the project's own questions, each with its passage in the index and without it."""

import copy
import hashlib
import tempfile
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from data_pipeline.documents import corpus, passages, readers
from data_pipeline.documents.passages import Document
from data_pipeline.documents.questions import Question
from data_pipeline.retrieval import abstention, embedders, index_files, passage_vectors, words
from data_pipeline.retrieval import candidates as candidates_module
from data_pipeline.retrieval import index as index_module
from data_pipeline.retrieval.abstention import FEATURES, Abstention
from data_pipeline.retrieval.candidates import candidates, evidence
from data_pipeline.retrieval.embedder import Embedder, Vectors
from data_pipeline.retrieval.index import Ids, Index
from data_pipeline.retrieval.index_files import Contents
from mediscale.core.errors import QualityError
from mediscale.core.refs import Frozen
from mediscale.core.settings import Settings
from mediscale.core.splits import assign_split
from mediscale.storage import durable_files

ABSTAIN_WITHOUT_PASSAGE = 0.95
"""Aim: the share of questions that abstain when the passage that answers them is not in the index."""
ABSTAIN_WITH_PASSAGE = 0.10
"""Aim: no larger share of the others does."""

FOLDS = 5
"""Of the questions by family: the threshold is chosen on scores that no question's own family had a part in."""

SHIPPED = Path(abstention.__file__).with_name("abstention.json")
DIGITS = 6
"""Of what is shipped, after the point."""
SAMPLED = 6
"""Passages of the index whose evidence is kept beside what is shipped."""

Floats = NDArray[np.float64]


SMALL_INDEXES = {3: 20, 10: 10, 30: 5}
"""How many small indexes of so many passages are drawn. Where an index has few passages, the next best is far off
whether or not the best one answers: weights of the whole corpus alone are too sure there."""
SMALL_WEIGHT = 0.1
"""Of the questions asked of the small indexes of one size, beside those asked of the whole."""


class Features(NamedTuple):
    """The evidence for questions: (n, features) each."""

    with_passage: Floats
    without: Floats
    """When the passages that a question refers to are not ranked, as if they were not there."""


def features(
    index: Index, questions: Sequence[Question], embedded: Callable[[str], Vectors] | None = None
) -> Features:
    """The evidence for each question. A question's ``references`` name the places of its passages."""
    rows_of = _rows_by_place(index)
    both = []
    for question in questions:
        vector = (embedded or index.embedder.question)(question.question)
        hidden = [row for place in question.references for row in rows_of[place]]
        both.append([_evidence(index, question, vector, rows) for rows in ((), hidden)])
    values = np.array(both)
    return Features(values[:, 0], values[:, 1])


class LabelledEvidence(NamedTuple):
    """Evidence for questions, (n, features), and what a fit takes beside it, (n,)."""

    values: Floats
    answerable: NDArray[np.bool_]
    """Whether a passage that answers the question was ranked."""
    families: NDArray[np.str_]
    weights: Floats


def _evidence(index: Index, question: Question, vector: Vectors, hidden: Sequence[int] = ()) -> list[float]:
    by_name = evidence(index, vector, candidates(index, question.question, vector, hidden=hidden))
    return [by_name[name] for name in FEATURES]


def _of_small_indexes(
    index: Index,
    questions: Sequence[Question],
    embedded: Callable[[str], Vectors],
    passages_each: int,
    count: int,
) -> LabelledEvidence:
    """The evidence in small indexes for the questions that they answer, and for as many others."""
    draw = np.random.default_rng(0)
    rows = draw.permutation(index.manifest.passages)
    examples: list[tuple[list[float], bool, str]] = []
    with tempfile.TemporaryDirectory() as folder:
        for n, start in enumerate(range(0, len(rows) - passages_each, passages_each)[:count]):
            drawn = np.sort(rows[start : start + passages_each])
            small = _small(Path(folder) / str(n), index, drawn)
            places = set(small.passages["place"].to_pylist())
            inside = [each for each in questions if places.issuperset(each.references)]
            outside = [each for each in questions if places.isdisjoint(each.references)]
            chosen = draw.choice(len(outside), min(len(inside), len(outside)), replace=False)
            for answerable, drawn_questions in ((True, inside), (False, [outside[i] for i in chosen])):
                examples += [
                    (_evidence(small, each, embedded(each.question)), answerable, each.family)
                    for each in drawn_questions
                ]
    weight = SMALL_WEIGHT * 2 * len(questions) / max(len(examples), 1)
    return LabelledEvidence(
        np.array([values for values, _, _ in examples]).reshape(-1, len(FEATURES)),
        np.array([answerable for _, answerable, _ in examples], np.bool_),
        np.array([family for _, _, family in examples], np.str_),
        np.full(len(examples), weight),
    )


def _small(place: Path, index: Index, rows: Ids) -> Index:
    embedder = copy.copy(index.embedder)
    embedder.graph = b""  # 34 MB, which nobody reads from there
    contents = Contents(index.passages.take(rows), index.vectors(rows), embedder)
    return Index(place, index_files.write(place, "small", 1, contents), embedder)


def _rows_by_place(index: Index) -> dict[str, list[int]]:
    rows: dict[str, list[int]] = {}
    for row, place in enumerate(index.passages["place"].to_pylist()):
        rows.setdefault(place, []).append(row)
    return rows


class Shipped(Frozen):
    """The packaged fit for the package's own embedder, and by what a test notices that it has to be fitted again."""

    abstention: Abstention
    corpus: str
    """SHA-256 of the passages and questions that it was fitted on."""
    evidence: dict[str, tuple[float, ...]]
    """Of a few questions, by their ids, asked of an index of the first passages."""


def shipped(embedder: Embedder) -> Shipped:
    """The packaged fit, made anew with the packaged embedder (``benchmarks/grounded_answers.py --write``); rounded, so
    that fits which differ in the order of their sums give the same file."""
    fitted = _of_own_corpus(embedder)
    rounded = fitted.model_copy(
        update={
            "weights": {name: round(weight, DIGITS) for name, weight in fitted.weights.items()},
            "intercept": round(fitted.intercept, DIGITS),
            "threshold": round(fitted.threshold, DIGITS),
        }
    )
    return Shipped(abstention=rounded, corpus=corpus_digest(), evidence=sampled_evidence(embedder))


def read_shipped() -> Shipped:
    """The packaged fit, as its file has it."""
    return Shipped.model_validate_json(SHIPPED.read_bytes())


def sampled_evidence(embedder: Embedder) -> dict[str, tuple[float, ...]]:
    """``Shipped.evidence``, computed anew by the code that is here."""
    few = readers.read([corpus.FOLDER / "passages.jsonl"]).documents[:SAMPLED]
    places = {document.place for document in few}
    questions = [question for question in corpus.questions() if places.issuperset(question.references)]
    with tempfile.TemporaryDirectory() as folder:
        both = features(_index(Path(folder) / "few", few, embedder), questions)
    rows = np.hstack(both).round(4).tolist()
    return {question.id: tuple(row) for question, row in zip(questions, rows, strict=True)}


def of_own_questions(settings: Settings, embedder: Embedder) -> Abstention:
    """The fit on the project's own corpus and questions with an embedder: for the packaged one it is shipped, for
    another it takes a minute or two, once in a home."""
    if embedder.spec.name == embedders.PACKAGED:
        return read_shipped().abstention
    made_of = hashlib.sha256(embedder.graph)
    makers = (__file__, candidates_module.__file__, words.__file__, index_module.__file__)  # of the features
    for code in makers:
        made_of.update(Path(code).read_bytes())
    made_of.update(corpus_digest().encode())
    kept = settings.home / "embedders" / f"abstention-{made_of.hexdigest()[:16]}.json"
    if not kept.exists():
        durable_files.replace(kept, _of_own_corpus(embedder).model_dump_json(indent=1))
    return Abstention.model_validate_json(kept.read_text())


def _of_own_corpus(embedder: Embedder) -> Abstention:
    own = readers.read([corpus.FOLDER / "passages.jsonl"]).documents
    with tempfile.TemporaryDirectory() as folder:
        return fit(_index(Path(folder) / "own", own, embedder), corpus.questions())


def _index(place: Path, documents: Sequence[Document], embedder: Embedder) -> Index:
    rows = passages.table(documents)
    index_files.write(place, "own", 1, Contents(rows, passage_vectors.embed(embedder, rows), embedder))
    return Index.open(place, threads=0)


def corpus_digest() -> str:
    """SHA-256 of the project's own passages and questions."""
    digest = hashlib.sha256()
    for name in ("passages.jsonl", "questions.jsonl"):
        digest.update((corpus.FOLDER / name).read_bytes())
    return digest.hexdigest()


def fit(index: Index, questions: Sequence[Question]) -> Abstention:
    """Weights from the questions that are not held out, and the threshold from their scores out of fold.

    Raises:
        QualityError: there are questions of fewer families than folds.
    """
    fitting = [question for question in questions if assign_split(question.family) != "held_out"]
    if len({question.family for question in fitting}) < FOLDS:
        raise QualityError(
            f"An index's abstention is fitted on questions of at least {FOLDS} families that are not held out; give "
            "more."
        )
    embedded = cache(index.embedder.question)
    whole = _of_whole_index(features(index, fitting, embedded), fitting)
    small = [_of_small_indexes(index, fitting, embedded, *sizes) for sizes in SMALL_INDEXES.items()]
    every = LabelledEvidence(*(np.concatenate(columns) for columns in zip(whole, *small, strict=True)))
    weights, intercept = _logistic(every)
    confidence = _out_of_fold(every)[: len(whole.values)]
    return Abstention(
        weights=dict(zip(FEATURES, map(float, weights), strict=True)),
        intercept=float(intercept),
        threshold=_threshold(confidence[whole.answerable], confidence[~whole.answerable]),
        questions=len(fitting),
    )


def _of_whole_index(both: Features, questions: Sequence[Question]) -> LabelledEvidence:
    n = len(questions)
    return LabelledEvidence(
        np.vstack(both),
        np.arange(2 * n) < n,
        np.array([question.family for question in questions] * 2, np.str_),
        np.ones(2 * n),
    )


def _out_of_fold(examples: LabelledEvidence) -> Floats:
    """The confidence for each example by weights that were fitted without its family."""
    from sklearn.model_selection import GroupKFold

    confidence = np.empty(len(examples.values))
    for rest, fold in GroupKFold(FOLDS).split(examples.values, groups=examples.families):
        weights, intercept = _logistic(LabelledEvidence(*(column[rest] for column in examples)))
        confidence[fold] = 1 / (1 + np.exp(-(examples.values[fold] @ weights + intercept)))
    return confidence


def _logistic(examples: LabelledEvidence) -> tuple[Floats, float]:
    """Coefficients on the features as they are."""
    from sklearn.linear_model import LogisticRegression

    values = examples.values
    mean, deviation = values.mean(axis=0), values.std(axis=0) + 1e-12
    model = LogisticRegression()
    model.fit((values - mean) / deviation, examples.answerable, sample_weight=examples.weights)
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
