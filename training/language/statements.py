"""Unsupported statements of written answers by specialty, with and without retrieval: where a model makes things up."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Protocol

import numpy as np

from data_pipeline.documents.questions import Question
from mediscale.core.refs import Frozen
from mediscale.inference.language import LanguageModel
from training.language.confidence import mean
from training.statistics.bootstrap import Resamples
from training.statistics.estimate import Estimate


class Statements(Frozen):
    """A cell of the table of specialty bias."""

    specialty: str
    retrieval: bool
    """Whether the passages that were found stood before the question."""
    n: int
    """Sentences of written answers."""
    families: int
    """Of the questions that they answer."""
    unsupported: Estimate
    """The share that neither the reference's passage nor a passage that was found supports."""


class Grounding(Frozen):
    """Whether passages before a question make its answer better supported."""

    n: int
    """Questions that were answered both ways."""
    families: int
    without: Estimate
    """Mean share of an answer's sentences that are supported."""
    with_retrieval: Estimate
    gain: Estimate
    cells: tuple[Statements, ...]
    """By specialty, with and without retrieval."""


class Sources(Protocol):
    """What answers are checked against."""

    def best_passages(self, question: Question) -> Sequence[str]:
        """Passages that a search for the question finds, the best first."""

    def gold(self, question: Question) -> Sequence[str]:
        """Passages in which the reference answer stands."""

    def supported(self, answer: str, passages: Sequence[str]) -> Sequence[bool]:
        """Whether one of the passages supports each sentence of an answer."""


def grounding(
    model: LanguageModel,
    questions: Sequence[Question],
    answers: Mapping[int, str],
    sources: Sources,
    max_tokens: int,
    bootstrap: int,
    seed: int,
) -> Grounding | None:
    """Answers with and without retrieval; ``answers`` are those without, by the question's place. None where there are
    none."""
    answered = [questions[i] for i in answers]
    if not answered:
        return None
    retrieved = [sources.best_passages(question) for question in answered]
    grounded = model.answers(
        [
            (question.question, "\n\n".join(passages))
            for question, passages in zip(answered, retrieved, strict=True)
        ],
        max_tokens,
    )
    texts = {False: list(answers.values()), True: grounded}
    judged = {
        retrieval: [
            sources.supported(text, [*sources.gold(question), *passages])
            for question, passages, text in zip(answered, retrieved, written, strict=True)
        ]
        for retrieval, written in texts.items()
    }
    shares = {
        retrieval: np.array([np.mean(each) if len(each) else 0.0 for each in of])
        for retrieval, of in judged.items()
    }
    families = np.unique([question.family for question in answered], return_inverse=True)[1].astype(np.int64)
    resamples = Resamples(families, bootstrap, seed)
    return Grounding(
        n=len(answered),
        families=len(np.unique(families)),
        without=resamples.estimate(partial(mean, shares[False])),
        with_retrieval=resamples.estimate(partial(mean, shares[True])),
        gain=resamples.estimate(partial(mean, shares[True] - shares[False])),
        cells=tuple(_cells(answered, judged, bootstrap, seed)),
    )


def _cells(
    answered: Sequence[Question], judged: Mapping[bool, Sequence[Sequence[bool]]], bootstrap: int, seed: int
) -> Iterator[Statements]:
    for retrieval, answers in judged.items():
        sentences = [
            (question, not supported)
            for question, answer in zip(answered, answers, strict=True)
            for supported in answer
        ]
        for specialty in sorted({question.specialty for question, _ in sentences}):
            rows = [(q.family, wrong) for q, wrong in sentences if q.specialty == specialty]
            yield _cell(specialty, retrieval, rows, bootstrap, seed)


def _cell(
    specialty: str, retrieval: bool, rows: Sequence[tuple[str, bool]], bootstrap: int, seed: int
) -> Statements:
    families = np.unique([family for family, _ in rows], return_inverse=True)[1].astype(np.int64)
    wrong = np.array([[float(unsupported)] for _, unsupported in rows])
    return Statements(
        specialty=specialty,
        retrieval=retrieval,
        n=len(rows),
        families=len(np.unique(families)),
        unsupported=Resamples(families, bootstrap, seed).shares(wrong, np.ones_like(wrong))[0],
    )
