"""Feedback on answers: logged with whose answer it is, reviewed by an approver, learnt from, and erased."""

import asyncio
import json
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from deltalake import write_deltalake
from fastapi.testclient import TestClient
from fixtures.server_process import environment

from data_pipeline.documents import question_set, questions
from data_pipeline.documents.question_set import STAGE
from mediscale.cli import main
from mediscale.core.errors import UsageError
from mediscale.core.settings import Settings
from mediscale.core.splits import assign_split
from mediscale.core.tables import REVIEWED_FEEDBACK
from mediscale.governance import provenance
from mediscale.governance.patient import Holdings, Patient
from mediscale.storage import lake, redaction, signing
from serving.app import create_app
from serving.log import prediction_log
from serving.log.logged_answers import FEEDBACK, Answered, Prediction, Requester, WrittenAnswer
from serving.log.prediction_log import PredictionLog
from serving.risk.models import Predictors

DATASET = "synthetic"
WHEN, REQUESTER = datetime(2026, 11, 27, 8), Requester("dr.who (key 1a2b3c4d)", "treatment")
QUESTION, WRONG, RIGHT = "Which organ makes urine?", "The liver makes urine.", "The kidney makes urine."
Post = Callable[..., Any]


def written(name: str, question: str | None, answer: str) -> WrittenAnswer:
    return WrittenAnswer(name, WHEN, f"{DATASET}-language", 2, question, answer, "low")


def risk(name: str, task: str, subject_id: int | None = None) -> Prediction:
    return Prediction(name, WHEN, task, f"{DATASET}-{task}", 3, 0.2, np.array([1.0]), subject_id=subject_id)


@pytest.fixture
def post(settings: Settings, promote: Any) -> Any:
    """``post(prediction_id, verdict, …)`` to a server whose log has a language answer in two parts, a risk of a
    patient of the lake and an answer with two risks."""
    promote("mortality")
    log = PredictionLog(settings, DATASET)
    rows: list[Answered] = [
        written("w-1-1", QUESTION, f"{WRONG} "),
        written("w-1-1", None, "So it is."),
        risk("w-1-2", "mortality", 7),
        risk("w-1-3", "mortality"),
        risk("w-1-3", "readmission"),
    ]
    asyncio.run(log.append(rows, REQUESTER))
    with TestClient(create_app(settings, Predictors(settings, DATASET, "production"), log)) as client:

        def send(name: str, verdict: str, **more: str) -> Any:
            return client.post("/feedback", json={"prediction_id": name, "verdict": verdict, **more})

        send.client, send.log = client, log  # type: ignore[attr-defined]
        yield send


@pytest.fixture
def command(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str]]:
    for name, value in environment(settings).items():
        monkeypatch.setenv(name, value)

    def run(*words: str) -> tuple[int, str]:
        code = main.main(["feedback", *words, "--dataset", DATASET])
        output = capsys.readouterr()
        return code, output.out + output.err

    return run


def test_feedback_of_a_dataset_that_is_not_there_is_no_empty_list(
    command: Callable[..., tuple[int, str]],
) -> None:
    assert command("list") == (
        7,
        f"mediscale: There is no dataset {DATASET}; the lake's datasets are: none yet.\n",
    )


