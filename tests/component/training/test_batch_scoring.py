"""A cohort's risks are those that the server answers with, notes included."""

import hashlib
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_pipeline.features import kernel
from mediscale.cli import main
from mediscale.core.errors import NotFoundError
from mediscale.core.settings import Settings
from mediscale.core.tables import NOTE_TOKENS
from mediscale.inference import model_files, model_signature, tabular
from mediscale.storage import calls, commits, history, lake, registry
from mediscale.storage import spark as sessions
from mediscale.storage.history_entries import Export
from serving import batch_scoring
from serving.log.logged_answers import Requester

Promote = Callable[[Path], registry.Move]
REQUESTER = Requester("tests", "research")


@pytest.fixture
def settings(world: Any) -> Settings:
    return world.settings


@pytest.fixture
def trained(world: Any) -> Path:
    """Folder of a version."""
    return world.settings.home / world.model.uri


@pytest.fixture
def promote(world: Any) -> Promote:
    """Puts a folder's version into production."""

    def move(folder: Path) -> registry.Move:
        entry = registry.Move(
            sequence=1,
            model=world.model.name,
            task="mortality",
            alias="production",
            from_version=None,
            to_version=world.model.version,
            actor="test",
            moved_at=datetime(2026, 11, 22, 8),
            reason="It is better.",
            evidence_digest="",
            model_uri=str(folder),
            model_digest=model_files.digest(folder),
            key="move",
        )
        model_signature.sign(world.settings, entry.version, entry.evidence_digest)
        return registry.record(world.settings, "synthetic", entry)

    return move


def write_features(settings: Settings, rows: np.ndarray) -> None:
    count = len(rows)
    keys = {
        "subject_id": pa.array(range(count, 0, -1), pa.int64()),
        "stay_id": pa.array(range(count), pa.int64()),
        "admission_time": pa.array([datetime(2149, 12, 31)] * count, pa.timestamp("us")),
        "prediction_time": pa.array([datetime(2150, 1, 1)] * count, pa.timestamp("us")),
    }
    names = kernel.names("mortality")
    values = {n: pa.array(rows[:, i], mask=np.isnan(rows[:, i])) for i, n in enumerate(names)}
    commits.append(settings, "features_mortality", pa.table({**keys, **values}), "synthetic", "test", 1)
    features_made(settings, "newest", None)


def features_made(settings: Settings, key: str, as_of: str | None) -> None:
    """The record of a gold call whose table is there, or is said to be."""
    ref = {"dataset": "synthetic", "table_id": key, "version": 1}
    if key == "newest":
        ref = lake.latest(settings, "synthetic", "features_mortality").model_dump()
    calls.write(
        settings,
        calls.Call(
            run_id="run",
            inputs=(),
            produced=(),
            stage="gold",
            key=key,
            params={"dataset": "synthetic", "task": "mortality", "as_of": as_of},
            code="",
            lock="",
            result={"features": {"table": "features_mortality", **ref}},
            outputs=(),
            started_at=datetime.now(UTC),
            seconds=1,
        ),
    )


