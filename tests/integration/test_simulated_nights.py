"""Nights of a synthetic hospital by the command line, on real Spark, MLflow and the real server: a planted drift is
seen, decided about and retrained for; and the same command again does nothing twice."""

from pathlib import Path

import pytest

from data_pipeline.synthetic.analyser import READS_HIGH
from mediscale.cli import main
from mediscale.core.settings import Settings
from mediscale.simulation import nights
from mediscale.simulation.nights import Hospital
from mediscale.storage import calls, lake, registry

pytestmark = pytest.mark.timeout(3000)

DATASET = "simulated-tiny"
NIGHTS, PLANTED = 5, 2
COMMAND = ["simulate", "--nights", f"{NIGHTS}", "--size", "tiny"]


def test_a_planted_drift_is_seen_decided_about_and_retrained_for_once(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Some forty questions a night: a window of one night tells by then what 1.6 times the creatinine looks like."""
    monkeypatch.setenv("MEDISCALE_HOME", str(settings.home))
    monkeypatch.setitem(nights.HOSPITALS, "tiny", Hospital(patients=4_500, window=1))
    monkeypatch.setattr(nights, "PLANTED_NIGHT", PLANTED)
    assert main.main(COMMAND) == 0
    told = capsys.readouterr().out
    rows = [line for line in told.splitlines() if "2022-03" in line and " events " in line]
    assert [row.split()[:2] for row in rows] == [[f"{i + 1}", f"2022-03-{18 + i}"] for i in range(NIGHTS)]
    _follows_the_drift(settings, rows)
    _asks_once_and_in_time(settings)
    done, moves = records(settings), registry.history(settings, DATASET)
    assert main.main(COMMAND) == 0
    assert capsys.readouterr().out == told
    assert records(settings) == done
    assert registry.history(settings, DATASET) == moves


def _follows_the_drift(settings: Settings, rows: list[str]) -> None:
    """Quiet before the analyser reads high; then its readings are what drifted, and a new version answers."""
    windows = [call.result for call in calls.of_stage(settings, "drift")]
    quiet = [window for window in windows if window["end"] <= nights.night(PLANTED).isoformat()]
    assert quiet
    assert not any(window["drifted"] for window in quiet)
    drifted = {column["column"] for window in windows for column in window["drifted_columns"]}
    assert [column for column in drifted if column.startswith(tuple(READS_HIGH))]
    (first, *_) = (call for call in calls.of_stage(settings, "retrain_decision") if call.result["retrain"])
    trained = [call.run_id for call in calls.of_stage(settings, "risk_model")]
    assert trained[:2] == [f"{DATASET}-night-1", first.run_id]
    row = rows[int(first.run_id.rpartition("-")[2]) - 1]
    assert " drifted " in row
    assert " retrain " in row
    assert "v2; v2 " in row
    staged = [move.to_version for move in registry.history(settings, DATASET) if move.alias == "staging"]
    assert staged[:2] == [1, 2]


def _asks_once_and_in_time(settings: Settings) -> None:
    answers = lake.read(settings, lake.latest(settings, DATASET, "predictions")).to_pylist()
    assert {row["model_version"] for row in answers} >= {1, 2}
    assert len({(row["subject_id"], row["prediction_time"]) for row in answers}) == len(answers)
    for row in answers:
        assert nights.night(0) < row["prediction_time"] < row["predicted_at"]


def records(settings: Settings) -> set[Path]:
    return set(Path(settings.lake, "_records").rglob("*.json"))
