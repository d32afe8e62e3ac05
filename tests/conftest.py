"""Fixtures that more than one test folder uses."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from mediscale import tables
from mediscale.settings import Settings

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A home of its own for each test."""
    return Settings(home=tmp_path / "home")


@pytest.fixture(scope="session")
def spark(tmp_path_factory: pytest.TempPathFactory) -> "Iterator[SparkSession]":
    """The session that every stage of this run of the tests gets, whatever its home."""
    from mediscale import spark as lake_spark

    home = tmp_path_factory.mktemp("spark")
    session = lake_spark.session(Settings(home=home, spark_master="local[2]", spark_memory="1g"))
    yield session
    session.stop()
    lake_spark.session.cache_clear()


def _table(text: str, declaration: tables.Table = tables.EVENTS) -> pa.Table:
    header, *lines = [line for line in text.strip().splitlines() if line.strip()]
    names = [name.strip() for name in header.split("|")]
    rows = [[cell.strip() or None for cell in line.split("|")] for line in lines]
    columns = (
        dict(zip(names, map(list, zip(*rows, strict=True)), strict=True)) if rows else {n: [] for n in names}
    )
    schema = declaration.arrow_schema()
    return pa.table(
        {field.name: pa.array(columns.get(field.name, [None] * len(rows)), pa.string()) for field in schema}
    ).cast(schema)


@pytest.fixture
def table() -> Callable[..., pa.Table]:
    """``table("subject_id | time | code …", declaration)``: a table drawn as text; an empty cell is null, as is every
    declared column that is not drawn."""
    return _table


@pytest.fixture
def events() -> Callable[[str], pa.Table]:
    """A drawn events table in which what is not drawn is ordinary: known at once, each row an event of its own."""

    def draw(text: str) -> pa.Table:
        drawn = _table(text)
        n = drawn.num_rows
        usual: dict[str, Any] = {
            "available_time": drawn["time"],
            "event_id": pa.array(range(1000, 1000 + n), pa.int64()),
            "retracted": pa.array([False] * n, pa.bool_()),
            "source": pa.array(["test"] * n, pa.string()),
        }
        for name, value in usual.items():
            i = drawn.schema.get_field_index(name)
            drawn = drawn.set_column(i, drawn.schema.field(i), pc.coalesce(drawn[name], value))
        return drawn

    return draw
