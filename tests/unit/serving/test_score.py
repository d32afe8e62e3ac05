from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_pipeline import features
from mediscale import lake
from mediscale.errors import NotFoundError
from mediscale.settings import Settings
from serving.predictors import Predictors
from training import score


def write_features(settings: Settings, rows: np.ndarray) -> None:
    count = len(rows)
    keys = {
        "subject_id": pa.array(range(count, 0, -1), pa.int64()),
        "visit_id": pa.array(range(count), pa.int64()),
        "prediction_time": pa.array([datetime(2150, 1, 1)] * count, pa.timestamp("us")),
    }
    names = features.names("mortality")
    values = {n: pa.array(rows[:, i], mask=np.isnan(rows[:, i])) for i, n in enumerate(names)}
    lake.append(settings, "features_mortality", pa.table({**keys, **values}), "synthetic", "test", 1)


def test_every_visit_gets_the_servers_risk(settings: Settings, promote: Any, tmp_path: Path) -> None:
    chance = np.random.default_rng(5)
    rows = chance.normal(100, 40, size=(50, len(features.names("mortality")))).round(1)
    rows[chance.random(rows.shape) < 0.5] = np.nan
    write_features(settings, rows)
    promote("mortality", 2)
    output = tmp_path / "to" / "risks.parquet"
    assert score.write(settings, "synthetic", "mortality", "production", output) == 50
    served = Predictors(settings, "synthetic", "production")
    served.refresh()
    predictor = served.current["mortality"].predictor
    found = pq.read_table(output).to_pylist()
    assert [row["subject_id"] for row in found] == list(range(1, 51))
    assert {(row["model"], row["model_version"]) for row in found} == {("synthetic-mortality", 2)}
    assert [row["risk"] for row in found] == [predictor.score(row).risk for row in rows[::-1]]
    assert [path.name for path in output.parent.iterdir()] == ["risks.parquet"]


def test_what_is_missing_is_said_before_spark_starts(
    settings: Settings, promote: Any, tmp_path: Path
) -> None:
    output = tmp_path / "risks.parquet"
    with pytest.raises(NotFoundError, match="synthetic-mortality has no version as production"):
        score.write(settings, "synthetic", "mortality", "production", output)
    promote("mortality")
    with pytest.raises(NotFoundError, match="no table synthetic/features_mortality"):
        score.write(settings, "synthetic", "mortality", "production", output)
    assert not output.exists()
