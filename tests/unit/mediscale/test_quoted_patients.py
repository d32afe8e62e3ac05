"""A patient whose note a language model quoted is found in the log of its answers, and taken out of it."""

import asyncio
from datetime import datetime
from typing import Any

import pyarrow as pa
import pytest

from mediscale.core.errors import QualityError
from mediscale.core.settings import Settings
from mediscale.core.tables import SUBJECTS
from mediscale.governance import audit, erasure, feedback, lineage_text, patient
from mediscale.storage import commits, signing
from serving.log import prediction_log
from serving.log.logged_answers import Answered, Feedback, Requester, WrittenAnswer
from serving.log.prediction_log import PredictionLog

SURGERY, QUESTIONS, ANNA, AT = "surgery", "questions", 11, datetime(2026, 11, 28)


def quoting(
    name: str, dataset: str | None = SURGERY, subject_id: int | None = ANNA, **more: Any
) -> WrittenAnswer:
    said = {
        "question": "Which hip?",
        "answer": f"[from a patient's note of {dataset}]",
        "safety": "none",
        **more,
    }
    return WrittenAnswer(
        name,
        AT,
        "questions-language",
        1,
        cited="surgery-notes/1#3",
        cited_dataset=dataset,
        subject_id=subject_id,
        **said,
    )


@pytest.fixture
def logged(settings: Settings) -> Settings:
    """Answers that quote a patient of surgery, half of them in the lake, and others that quote somebody else's note or
    a document; and a patient of the questions' own dataset with the same number."""
    people = [
        {"source_subject": "anna-1", "subject_id": ANNA},
        {"source_subject": "otto-2", "subject_id": 22},
    ]
    commits.append(
        settings, SUBJECTS.name, pa.Table.from_pylist(people, SUBJECTS.arrow_schema()), SURGERY, "test", 1
    )
    log, asker = PredictionLog(settings, QUESTIONS), Requester("dr.who (key 1a2b3c4d)", "treatment")
    said = Feedback("f-1", AT, "questions-language", 1, ANNA, "q-1", "wrong", "The left one.", SURGERY)
    others = [quoting("q-2", subject_id=22), quoting("q-3", dataset="icu"), quoting("q-4", None, None)]
    batches: list[list[Answered]] = [[quoting("q-1"), said, *others], [quoting("q-5")]]
    for rows in batches:
        log.flush()
        asyncio.run(log.append(rows, asker))
    log.close()
    return settings


def test_answers_that_quote_a_patients_note_are_found_by_audit_lineage_and_erasure(logged: Settings) -> None:
    anna = patient.find(logged, SURGERY, "anna-1")
    events = audit.trail(logged, SURGERY, ANNA)
    assert [event.reference for event in events] == ["q-1", "f-1", "q-5"]
    assert events[0].what == "questions-language/1, quoting a note of surgery"
    assert "1 answer of language models in the lake's logs, quoting the patient's notes" in list(
        lineage_text.of_patient(logged, anna)
    )
    lines = "\n".join(lineage_text.of_prediction(logged, "q-1"))
    assert (
        "it quotes passage 3 of the index surgery-notes/1\n    The index surgery-notes/1 is not in this home"
        in lines
    )

    would = erasure.preview(logged, SURGERY, "anna-1")
    actor = signing.actor(logged)
    erased = erasure.erase(logged, SURGERY, "anna-1", "asked for it", actor, AT)
    assert (erased.rows, erased.unflushed) == (would.rows, would.unflushed)
    assert erased.rows["questions/predictions"] == 2
    assert erased.unflushed == 1
    left = prediction_log.rows(logged, QUESTIONS, ["prediction_id"])["prediction_id"].to_pylist()
    assert sorted(left) == ["q-2", "q-3", "q-4"]


def test_nothing_learns_from_an_answer_that_quotes_a_patients_note(logged: Settings) -> None:
    with pytest.raises(QualityError, match="quotes a patient's note, and no model learns from one; reject"):
        feedback.review(logged, QUESTIONS, "f-1", "accepted", "It is so.", AT)
