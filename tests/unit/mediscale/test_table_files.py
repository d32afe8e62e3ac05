"""Whole tables by files that are written first and committed once."""

from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable
from pyarrow import parquet

from mediscale.core.settings import Settings
from mediscale.core.tables import EVENTS, SUBJECTS
from mediscale.storage import lake, table_files

SUBJECT = SUBJECTS.arrow_schema()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "a home")


def rows(*numbers: int) -> list[pa.RecordBatch]:
    names = pa.array([f"p{number}" for number in numbers])
    return [pa.RecordBatch.from_arrays([names, pa.array(numbers, pa.int64())], schema=SUBJECT)]


def test_a_commit_replaces_the_rows_and_keeps_the_table(settings: Settings) -> None:
    first = table_files.write(settings, "icu", "subjects", "one", rows(1, 2), {"shards": 8})
    second = table_files.write(settings, "icu", "subjects", "two", rows(3), {"shards": 4})
    assert (first.version, second.version, first.table_id) == (0, 1, second.table_id)
    assert lake.read(settings, second)["subject_id"].to_pylist() == [3]
    assert sorted(lake.read(settings, first)["subject_id"].to_pylist()) == [1, 2], "an older version stays"
    assert [lake.fact(settings, ref, "shards") for ref in (first, second)] == [8, 4]
    assert lake.find_commit(settings, "icu", "subjects", "one") == first
    properties = DeltaTable(settings.table_uri("icu", "subjects")).metadata().configuration
    assert properties["delta.logRetentionDuration"] == "interval 36500 days"


def test_a_key_is_committed_once_and_what_was_written_again_is_deleted(settings: Settings) -> None:
    first = table_files.write(settings, "icu", "subjects", "one", rows(1))
    file = table_files.write_file(settings, "icu", "subjects", rows(2), SUBJECT)
    again = table_files.commit(settings, "icu", "subjects", "one", [file], SUBJECT)
    assert again == first
    assert len(list(Path(settings.table_uri("icu", "subjects")).glob("*.parquet"))) == 1


def test_a_table_may_get_other_columns(settings: Settings) -> None:
    for key, column in (("one", "flag"), ("two", "flag_2")):
        schema = pa.schema([("file", pa.string()), ("line", pa.int64()), (column, pa.string())])
        batch = pa.RecordBatch.from_pydict({"file": ["a.csv"], "line": [2], column: ["x"]}, schema)
        file = table_files.write_file(settings, "icu", "bronze_omr", [batch], schema)
        ref = table_files.commit(settings, "icu", "bronze_omr", key, [file], schema)
    assert lake.read(settings, ref).to_pylist() == [{"file": "a.csv", "line": 2, "flag_2": "x"}]


def test_each_value_of_a_partition_has_a_file_and_is_in_its_path_alone(settings: Settings) -> None:
    schema = pa.schema([field for field in EVENTS.arrow_schema() if field.name != "shard"])
    batches = [
        (subject % 2, pa.RecordBatch.from_pylist([{"subject_id": subject, "code": "X"}], schema))
        for subject in (3, 8, 9)
    ]
    files = table_files.write_partitions(settings, "icu", "events", batches, schema, "shard")
    ref = table_files.commit(settings, "icu", "events", "one", files, EVENTS.arrow_schema())
    even, odd = (f"{settings.table_uri('icu', 'events')}/{file.path}" for file in files)
    assert lake.files(settings, ref, ("shard", "0")) == [even]
    assert lake.files(settings, ref, ("shard", "1")) == [odd]
    rows = lake.read(settings, ref, ["shard", "subject_id"]).to_pylist()
    assert sorted(tuple(row.values()) for row in rows) == [(0, 8), (1, 3), (1, 9)]


def test_texts_that_come_as_dictionaries_are_a_text_column_and_other_types_are_refused(
    settings: Settings,
) -> None:
    schema = pa.schema([("file", pa.string()), ("line", pa.int64())])
    encoded = [
        pa.RecordBatch.from_pydict({"file": pa.array([name]).dictionary_encode(), "line": [2]})
        for name in ("a.csv", "b.csv")
    ]
    file = table_files.write_file(settings, "icu", "bronze_omr", encoded, schema)
    written = parquet.read_table(f"{settings.table_uri('icu', 'bronze_omr')}/{file.path}")
    assert written.schema == schema
    assert written["file"].to_pylist() == ["a.csv", "b.csv"]
    other = pa.RecordBatch.from_pydict({"file": ["a.csv"], "line": [2.0]})
    with pytest.raises(TypeError, match="line: double"):
        table_files.write_file(settings, "icu", "bronze_omr", [other], schema)


def test_what_a_failed_writer_leaves_is_nothing(settings: Settings) -> None:
    def failing() -> object:
        yield from rows(1)
        raise ValueError("torn")

    with pytest.raises(ValueError, match="torn"):
        table_files.write_file(settings, "icu", "subjects", failing(), SUBJECT)  # type: ignore[arg-type]
    assert not Path(settings.lake).exists()


def test_only_values_that_recur_are_written_as_a_dictionary(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    rows = pa.RecordBatch.from_pydict(
        {"id": list(range(1000)), "word": ["a", "b"] * 500, "numbers": [[1.0, 2.0]] * 1000}
    )
    file = table_files.write_file(settings, "d", "t", [rows], rows.schema)
    path = f"{settings.table_uri('d', 't')}/{file.path}"
    group = parquet.ParquetFile(path).metadata.row_group(0)
    assert [group.column(n).has_dictionary_page for n in range(3)] == [False, True, True]
    assert parquet.read_table(path).equals(pa.Table.from_batches([rows]))
