"""Records of files as texts, whatever their format, delimiter and encoding."""

import gzip
import tracemalloc
from datetime import datetime
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from data_pipeline.ingest import readers
from data_pipeline.ingest.source_tables import Csv
from mediscale.core.errors import InputError

COMMA = Csv()


def rows(path: Path, written: Csv = COMMA) -> list[dict[str, str | None]]:
    names = readers.header(path, written, Path(path.name))
    batches = readers.records(path, names, names, written, Path(path.name))
    return [row for batch in batches for row in batch.to_pylist()]


def test_a_text_file_has_its_own_delimiter_quote_and_encoding(tmp_path: Path) -> None:
    written = Csv(delimiter=";", quote="'", encoding="latin-1")
    file = tmp_path / "labs.csv.gz"
    file.write_bytes(gzip.compress("Größe;Wert\n'1;5';\n'it''s';ü\n".encode("latin-1")))
    assert rows(file, written) == [{"größe": "1;5", "wert": None}, {"größe": "it's", "wert": "ü"}]


def test_a_file_without_quotes_has_them_in_its_texts(tmp_path: Path) -> None:
    file = tmp_path / "notes.psv"
    file.write_text('id|text\n1|"stable" since May\n2|5" scar\n')
    assert [row["text"] for row in rows(file, Csv(delimiter="|", quote=""))] == [
        '"stable" since May',
        '5" scar',
    ]


def test_a_quoted_nothing_is_an_empty_text_and_an_unquoted_one_is_null(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text('a,b,c\n"",, x \n"two\r\nlines",2,3\n')
    assert rows(file) == [{"a": "", "b": None, "c": " x "}, {"a": "two\nlines", "b": "2", "c": "3"}]


def test_bytes_of_another_encoding_mar_their_value_alone(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_bytes(b"\xef\xbb\xbfname,n\nAndr\xe9,1\nRen\xc3\xa9e,2\n")
    assert rows(file) == [{"name": "Andr\ufffd", "n": "1"}, {"name": "Renée", "n": "2"}]


@pytest.mark.parametrize(("line", "fields"), [("1,2,3", 3), ("1", 1)])
def test_a_record_with_other_fields_than_the_header_is_refused_with_its_line_and_without_its_values(
    tmp_path: Path, line: str, fields: int
) -> None:
    file = tmp_path / "a.csv"
    file.write_text(f"a,b\n7,8\n7,8\n{line}\n")
    with pytest.raises(
        InputError, match=rf"record 4 \(the header being 1\) has {fields} fields and the header 2"
    ):
        rows(file)


def test_a_header_may_have_line_breaks_between_quotes(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text('"result\nin mg",b\n1,2\n')
    assert rows(file) == [{"result in mg": "1", "b": "2"}]


@pytest.mark.parametrize("above", ["", "\n\r\n", ",,\n , ,\n", "sep=,\r\n", '\n"sep=;"\n', "\ufeffSEP=,\n\n"])
def test_empty_lines_and_excels_line_of_the_delimiter_may_stand_above_a_header(
    tmp_path: Path, above: str
) -> None:
    file = tmp_path / "a.csv"
    file.write_text(f'{above}a,b,c\n1,"2\n2",3\n', newline="")
    assert rows(file) == [{"a": "1", "b": "2\n2", "c": "3"}]
    assert readers.first_line(file, COMMA) == above.count("\n") + 2
    file.write_text(f"{above}a,b,c\n1,2,3\n1,2\n", newline="")
    with pytest.raises(InputError, match=r"record 3 \(the header being 1\) has 2 fields and the header 3"):
        rows(file)


@pytest.mark.parametrize(
    ("ending", "cause"),
    [
        ("Total rows: 100\n", "Is it a footer"),
        ("\x1a", "nothing but NUL or Ctrl-Z signs"),
        ("\0" * 600, "nothing but NUL or Ctrl-Z signs"),
    ],
)
def test_what_stands_below_the_records_is_named_by_its_record_and_what_it_may_be(
    tmp_path: Path, ending: str, cause: str
) -> None:
    file = tmp_path / "a.csv"
    file.write_text(f"a,b\n1,2\n{ending}")
    with pytest.raises(
        InputError, match=rf"record 3 \(the header being 1\) has 1 fields.*{cause}"
    ) as refused:
        rows(file)
    assert "100" not in str(refused.value)


@pytest.mark.parametrize("ending", ["", "\n", "\r\n", "\n\n"])
@pytest.mark.parametrize("quote", ['"', ""])
def test_a_header_alone_is_a_table_without_rows(tmp_path: Path, ending: str, quote: str) -> None:
    file = tmp_path / "a.csv.gz"
    file.write_bytes(gzip.compress(f"a,b{ending}".encode()))
    assert rows(file, Csv(quote=quote)) == []


@pytest.mark.parametrize("begin", ["", '"', "a,b\n1,2\n", 'a,b\n1,2\n"'])
def test_a_record_that_does_not_end_is_refused_and_not_held(tmp_path: Path, begin: str) -> None:
    """As of a small file that decompresses to a hundred times its size, without a line's end."""
    file = tmp_path / "a.csv.gz"
    with gzip.open(file, "wb", compresslevel=1) as opened:
        opened.write(begin.encode())
        for _ in range(64):
            opened.write(b"x" * (1 << 20))
    tracemalloc.start()
    with pytest.raises(InputError, match=r"a\.csv\.gz is torn or not a CSV file") as refused:
        rows(file)
    assert tracemalloc.get_traced_memory()[1] < 50 << 20
    tracemalloc.stop()
    assert ("record 3 (the header being 1), or one soon after, does not end" in str(refused.value)) == (
        "1,2" in begin
    )


def test_parquet_gives_the_texts_that_a_text_file_of_it_would_hold(tmp_path: Path) -> None:
    table = pa.table({
        "Patient": pa.array([11, None], pa.int64()),
        "At": pa.array([datetime(2150, 1, 1, 7, 30), datetime(2150, 1, 2)], pa.timestamp("us")),
        "Value": pa.array([1.5, 7.0]),
        "Kind": pa.array(["a", "b"]).dictionary_encode(),
        "Codes": pa.array([["x", "y"], None]),
    })  # fmt: skip
    parquet.write_table(table, tmp_path / "labs.parquet", row_group_size=1)
    assert rows(tmp_path / "labs.parquet") == [
        {"patient": "11", "at": "2150-01-01 07:30:00.000000", "value": "1.5", "kind": "a", "codes": '["x", "y"]'},
        {"patient": None, "at": "2150-01-02 00:00:00.000000", "value": "7", "kind": "b", "codes": None},
    ]  # fmt: skip
    german = [row["value"] for row in rows(tmp_path / "labs.parquet", Csv(delimiter=";", decimal=","))]
    assert german == ["1,5", "7"], "as its text files have it; a number of a typed column can't be misread"
    assert readers.first_line(tmp_path / "labs.parquet", COMMA) == 1


def test_a_torn_parquet_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "labs.parquet"
    parquet.write_table(pa.table({"a": [1]}), file)
    file.write_bytes(file.read_bytes()[:-8])
    with pytest.raises(InputError, match=r"labs\.parquet is torn or not a Parquet file"):
        rows(file)


def test_a_parquet_file_with_two_columns_of_one_name_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "labs.parquet"
    parquet.write_table(pa.table([pa.array([1]), pa.array([2])], names=["value", "value"]), file)
    with pytest.raises(InputError, match=r"labs\.parquet has more than one column value"):
        rows(file)
