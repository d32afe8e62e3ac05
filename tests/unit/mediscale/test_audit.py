"""The audit trail: the log in the lake and on this machine, and the signed history, each event once."""

import asyncio
import io
import json
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from deltalake import write_deltalake
from fixtures.server_process import environment

from mediscale.cli import main
from mediscale.core.settings import Settings
from mediscale.core.tables import SUBJECTS
from mediscale.storage import commits, lake
from serving.log.logged_answers import Prediction, Requester
from serving.log.prediction_log import PredictionLog

DATASET = "synthetic"
WARD, RESEARCH = (
    Requester("dr.who (key 1a2b3c4d)", "treatment"),
    Requester("study 12 (key 5e6f7a8b)", "research"),
)
Audit = Callable[..., list[dict[str, Any]]]


def answer(identifier: str, hour: int, subject_id: int | None = None, task: str = "mortality") -> Prediction:
    return Prediction(
        identifier, datetime(2026, 11, 27, hour), task, f"{DATASET}-{task}", 3, 0.123456, np.array([67.125]),
        subject_id=subject_id,
    )  # fmt: skip


@pytest.fixture
def audit(
    settings: Settings, promote: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Audit:
    """A home in which two asked: the first answers are in the lake, the others still in a server's file."""
    home = settings
    promote("mortality")
    subjects = pa.table(
        {"source_subject": ["MRN-77", "MRN-78"], "subject_id": [7, 8]}, schema=SUBJECTS.arrow_schema()
    )
    commits.append(home, SUBJECTS.name, subjects, DATASET, "made", 1)
    log = PredictionLog(home, DATASET)
    both = [answer("a", 8, 7), answer("a", 8, 7, "readmission")]
    asyncio.run(log.append(both, WARD))
    log.flush()
    asyncio.run(log.append([answer("b", 9, 8)], RESEARCH))
    asyncio.run(log.append([answer("c", 10)], WARD))
    for name, value in environment(home).items():
        monkeypatch.setenv(name, value)

    def run(*words: str) -> list[dict[str, Any]]:
        assert main.main(["audit", "--dataset", DATASET, "--json", *words]) == 0
        return [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    return run


def test_each_request_and_each_decision_stands_there_once_with_who_and_why(audit: Audit) -> None:
    moved, first, second, third = audit()
    assert (moved["kind"], moved["reference"]) == ("move", "entry 1")
    assert first["what"] == "synthetic-mortality/3, synthetic-readmission/3"
    assert [(e["by"], e["purpose"], e["subject_id"], e["reference"]) for e in (first, second, third)] == [
        (*WARD, 7, "a"), (*RESEARCH, 8, "b"), (*WARD, None, "c"),
    ]  # fmt: skip


def test_a_shadow_s_answer_is_marked_for_nobody_was_told_it(audit: Audit, settings: Settings) -> None:
    log = PredictionLog(settings, DATASET)
    shadow = replace(answer("d", 11), model_version=4, arm="shadow")
    asyncio.run(log.append([replace(answer("d", 11), arm="control"), shadow], WARD))
    log.close()
    assert audit()[-1]["what"] == "synthetic-mortality/3, synthetic-mortality/4 (shadow)"


def test_a_log_that_an_older_release_began_has_no_arms(audit: Audit, settings: Settings) -> None:
    ref = lake.latest(settings, DATASET, "predictions")
    older = lake.read(settings, ref).drop_columns(["arm"])
    write_deltalake(
        settings.table_uri(DATASET, "predictions"), older, mode="overwrite", schema_mode="overwrite"
    )
    assert audit()[1]["what"] == "synthetic-mortality/3, synthetic-readmission/3"


def test_a_patient_is_named_by_the_hospital_s_number_and_not_repeated(
    audit: Audit, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert [event["reference"] for event in audit("--patient", "MRN-78")] == ["b"]
    monkeypatch.setattr("sys.stdin", io.StringIO("MRN-77\n"))
    assert [event["reference"] for event in audit("--patient", "-")] == ["a"]
    assert main.main(["audit", "--dataset", DATASET, "--patient", "MRN-79"]) == 7
    assert main.main(["audit", "--dataset", DATASET, "--patient", "MRN-77"]) == 0
    printed = capsys.readouterr()
    assert "MRN" not in printed.out + printed.err
    assert (
        "dr.who (key 1a2b3c4d)  prediction: synthetic-mortality/3, synthetic-readmission/3  about patient 7"
        in printed.out
    )
    assert "1 prediction, 0 decisions" in printed.out


def test_since_and_by_narrow_it(audit: Audit, capsys: pytest.CaptureFixture[str]) -> None:
    assert [event["reference"] for event in audit("--since", "2026-11-27T09:00")] == ["b", "c"]
    assert [event["reference"] for event in audit("--since", "2026-11-27T11:00+01:00")] == ["c"]
    assert [event["reference"] for event in audit("--by", "1A2B3C4D")] == ["a", "c"]
    assert main.main(["audit", "--dataset", DATASET, "--since", "yesterday"]) == 2
    assert "write it as 2026-11-01" in capsys.readouterr().err
    assert main.main(["audit", "--dataset", "nobody-s"]) == 7
    assert "the lake's datasets are: synthetic" in capsys.readouterr().err


def test_an_answer_that_moves_to_the_lake_while_it_is_read_stands_there_once(
    audit: Audit, monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    from serving.log import log_file, prediction_log

    real = log_file.oldest

    def then_flushed(path: Path, limit: int) -> Any:
        rows = real(path, limit)
        monkeypatch.setattr(log_file, "oldest", real)
        prediction_log._flush(  # what the server that has the file does meanwhile
            settings, DATASET, path, nullcontext(), lambda _: None
        )
        return rows

    monkeypatch.setattr(log_file, "oldest", then_flushed)
    assert [event["reference"] for event in audit()][1:] == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("command", "code", "said"),
    [
        (["audit", "--dataset", "sythetic"], 7, "There is no dataset sythetic"),
        (["runs", "--dataset", "sythetic"], 0, "No run of sythetic"),
        (["run", "--dataset", ""], 2, "choose another --dataset"),
    ],
)
def test_a_name_with_a_slip_in_it_is_not_answered_with_nothing(
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: list[str],
    code: int,
    said: str,
) -> None:
    """Of a dataset that is not there, "0 predictions" reads like an answer."""
    monkeypatch.setenv("MEDISCALE_HOME", str(settings.home))
    assert main.main(command) == code
    assert said in "".join(capsys.readouterr())
