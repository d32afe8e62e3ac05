"""Review of feedback: a person decides what of it is true, before anything learns from it.

Feedback lies in the prediction log (``POST /feedback``). Reviews are signed (``mediscale.storage.feedback_reviews``);
of several the newest counts. Accepted pairs of question and answer join the training part of the next question set
(``data_pipeline.documents.question_set``).
"""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from mediscale.core.errors import NotFoundError, QualityError
from mediscale.core.settings import Settings
from mediscale.core.tables import REVIEWED_FEEDBACK
from mediscale.storage import feedback_reviews, lake
from mediscale.storage.feedback_reviews import Decision
from serving.log import prediction_log
from serving.log.logged_answers import FEEDBACK

_LOGGED = (
    "prediction_id", "predicted_at", "task", "model", "model_version", "subject_id", "asked_by", "question", "answer",
    "about", "verdict", "cited_dataset",
)  # fmt: skip


@dataclass(frozen=True)
class FeedbackRecord:
    """Feedback with the answer that it is about, and what was decided of it."""

    feedback_id: str
    at: datetime
    by: str
    verdict: str
    model: str
    model_version: int
    subject_id: int | None = field(repr=False)
    question: str | None = field(repr=False)
    """None of a risk."""
    answered: str | None = field(repr=False)
    """What the language model answered."""
    corrected: str | None = field(repr=False)
    decision: Decision | None
    """None where nobody reviewed it."""
    reviewed_by: str | None
    quotes_a_note: bool
    """Whether the answer quotes a patient's note: nothing learns from it."""

    @property
    def answer(self) -> str | None:
        """What may be learnt: the correction, else an answer that was found helpful."""
        return self.corrected or (self.answered if self.verdict == "helpful" else None)


def all_feedback(settings: Settings, dataset: str) -> list[FeedbackRecord]:
    """All feedback on a dataset's answers, oldest first.

    Raises:
        MediscaleError: a log or the lake can't be read.
    """
    feedback = prediction_log.rows(settings, dataset, _LOGGED, pc.field("task") == FEEDBACK).to_pylist()
    about = pc.field("prediction_id").isin(list({row["about"] for row in feedback}))
    answers = _answers(prediction_log.rows(settings, dataset, _LOGGED, about)) if feedback else {}
    reviews = _reviews(settings, dataset)
    entries = (
        _feedback_of_row(row, answers.get(row["about"]), reviews.get(row["prediction_id"]))
        for row in feedback
    )
    return sorted(entries, key=lambda each: (each.at, each.feedback_id))


def _answers(rows: pa.Table) -> dict[str, tuple[str | None, str | None]]:
    """Question and whole answer of each language answer; of a risk neither."""
    answers: dict[str, tuple[str | None, str | None]] = {}
    for row in rows.sort_by([("worker", "ascending"), ("sequence", "ascending")]).to_pylist():
        question, answer = answers.get(row["prediction_id"], (None, None))
        part = row["answer"]
        answers[row["prediction_id"]] = (
            question or row["question"],
            answer if part is None else (answer or "") + part,
        )
    return answers


def _feedback_of_row(
    row: dict[str, Any], answer: tuple[str | None, str | None] | None, review: dict[str, Any] | None
) -> FeedbackRecord:
    question, answered = answer or (None, None)
    return FeedbackRecord(
        feedback_id=row["prediction_id"],
        at=row["predicted_at"],
        by=row["asked_by"],
        verdict=row["verdict"],
        model=row["model"],
        model_version=row["model_version"],
        subject_id=row["subject_id"],
        question=question,
        answered=answered.strip() if answered else None,
        corrected=row["answer"],
        decision=review["decision"] if review else None,
        reviewed_by=review["reviewed_by"] if review else None,
        quotes_a_note=row["cited_dataset"] is not None,
    )


def _reviews(settings: Settings, dataset: str) -> dict[str, dict[str, Any]]:
    newest = lake.find_latest(settings, dataset, REVIEWED_FEEDBACK.name)
    if newest is None:
        return {}
    return feedback_reviews.attested(settings, newest, feedback_reviews.newest_entry(settings, dataset))


def review(
    settings: Settings, dataset: str, feedback_id: str, decision: Decision, reason: str, at: datetime
) -> FeedbackRecord:
    """Records what the approver whose key signs here decided; returns the feedback as it was before.

    Raises:
        NotFoundError: no feedback of the dataset has that name.
        QualityError: it is accepted, about a language answer, and says neither that it was helpful nor what is right,
            or that answer quotes a patient's note.
        UsageError: whose key signs here is no approver.
        BusyError: somebody else reviewed at the same moment.
    """
    feedback = next(
        (each for each in all_feedback(settings, dataset) if each.feedback_id == feedback_id), None
    )
    if feedback is None:
        raise NotFoundError(f"There is no feedback of that name on answers of {dataset}; list them first.")
    if decision == "accepted" and feedback.quotes_a_note:
        raise QualityError(
            "The answer quotes a patient's note, and no model learns from one; reject the feedback."
        )
    if decision == "accepted" and feedback.question and not feedback.answer:
        raise QualityError(
            "The feedback says that the answer is not right, and not what would be; there is nothing to learn from. "
            "Reject it, or ask for a corrected answer."
        )
    about = {name: getattr(feedback, name) for name in ("feedback_id", "verdict", "model", "model_version")}
    for name in (
        "subject_id",
        "question",
        "answer",
    ):  # of a quoted note's patient, of another dataset, nothing is kept
        about[name] = None if feedback.quotes_a_note else getattr(feedback, name)
    feedback_reviews.record(settings, dataset, about, decision, reason, at)
    return feedback