def test_every_stay_gets_the_servers_risk(
    settings: Settings,
    promote: Promote,
    trained: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """By the command that a person types."""
    chance = np.random.default_rng(5)
    rows = chance.normal(100, 40, size=(50, len(kernel.names("mortality")))).round(1)
    rows[chance.random(rows.shape) < 0.5] = np.nan
    write_features(settings, rows)
    features_made(settings, "backfilled", "2020-01-01T01:00:00")  # a night of the past, done after the newest
    move = promote(trained)
    predictor = tabular.load(settings, move.version, move.task)
    output = tmp_path / "to" / "risks.parquet"
    monkeypatch.setenv("MEDISCALE_HOME", str(settings.home))
    words = ["score", "--dataset", "synthetic", "--task", "mortality", "--output", str(output)]
    assert main.main(words) == 0
    assert capsys.readouterr().out.startswith(f"50 risks written to {output}. It holds patient data")
    found = pq.read_table(output).to_pylist()
    assert [row["subject_id"] for row in found] == list(range(1, 51))
    assert {(row["model"], row["model_version"]) for row in found} == {("synthetic-mortality", 1)}
    expected = [predictor.score(row).risk for row in rows[::-1]]
    # summed by XGBoost, in float32
    assert [row["risk"] for row in found] == pytest.approx(expected, abs=1e-6)
    assert [path.name for path in output.parent.iterdir()] == ["risks.parquet"]
    (*_, exported) = history.bodies(history.entries(settings, "synthetic"), Export)
    by = exported[0].actor
    assert {(row["asked_by"], row["purpose"]) for row in found} == {(by, "operations")}
    assert exported[1].digest == hashlib.sha256(output.read_bytes()).hexdigest()
    assert (exported[1].what, exported[1].rows) == ("risks by synthetic-mortality v1", 50)


def test_notes_count_where_they_were_known(
    settings: Settings, promote: Promote, trained: Path, add_notes: Callable[[Path], None], tmp_path: Path
) -> None:
    notes = [
        {"note_id": subject, "subject_id": subject, "time": time, "available_time": time, "note_type": "x",
         "tokenizer": "t" * 64, "tokens": [5, 11]}
        for subject, time in ((1, datetime(2149, 12, 31, 9)), (2, datetime(2150, 1, 1, 0, 1)))
    ]  # fmt: skip
    tokens = pa.Table.from_pylist(notes, schema=NOTE_TOKENS.arrow_schema())
    commits.append(settings, "note_tokens", tokens, "synthetic", "test", 1)
    write_features(settings, np.full((3, len(kernel.names("mortality"))), np.nan))
    reading = settings.home / "artifacts" / "reads"
    shutil.copytree(trained, reading)
    add_notes(reading)
    move = promote(reading)
    predictor = tabular.load(settings, move.version, move.task)
    output = tmp_path / "risks.parquet"
    assert batch_scoring.write(settings, "synthetic", "mortality", "production", output, REQUESTER) == 3
    reviewed = pq.read_table(output, columns=["notice", "needs_clinician_review"]).to_pylist()
    assert all(row["needs_clinician_review"] and "judgement" in row["notice"] for row in reviewed)
    risks = {row["subject_id"]: row["risk"] for row in pq.read_table(output).to_pylist()}
    nothing = np.full(len(kernel.names("mortality")), np.nan)
    assert risks[2] == risks[3] == predictor.score(nothing).risk
    assert predictor.reader is not None
    [margin] = predictor.reader.margins([[np.array([5, 11], dtype=np.int32)]])
    assert risks[1] == pytest.approx(predictor.score(nothing, margin).risk)
    assert risks[1] != risks[2]


def test_what_is_missing_is_said_before_spark_starts(
    settings: Settings, promote: Promote, trained: Path, tmp_path: Path
) -> None:
    output = tmp_path / "risks.parquet"
    with pytest.raises(NotFoundError, match="synthetic-mortality has no version as production"):
        batch_scoring.write(settings, "synthetic", "mortality", "production", output, REQUESTER)
    promote(trained)
    with pytest.raises(NotFoundError, match="synthetic has no features for mortality yet"):
        batch_scoring.write(settings, "synthetic", "mortality", "production", output, REQUESTER)
    assert not output.exists()


def test_spark_s_tasks_score_the_files_of_a_cluster_s_lake(
    settings: Settings,
    promote: Promote,
    trained: Path,
    tmp_path: Path,
    spark: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where the master is a cluster the files are dealt to Spark's tasks, here those of this machine's session."""
    write_features(settings, np.random.default_rng(5).normal(100, 40, (50, len(kernel.names("mortality")))))
    promote(trained)
    here, there = tmp_path / "here.parquet", tmp_path / "there.parquet"
    assert batch_scoring.write(settings, "synthetic", "mortality", "production", here, REQUESTER) == 50
    monkeypatch.setattr(sessions, "session", lambda _: spark)
    cluster = settings.model_copy(update={"spark_master": "spark://a-cluster:7077"})
    assert batch_scoring.write(cluster, "synthetic", "mortality", "production", there, REQUESTER) == 50
    assert pq.read_table(there).equals(pq.read_table(here))
