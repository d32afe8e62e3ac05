"""Unsupported statements of written answers by specialty, with and without retrieval: where a model makes things up."""

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np

from data_pipeline.documents.questions import Question
from mediscale.core.refs import Frozen
from mediscale.inference.language import LanguageModel
from training.evaluation.bootstrap import Resamples
from training.evaluation.evaluation_report import Estimate


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


class Sources(Protocol):
    """What answers are checked against."""

    def found(self, question: Question) -> Sequence[str]:
        """Passages that a search for the question finds, the best first."""

    def gold(self, question: Question) -> Sequence[str]:
        """Passages in which the reference answer stands."""

    def supported(self, answer: str, passages: Sequence[str]) -> Sequence[bool]:
        """Of each sentence of an answer, whether one of the passages supports it."""


def unsupported_statements(
    model: LanguageModel,
    questions: Sequence[Question],
    answers: Mapping[int, str],
    sources: Sources,
    max_tokens: int,
    bootstrap: int,
    seed: int,
) -> tuple[Statements, ...]:
    """The cells of specialty and retrieval; ``answers`` are those without, by the question's place."""
    asked = [questions[i] for i in answers]
    found = [sources.found(question) for question in asked]
    grounded = model.answers(
        [(question.question, "\n\n".join(passages)) for question, passages in zip(asked, found, strict=True)],
        max_tokens,
    )
    cells = []
    for retrieval, texts in ((False, list(answers.values())), (True, grounded)):
        judged = [
            (question, not supported)
            for question, passages, text in zip(asked, found, texts, strict=True)
            for supported in sources.supported(text, [*sources.gold(question), *passages])
        ]
        for specialty in sorted({question.specialty for question, _ in judged}):
            rows = [(q.family, wrong) for q, wrong in judged if q.specialty == specialty]
            cells.append(_cell(specialty, retrieval, rows, bootstrap, seed))
    return tuple(cells)


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
