"""Feedback: what somebody says of an answer of this server, logged as durably as the answer itself.

The answer is looked up in the prediction log, so that feedback carries its version and its patient: an erasure finds
both. A corrected answer is kept without identifiers, and teaches nothing before a person reviewed it
(``mediscale feedback``).
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from pydantic import Field

from mediscale.core.errors import InputError, NotFoundError
from mediscale.core.settings import Settings
from mediscale.core.task_names import LANGUAGE
from serving.language_schemas import StrictRequest, Written
from serving.log import prediction_log
from serving.log.logged_answers import FEEDBACK, NOTE_ANALYSIS, Feedback
from serving.log.prediction_log import PredictionLog
from serving.schemas import documented

CORRECTED_CHARACTERS = 2**13
Verdict = Literal["helpful", "wrong", "unsafe"]

_COLUMNS = ("task", "model", "model_version", "subject_id", "cited_dataset")


class FeedbackRequest(StrictRequest):
    """What somebody says of an answer."""

    prediction_id: str = Field(min_length=1, max_length=200)
    """That the answer came with."""
    verdict: Verdict
    """Of a risk it is a report about the version, which a person reads; it is no outcome, and trains nothing."""
    task: str | None = Field(None, min_length=1, max_length=100)
    """Which of its risks, where the answer has more than one."""
    corrected_answer: Written | None = Field(None, min_length=1, max_length=CORRECTED_CHARACTERS)
    """What a language model should have answered; identifiers are replaced before it is kept."""


@documented
@dataclass(frozen=True, slots=True)
class FeedbackTaken:
    """Feedback that is in the log."""

    feedback_id: str
    """Names it there."""
    prediction_id: str
    verdict: Verdict


def find(
    settings: Settings, logs: tuple[PredictionLog, ...], request: FeedbackRequest
) -> tuple[PredictionLog, dict[str, Any]]:
    """The answer that feedback is about, and whose log it is in.

    Raises:
        NotFoundError: no log has it.
        InputError: it holds several risks and the request does not say which, or holds none of the task that it names;
            or a risk is given a corrected answer.
    """
    import pyarrow.compute as pc

    about = pc.field("prediction_id") == request.prediction_id
    for log in logs:
        rows = prediction_log.rows(settings, log.dataset, _COLUMNS, about).to_pylist()
        rows.sort(key=lambda row: row["subject_id"] is not None)  # of a stream's parts one that has it counts
        answers = {row["task"]: row for row in rows if row["task"] not in (FEEDBACK, NOTE_ANALYSIS)}
        if answers:
            return log, _answer_named(answers, request)
    raise NotFoundError(
        "No answer of this prediction_id is known here. One of another server of these minutes is known as soon as it "
        "is in the lake; try again in a minute."
    )


def _answer_named(answers: dict[str, dict[str, Any]], request: FeedbackRequest) -> dict[str, Any]:
    if request.task is None and len(answers) > 1:
        raise InputError(f"The answer holds risks of {' and '.join(sorted(answers))}; say which by task.")
    answer = answers.get(request.task or next(iter(answers)))
    if answer is None:
        raise InputError(f"The answer is about {' and '.join(sorted(answers))}, and not about that task.")
    if request.corrected_answer and answer["task"] != LANGUAGE:
        raise InputError("A risk has no corrected_answer, the record tells what happened; leave it out.")
    return answer


def row(
    request: FeedbackRequest,
    answer: dict[str, Any],
    feedback_id: str,
    at: datetime,
    without_identifiers: Callable[[str, datetime], str],
) -> Feedback:
    """What the log keeps of feedback."""
    corrected = request.corrected_answer
    return Feedback(
        prediction_id=feedback_id,
        predicted_at=at,
        model=answer["model"],
        model_version=answer["model_version"],
        subject_id=answer["subject_id"],
        cited_dataset=answer["cited_dataset"],
        about=request.prediction_id,
        verdict=request.verdict,
        answer=without_identifiers(corrected, at) if corrected else None,
    )
