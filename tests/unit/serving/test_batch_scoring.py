"""A cohort scored on one machine, without a JVM: the server's risks, to a Parquet file and to a Delta table."""

import hashlib
import json
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xgboost
from deltalake import DeltaTable

from data_pipeline.features import kernel
from mediscale.core.errors import StorageError, UsageError
from mediscale.core.settings import Settings
from mediscale.inference import tabular
from mediscale.storage import calls, commits, history, lake, registry, spark
from mediscale.storage.history_entries import Export
from serving import batch_scoring
from serving.log.logged_answers import Requester
from serving.risk import responses
from serving.risk.patient_records import PatientRecord
from serving.risk.served import ServedVersion, ServedVersions

NAMES = kernel.names("mortality")
REQUESTER = Requester("tests", "research")
ROWS = 300
RANGES = {"creatinine": [50.0, 150.0], "heart_rate": [20.0, 190.0]}


@pytest.fixture
def rows(
    settings: Settings,
    promote: Callable[..., Any],
    trained: dict[tuple[str, int], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> np.ndarray[Any, Any]:
    """Features of a cohort in two files, of which every third row has few, and a promoted version that knows usual
    ranges."""
    monkeypatch.setattr(spark, "session", lambda *_: pytest.fail("a JVM was started"))
    folder = tmp_path / "model"
    shutil.copytree(trained["mortality", 1], folder)
    spec = json.loads((folder / "predictor.json").read_text())
    (folder / "predictor.json").write_text(json.dumps(spec | {"usual_ranges": RANGES}))
    promote("mortality", folder=folder)
    chance = np.random.default_rng(5)
    values = chance.normal(100, 40, size=(ROWS, len(NAMES))).round(1)
    values[chance.random(values.shape) < 0.5] = np.nan
    values[::3, : len(NAMES) // 2] = np.nan
    for number, part in enumerate((slice(0, 200), slice(200, ROWS)), start=1):
        stays = np.arange(ROWS, 0, -1)[part]
        moment = pa.array([datetime(2150, 1, 1)] * len(stays), pa.timestamp("us"))
        keys = {"subject_id": stays, "stay_id": stays, "admission_time": moment, "prediction_time": moment}
        features = {name: values[part, i] for i, name in enumerate(NAMES)}
        commits.append(
            settings, "features_mortality", pa.table({**keys, **features}), "synthetic", "test", number
        )
    result = {"features": lake.latest(settings, "synthetic", "features_mortality").model_dump()}
    calls.write(
        settings,
        calls.Call(
            stage="gold", key="k", run_id="r", params={"dataset": "synthetic", "task": "mortality"}, code="", lock="",
            result=result, inputs=(), produced=(), outputs=(), started_at=datetime.now(UTC), seconds=1,
        ),
    )  # fmt: skip
    return values


def score(settings: Settings, output: Path, **given: Any) -> int:
    return batch_scoring.write(settings, "synthetic", "mortality", "production", output, REQUESTER, **given)


def digests(settings: Settings) -> list[str]:
    return [body.digest for _, body in history.bodies(history.entries(settings, "synthetic"), Export)]


def test_each_risk_is_the_servers_and_as_certain_as_it_says(
    settings: Settings, rows: np.ndarray[Any, Any], tmp_path: Path
) -> None:
    move = registry.current(settings, "synthetic", "mortality", "production")
    assert move is not None
    version = ServedVersion(tabular.load(settings, move.version, "mortality"), move.moved_at)
    score(settings, tmp_path / "risks.parquet")
    columns = ["risk", "uncertain", "missing", "unusual_values", "without_usual_range"]
    written = pq.read_table(tmp_path / "risks.parquet", columns=columns).to_pylist()
    now, seen, unranged = datetime(2150, 1, 1), set(), set[str]()
    for row, batch in zip(rows[::-1], written, strict=True):
        record = PatientRecord(1, now, 1, "asked", {"mortality": row}, {})
        served = ServedVersions({"mortality": version})
        answer, _ = responses.of_patient(record, served, "p", now, lambda *_: pytest.fail("no answer"))
        [risk] = answer.predictions
        unusual = [value.input for value in risk.unusual_values]
        assert batch["risk"] == pytest.approx(risk.risk, abs=1e-6)
        assert (batch["uncertain"], sorted(batch["unusual_values"])) == (risk.uncertain, sorted(unusual))
        assert tuple(batch["missing"]) == answer.missing
        assert sorted(batch["without_usual_range"]) == sorted(risk.without_usual_range)
        assert RANGES.keys().isdisjoint(risk.without_usual_range)
        seen.add((risk.uncertain, bool(unusual)))
        unranged |= set(risk.without_usual_range)
    assert seen == {(False, False), (True, True), (True, False)}
    assert unranged == {*version.predictor.spec.plain_inputs} - {*RANGES, "sex"}


def test_a_delta_table_holds_the_same_and_replaces_nothing(
    settings: Settings, rows: np.ndarray[Any, Any], tmp_path: Path
) -> None:
    assert len(rows) == score(settings, tmp_path / "risks.parquet")
    folder = tmp_path / "risks"
    assert score(settings, folder, file_format="delta") == ROWS
    table = DeltaTable(str(folder)).to_pyarrow_table().sort_by("subject_id")
    assert table.to_pylist() == pq.read_table(tmp_path / "risks.parquet").to_pylist()
    (file,) = folder.glob("*.parquet")
    assert digests(settings)[1] == hashlib.sha256(file.read_bytes()).hexdigest()
    with pytest.raises(UsageError, match="is a folder; name a file in it"):
        score(settings, folder)
    with pytest.raises(StorageError, match="is there already"):
        score(settings, folder, file_format="delta")
    assert len(digests(settings)) == 2


def test_nothing_is_scored_where_xgboost_does_not_answer_as_the_server_does(
    settings: Settings, rows: np.ndarray[Any, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert len(rows) == ROWS
    predict = xgboost.Booster.inplace_predict
    shifted = lambda self, *given, **how: predict(self, *given, **how) + 1e-4  # noqa: E731
    monkeypatch.setattr(xgboost.Booster, "inplace_predict", shifted)
    with pytest.raises(StorageError, match="XGBoost does not answer as"):
        score(settings, tmp_path / "risks.parquet")
    assert list(tmp_path.glob("*.parquet")) == []
    assert digests(settings) == []
