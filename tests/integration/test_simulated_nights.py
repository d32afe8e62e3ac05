"""Two nights of a small made-up hospital on real Spark, MLflow and the real server, and the same command again."""

from pathlib import Path

import pytest

from mediscale.core.settings import Settings
from mediscale.simulation import nights
from mediscale.simulation.nights import Hospital
from mediscale.storage import lake, registry

pytestmark = pytest.mark.timeout(3000)


@pytest.mark.usefixtures("spark")
def test_nights_are_lived_once(
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(nights.HOSPITALS, "tiny", Hospital(patients=300, window=2))
    assert nights.run(settings, 2, "tiny") == 0
    told = capsys.readouterr().out
    rows = [line for line in told.splitlines() if "2022-03" in line and " events " in line]
    assert [row.split()[:2] for row in rows] == [["1", "2022-03-18"], ["2", "2022-03-19"]]
    assert "v1 staged, production refused" in rows[0]
    assert "too few" in rows[1]
    done = records(settings)
    answers = lake.read(settings, lake.latest(settings, "simulated-tiny", "predictions")).to_pylist()
    assert len({(row["subject_id"], row["prediction_time"]) for row in answers}) == len(answers) > 0
    for row in answers:
        assert nights.night(0) < row["prediction_time"] < row["predicted_at"]
    assert nights.run(settings, 2, "tiny") == 0
    assert capsys.readouterr().out == told
    assert records(settings) == done
    assert len(registry.history(settings, "simulated-tiny")) == 1


def records(settings: Settings) -> set[Path]:
    return set(Path(settings.lake, "_calls").rglob("*.json"))