def test_feedback_is_kept_with_the_version_and_the_patient_of_its_answer(
    post: Post, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    corrected = f"{RIGHT} Asked of Zacharias Quillfeather, MRN 4471-0032."
    first = post("w-1-1", "wrong", corrected_answer=corrected)
    second = post("w-1-2", "unsafe")
    assert (first.status_code, second.status_code) == (201, 201), first.text
    assert first.json()["prediction_id"] == "w-1-1"
    post.log.flush()  # type: ignore[attr-defined]
    third = post("w-1-3", "helpful", task="readmission")  # the answer is in the lake now
    assert third.status_code == 201, third.text
    rows = prediction_log.rows(settings, DATASET, ["task", "about", "verdict", "model", "model_version", "subject_id",
                                                   "answer", "asked_by", "prediction_id"]).to_pylist()  # fmt: skip
    of = {row["about"]: row for row in rows if row["task"] == FEEDBACK}
    assert of["w-1-1"]["model"], of["w-1-1"]["model_version"] == (f"{DATASET}-language", 2)
    assert of["w-1-1"]["answer"].startswith(RIGHT)
    assert of["w-1-1"]["prediction_id"] == first.json()["feedback_id"]
    assert (of["w-1-2"]["subject_id"], of["w-1-2"]["verdict"]) == (7, "unsafe")
    assert of["w-1-3"]["model"] == f"{DATASET}-readmission"
    assert all(row["asked_by"] for row in of.values())
    [answer] = provenance.predictions(settings, DATASET, pc.field("subject_id") == 7)
    assert answer.task == "mortality", "what was said of an answer is none"
    numbers = post.client.get("/metrics").text  # type: ignore[attr-defined]
    assert 'mediscale_feedback_total{task="mortality",verdict="unsafe"} 1.0' in numbers
    for where in (str(rows), numbers, caplog.text):
        assert "Quillfeather" not in where
        assert "4471-0032" not in where


@pytest.mark.parametrize(
    ("name", "verdict", "more", "status", "sentence"),
    [
        ("w-9-9", "wrong", {}, 404, "No answer of this prediction_id"),
        ("w-1-1", "splendid", {}, 422, "verdict"),
        ("w-1-3", "wrong", {}, 422, "mortality and readmission; say which"),
        ("w-1-3", "wrong", {"task": "sepsis"}, 422, "not about that task"),
        ("w-1-2", "wrong", {"corrected_answer": "0.9"}, 422, "A risk has no corrected_answer"),
        ("w-1-1", "wrong", {"corrected_answer": "x" * 3000 + "\0"}, 422, "corrected_answer"),
        ("w-1-1", "wrong", {"comment": "x"}, 422, "comment is not known here"),
    ],
)
def test_what_is_no_feedback_is_refused_and_leaves_nothing(
    post: Post, settings: Settings, name: str, verdict: str, more: dict[str, str], status: int, sentence: str
) -> None:
    response = post(name, verdict, **more)
    assert response.status_code == status
    assert sentence in response.json()["error"]
    assert FEEDBACK not in prediction_log.rows(settings, DATASET, ["task"])["task"].to_pylist()


def test_an_approver_reviews_and_accepted_pairs_wait_for_the_next_training_part(
    post: Post, settings: Settings, command: Callable[..., tuple[int, str]]
) -> None:
    wrong = post("w-1-1", "wrong", corrected_answer=RIGHT).json()["feedback_id"]
    bare = post("w-1-1", "unsafe").json()["feedback_id"]
    _, output = command("list")
    assert f"asked: {QUESTION}" in output
    assert f"answered: {WRONG} So it is." in output
    assert f"corrected: {RIGHT}" in output
    code, output = command("accept", bare, "--reason", "Right.")
    assert (code != 0, "nothing to learn from" in output) == (True, True), output
    assert command("reject", bare, "--reason", "Says too little.")[0] == 0
    assert "joins the training part" in command("accept", wrong, "--reason", "Right.")[1]
    of_risk = post("w-1-2", "unsafe").json()["feedback_id"]
    _, output = command("accept", of_risk, "--reason", "Nobody measured the pressure.")
    assert f"a report about {DATASET}-mortality/3; it trains nothing" in output
    assert "0 of 3 listed" in command()[1]
    assert "accepted by" in command("list", "--all")[1]
    assert accepted(settings) == [(QUESTION, RIGHT)]
    command("reject", wrong, "--reason", "On second thoughts.")
    assert accepted(settings) == []
    assert command("accept", "w-7-7", "--reason", "x")[0] != 0


@pytest.mark.usefixtures("command")
def test_without_a_dataset_the_feedback_of_every_one_is_listed_and_reviewed(
    post: Post, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    name = post("w-1-2", "unsafe").json()["feedback_id"]
    (Path(settings.lake) / "another").mkdir()
    assert main.main(["feedback"]) == 0
    assert name in capsys.readouterr().out
    assert main.main(["feedback", "reject", name, "--reason", "Nobody measured the pressure."]) == 0
    assert main.main(["feedback"]) == 0
    assert "0 of 1 listed" in capsys.readouterr().out


def test_a_review_that_nobody_signed_or_that_was_changed_teaches_nothing(
    post: Post, settings: Settings, command: Callable[..., tuple[int, str]]
) -> None:
    """An attacker who writes the lake adds a row, or another answer in place of the one that was accepted."""
    name = post("w-1-1", "wrong", corrected_answer=RIGHT).json()["feedback_id"]
    command("accept", name, "--reason", "Right.")
    table = REVIEWED_FEEDBACK.name
    rows = lake.read(settings, lake.latest(settings, DATASET, table))
    [accepted_row] = rows.to_pylist()
    changed = [accepted_row | {"answer": "Something harmful."}, accepted_row | {"feedback_id": "w-1-9"}]
    forged = pa.Table.from_pylist(changed, schema=rows.schema)
    write_deltalake(settings.table_uri(DATASET, table), forged, mode="append")
    assert accepted(settings) == [(QUESTION, RIGHT)]
    assert command("reject", name, "--reason", "On second thoughts.")[0] == 0
    write_deltalake(settings.table_uri(DATASET, table), rows, mode="overwrite")
    assert accepted(settings) == [], "the rejection's row was taken out; its entry stands"
    assert "1 of 1 listed" in command()[1]


def test_whoever_is_no_approver_reviews_nothing(
    post: Post, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Callable[..., tuple[int, str]]
) -> None:
    name = post("w-1-1", "helpful").json()["feedback_id"]
    signing.make_key(tmp_path / "ana.key", tmp_path / "signers" / "ana.pem")
    monkeypatch.setenv("MEDISCALE_SIGNING_KEY", str(tmp_path / "ana.key"))
    monkeypatch.setenv("MEDISCALE_PUBLIC_KEYS", str(tmp_path / "signers"))
    code, output = command("accept", name, "--reason", "Right.")
    assert code == UsageError.exit_code
    assert "ana is no approver" in output
    assert "1 of 1 listed" in command()[1]


def accepted(settings: Settings) -> list[tuple[str, str]]:
    [context] = question_set.runtime_inputs({"dataset": DATASET}, settings)
    params = STAGE.Params.model_validate(
        {"dataset": DATASET, "source": "own", "path": "", "source_digest": "0", **context.params}
    )
    found = question_set._accepted(settings, params.reviewed, params.newest_review)  # type: ignore[attr-defined]
    return [(each.question, each.answer) for each in found]


def pair(name: str, question: str, answer: str) -> questions.Question:
    return questions.Question(id=name, family=name, kind="short_answer", question=question, answer=answer)


def test_reviewed_pairs_join_the_training_part_and_never_the_test() -> None:
    own = questions.read(question_set.OWN)
    parts = questions.split_by_family(own)
    held_out, tuning, trained = parts["held_out"][0], parts["tuning"][0], parts["train"][0]
    reviewed = [
        pair("feedback/a", "How many moons has the planet Mars?", "Two."),
        pair("feedback/b", held_out.question, "Another answer, which a clinician wrote at great length and in other "
             "words than the reference, so that the answers share nothing at all with one another."),
        pair("feedback/c", tuning.question.upper(), "Something else."),
        pair("feedback/d", trained.question, trained.answer),
    ]  # fmt: skip
    prepared = questions.prepare(own, reviewed=reviewed)
    ids = {split: {each.id for each in part} for split, part in prepared.splits.items()}
    assert {"feedback/a", "feedback/d"} == {name for name in ids["train"] if name.startswith("feedback/")}
    assert prepared.reviewed == 2
    assert trained.id not in ids["train"], "the correction takes the place of the question"
    without = questions.prepare(own)
    for split in ("tuning", "held_out"):
        assert prepared.splits[split] == without.splits[split]
    assert any(
        assign_split(each.family) != "train" for each in [pair(f"feedback/{n}", "a", "b") for n in range(20)]
    )


def test_a_patient_s_feedback_is_erased_from_the_files_and_from_reviews(
    post: Post, settings: Settings, command: Callable[..., tuple[int, str]]
) -> None:
    name = post("w-1-2", "wrong").json()["feedback_id"]
    assert command("accept", name, "--reason", "It was.")[0] == 0
    mine = Holdings(settings, Patient(DATASET, "MRN-7", 7), known_visits=None)
    rows = redaction.Rows(
        lambda names: mine.columns(REVIEWED_FEEDBACK.name, names),
        lambda _, part: mine.mask(REVIEWED_FEEDBACK.name, part),
    )
    assert redaction.redact(settings, DATASET, REVIEWED_FEEDBACK.name, rows) == 1
    assert prediction_log.erase(settings, DATASET, 7) == 2, "the answer and the feedback on it"
    assert "Nobody said anything" in command("list", "--all")[1]
    assert len(lake.read(settings, lake.latest(settings, DATASET, REVIEWED_FEEDBACK.name))) == 0


def test_the_audit_says_who_gave_feedback(
    post: Post, settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    post("w-1-2", "wrong")
    for name, value in environment(settings).items():
        monkeypatch.setenv(name, value)
    assert main.main(["audit", "--dataset", DATASET, "--json"]) == 0
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    [feedback] = [event for event in events if event["kind"] == "feedback"]
    assert (feedback["what"], feedback["subject_id"]) == (f"{DATASET}-mortality/3", 7)
