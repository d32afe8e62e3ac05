"""Messages of a stream become the rows that a file would have had, or dead letters with a reason."""

import json
import re
from typing import Any

import pytest

from data_pipeline.ingest import extract_files, messages, typed_tables
from data_pipeline.ingest import source as sources
from data_pipeline.ingest.messages import Message, Reader
from data_pipeline.ingest.source_tables import Csv


def read(source: str, *values: "bytes | None") -> messages.Messages:
    return Reader(sources.load(source)).read(Message("ehr/0", i, value) for i, value in enumerate(values))


def test_a_row_is_the_one_of_a_file_with_its_offset_as_the_line() -> None:
    row = b'{"table": "labevents", "SUBJECT_ID": 17, "itemid": "50912", "valuenum": 1.20, "value": null, "own": 1}'
    (labs,) = read("mimic-iii", b"{}", row).rows.values()
    given = {name: value for name, value in labs.to_pylist()[0].items() if value is not None}
    assert given == {"subject_id": "17", "itemid": "50912", "valuenum": "1.20", "file": "ehr/0", "line": 1}
    assert set(labs.column_names) == {*sources.load("mimic-iii").tables["labevents"].columns, "file", "line"}


def test_other_headers_of_a_column_are_known() -> None:
    (patients,) = read(
        "synthea", b'{"table": "patients", "Id": "a-1", "BIRTHDATE": "1980-01-01"}'
    ).rows.values()
    assert patients["patient"].to_pylist() == ["a-1"]


def test_a_number_of_json_has_a_point_whatever_the_files_have() -> None:
    german = sources.load("mimic-iii").model_copy(update={"csv": Csv(decimal=",")})
    row = b'{"table": "labevents", "subject_id": 17, "valuenum": 1.25, "value": "1,5"}'
    (labs,) = Reader(german).read([Message("ehr/0", 0, row)]).rows.values()
    typed = typed_tables.type_rows(german, german.tables["labevents"], labs.to_batches()[0])
    assert (typed["valuenum"].to_pylist(), typed["value_number"].to_pylist()) == ([1.25], [1.5])
    resource = b'{"resourceType": "Observation", "id": "o1", "valueQuantity": {"value": 4.5}}'
    fhir = sources.load("fhir").model_copy(update={"csv": Csv(decimal=",")})
    (observations,) = Reader(fhir).read([Message("ehr/0", 0, resource)]).rows.values()
    typed = typed_tables.type_rows(fhir, fhir.tables["observations"], observations.to_batches()[0])
    assert typed["amount"].to_pylist() == [4.5]


def test_where_a_message_stood_is_never_a_file_of_an_extract() -> None:
    assert re.search(messages.STREAMED, messages.file_of("hospital.ehr", 12))
    assert not any(re.search(messages.STREAMED, f"labs/2024/07{ending}") for ending in extract_files.ENDINGS)


def test_a_fhir_resource_says_itself_of_which_table_it_is() -> None:
    resource: dict[str, Any] = {
        "resourceType": "Observation",
        "id": "o1",
        "subject": {"reference": "Patient/17"},
        "valueQuantity": {"value": 4.50, "code": "mmol/L"},
    }
    rows = read("fhir", json.dumps(resource).encode()).rows
    (row,) = rows["observations"].to_pylist()
    assert (row["patient"], row["amount"], row["measured_in"]) == ("17", "4.5", "mmol/L")


@pytest.mark.parametrize(
    ("source", "value", "reason"),
    [
        ("mimic-iii", None, messages.NOT_JSON),
        ("mimic-iii", b"", messages.NOT_JSON),
        ("mimic-iii", b"17,50912", messages.NOT_JSON),
        ("mimic-iii", b'{"table": "labevents", "value": "\xff"}', messages.NOT_JSON),
        ("mimic-iii", b"[" * 100_000, messages.NOT_JSON),
        ("mimic-iii", b'["labevents"]', messages.NOT_JSON),
        (
            "mimic-iii",
            b'{"table": "labevents", "subject_id": 17, "valuenum": 1, "valuenum": 2}',
            messages.NOT_JSON,
        ),
        (
            "fhir",
            b'{"resourceType": "Observation", "valueQuantity": {"value": 1, "value": 2}}',
            messages.NOT_JSON,
        ),
        ("mimic-iii", b'{"table": "labevents", "subject_id": 17, "SUBJECT_ID": 18}', messages.NO_COLUMN),
        ("mimic-iii", b'{"subject_id": 17}', messages.NO_TABLE),
        ("mimic-iii", b'{"table": ["labevents"], "subject_id": 17}', messages.NO_TABLE),
        ("mimic-iii", b'{"table": "secrets", "subject_id": 17}', messages.NO_TABLE),
        ("mimic-iii", b'{"table": "labevents", "patient": 17}', messages.NO_COLUMN),
        ("mimic-iii", b'{"resourceType": "Patient", "id": "17"}', messages.NO_TABLE),
        ("fhir", b'{"resourceType": "Device", "id": "d1"}', messages.NO_TABLE),
        ("fhir", b'{"table": "patients", "patient": "17"}', messages.NO_TABLE),
    ],
)
def test_what_is_no_row_is_a_dead_letter_with_a_reason(
    source: str, value: "bytes | None", reason: str
) -> None:
    result = read(source, value)
    assert not result.rows
    assert [letter.reason for letter in result.dead_letters] == [reason]


def test_text_that_no_table_can_hold_is_replaced() -> None:
    (labs,) = read(
        "mimic-iii", b'{"table": "labevents", "subject_id": "1", "value": "a\\ud800b"}'
    ).rows.values()
    assert labs["value"].to_pylist() == ["a?b"]
