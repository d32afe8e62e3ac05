"""Rows of bronze in declared types, and what is said of a whole row."""

from datetime import datetime, timedelta

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_pipeline.ingest import source
from data_pipeline.ingest.extract_parts import column_names
from data_pipeline.ingest.source_tables import Csv
from data_pipeline.ingest.typed_tables import sql_types, type_rows
from mediscale.core.tables import BRONZE

III, IV = source.load("mimic-iii"), source.load("mimic-iv")
MOMENTS = st.datetimes(datetime(1800, 1, 1), datetime(2300, 1, 1)).map(lambda t: t.replace(microsecond=0))


def rows(loaded: source.Source, table: str, **columns: str | None) -> dict[str, object]:
    """One typed row of a table, of which the columns that are not given are empty."""
    declared = loaded.tables[table]
    texts = {name: pa.array([columns.get(name)], pa.string()) for name in declared.columns}
    place = {"file": pa.array(["a.csv"]), "line": pa.array([2], pa.int64())}
    typed = type_rows(loaded, declared, pa.RecordBatch.from_pydict(texts | place))
    assert typed.schema.names == list(sql_types(declared))
    (row,) = typed.to_pylist()
    return dict(row)


def test_every_table_of_every_source_can_be_typed_without_a_value() -> None:
    for loaded in (III, IV):
        for name in loaded.tables:
            row = rows(loaded, name)
            assert (row["untimely"], row["interval_inverted"], row["miscoded"]) == (False, False, False)


def test_where_a_comma_stands_before_fractions_a_point_makes_no_number() -> None:
    german = IV.model_copy(update={"csv": Csv(delimiter=";", decimal=",")})
    row = rows(german, "labevents", value="<0,5", valuenum="1,25")
    assert (row["value"], row["value_number"], row["value_bound"]) == ("<0,5", 0.5, "<")
    assert (row["valuenum"], row["raw_valuenum"]) == (1.25, "1,25")
    assert rows(german, "labevents", valuenum="1.250")["valuenum"] is None, "a thousand, or one and a quarter"
    assert rows(IV, "labevents", valuenum="1,25")["valuenum"] is None


@pytest.mark.parametrize("text", ["-999", "-999.0", "-9.99E2", " -999.00 ", "n.d."])
def test_a_sentinel_is_nothing_however_its_number_is_written(text: str) -> None:
    table = IV.tables["labevents"]
    sentinels = dict.fromkeys(("value", "valuenum"), ("-999", "n.d."))
    sentinel = IV.model_copy(
        update={"tables": {"labevents": table.model_copy(update={"sentinels": sentinels})}}
    )
    row = rows(sentinel, "labevents", value=text, valuenum=text)
    assert [row[name] for name in ("value", "value_number", "valuenum", "raw_valuenum")] == [None] * 4
    row = rows(sentinel, "labevents", value="-99.9", valuenum="unclear")
    assert (row["value_number"], row["valuenum"], row["raw_valuenum"]) == (-99.9, None, "unclear")


def test_a_sentinel_is_written_with_the_comma_of_its_file() -> None:
    table = IV.tables["labevents"].model_copy(update={"sentinels": {"valuenum": ("-9,9",)}})
    german = IV.model_copy(update={"tables": {"labevents": table}, "csv": Csv(delimiter=";", decimal=",")})
    assert rows(german, "labevents", valuenum="-9,90")["raw_valuenum"] is None
    assert rows(german, "labevents", valuenum="-9,91")["valuenum"] == -9.91


@pytest.mark.parametrize("distinct", [3, 5_000, 20_000])
def test_a_text_is_typed_alike_whether_it_recurs_at_once_later_or_never(distinct: int) -> None:
    declared, n = IV.tables["labevents"], 20_000
    numbers = [*range(min(distinct, n)), *(row % distinct for row in range(n - distinct))]
    texts = {name: pa.array([f"{number}.0" for number in numbers]) for name in declared.columns}
    place = {"file": pa.repeat("a.csv", n), "line": pa.array(range(n))}
    dictionaries = {name: column.dictionary_encode() for name, column in texts.items()}
    plain, encoded = (
        type_rows(IV, declared, pa.RecordBatch.from_pydict(columns | place))
        for columns in (texts, dictionaries)
    )
    assert plain.to_pydict() == encoded.to_pydict()
    assert plain["valuenum"].to_pylist() == numbers
    assert plain["labevent_id"].to_pylist() == list(map(str, numbers))


INTERVALS = [
    (loaded, name, start, end)
    for loaded in (III, IV)
    for name, table in loaded.tables.items()
    for start, end in table.intervals.items()
]


@given(st.sampled_from(INTERVALS), MOMENTS, st.integers(-100_000, 100_000))
def test_a_row_that_ends_before_it_begins_is_marked_and_no_other(
    interval: tuple[source.Source, str, str, str], start: datetime, seconds: int
) -> None:
    loaded, name, first, last = interval
    row = rows(loaded, name, **{first: str(start), last: str(start + timedelta(seconds=seconds))})
    assert row["interval_inverted"] == (seconds < 0)
    assert not rows(loaded, name, **{first: str(start)})["interval_inverted"], "it lasts"


TIMES = [
    (loaded, name, column)
    for loaded in (III, IV)
    for name, table in loaded.tables.items()
    for column, kind in table.columns.items()
    if kind in ("date", "timestamp")
]


@given(st.sampled_from(TIMES), MOMENTS, st.integers(1, 18))
def test_a_time_of_which_a_part_is_missing_marks_its_row(
    where: tuple[source.Source, str, str], moment: datetime, missing: int
) -> None:
    loaded, name, column = where
    kind, text = loaded.tables[name].columns[column], str(moment)[:-missing]
    whole = (10, 16) if kind == "date" else (16,)
    assert rows(loaded, name, **{column: text})["untimely"] == (len(text.strip()) not in whole)
    assert not rows(loaded, name, **{column: "NULL"})["untimely"]


@given(
    st.sampled_from(["diagnoses_icd", "procedures_icd"]),
    st.text(max_size=6),
    st.sampled_from(["9", "10", "8", "1"]),
)
def test_a_code_has_a_spelling_or_marks_its_row(table: str, code: str, version: str) -> None:
    row = rows(IV, table, icd_code=code, icd_version=version)
    assert row["miscoded"] == (row["icd_code"] is not None and row["icd"] is None)
    assert row["icd"] is None or version in ("9", "10")


@given(
    st.lists(
        st.text(" ab(),;{}=.`\t\n", max_size=4) | st.sampled_from(["file", "line", "a", "hadm_id"]),
        max_size=8,
    )
)
def test_every_header_has_names_that_a_table_can_have(header: list[str]) -> None:
    written = [name for i, name in enumerate(header) if name != "hadm_id" or name not in header[:i]]
    names = column_names(written, {"hadm_id"})
    assert len(names) == len(set(names)) == len(written)
    assert not {*names} & {*BRONZE.column_names}
    assert not any(character in name for name in names for character in " (),;{}=.`\t\n")
    assert all(name == "hadm_id" for name, before in zip(names, written, strict=True) if before == "hadm_id")
