"""The Feast repository of a task: its definitions, and the times of its rows. Feast itself reads it in make interop."""

import ast
from datetime import datetime
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from data_pipeline import feast_repository
from data_pipeline.features import gold, kernel
from mediscale.core import caller
from mediscale.core.errors import NotFoundError
from mediscale.core.refs import TableRef
from mediscale.core.settings import Settings

AT = datetime(2150, 1, 2, 10)


def test_the_view_has_every_feature_and_a_row_is_created_when_it_is_true(tmp_path: Path) -> None:
    schema = gold.feature_schema("mortality")
    row = {"subject_id": 1, "stay_id": 11, "admission_time": datetime(2150, 1, 1, 10), "prediction_time": AT}
    rows = pa.Table.from_pylist([row], schema=schema)
    features = TableRef(dataset="d", table="features_mortality", version=0, table_id="id")
    feast_repository.write_repository(rows, features, "mortality", tmp_path / "feast")
    definitions = ast.parse((tmp_path / "feast" / "features_mortality.py").read_text())
    calls = [node for node in ast.walk(definitions) if isinstance(node, ast.Call)]
    fields = [
        word.value.value
        for call in calls
        if isinstance(call.func, ast.Name) and call.func.id == "Field"
        for word in call.keywords
        if word.arg == "name" and isinstance(word.value, ast.Constant)
    ]
    assert tuple(fields) == tuple(kernel.names("mortality"))
    written = parquet.read_table(tmp_path / "feast" / "features_mortality.parquet")
    assert written.column_names == ["subject_id", "stay_id", "prediction_time", *fields, "known_time"]
    for time in ("prediction_time", "known_time"):
        assert [at.replace(tzinfo=None) for at in written[time].to_pylist()] == [AT]


def test_features_that_were_not_computed_are_named(settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no features of d for mortality; run `mediscale run` first"):
        feast_repository.write(
            settings, "d", "mortality", tmp_path / "feast", by=caller.account(), purpose="research"
        )
    assert not (tmp_path / "feast").exists()
