"""Nested records as columns of texts."""

import gzip
import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from data_pipeline.ingest import ndjson
from mediscale.core.errors import InputError

PRESSURE: dict[str, Any] = {
    "id": "o1",
    "subject": {"reference": "Patient/17"},
    "encounter": {"reference": "urn:uuid:e-9"},
    "code": {
        "coding": [{"system": "urn:local", "code": "BP"}, {"system": "http://loinc.org", "code": "85354-9"}]
    },
    "component": [
        {"code": {"coding": [{"code": "8462-4"}]}, "valueQuantity": {"value": 80.50}},
        {"code": {"coding": [{"code": "8480-6"}]}, "valueQuantity": {"value": 120}},
    ],
    "final": True,
}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("id", "o1"),
        ("subject.reference", "17"),
        ("encounter.reference", "e-9"),
        ("code.coding.code", "BP"),
        ("code.coding[1].code", "85354-9"),
        ("code.coding[system=http://loinc.org].code", "85354-9"),
        ("component[code.coding.code=8480-6].valueQuantity.value", "120"),
        ("component[code.coding.code=1-1].valueQuantity.value", None),
        ("code.coding[7].code", None),
        ("nowhere.at.all", None),
        ("id.beyond", None),
        ("final", "true"),
        ("subject", '{"reference": "Patient/17"}'),
    ],
)
def test_what_stands_at_a_path(path: str, value: str | None) -> None:
    assert ndjson.value_at(PRESSURE, path) == value


@pytest.mark.parametrize("server", ["", "/", "https://a.example/fhir/"])
@pytest.mark.parametrize("number", ["17", "abc", "A-1.b"])
@pytest.mark.parametrize("version", ["", "/_history/2", "/_history/abc"])
def test_a_reference_is_its_resource_in_every_version_on_every_server(
    server: str, number: str, version: str
) -> None:
    """Of another type it is nobody: a device's number is not the patient's who has it, nor a version's."""
    record = {"subject": {"reference": f"{server}Patient/{number}{version}"}}
    assert ndjson.value_at(record, "subject.reference[Patient]") == number
    assert ndjson.value_at(record, "subject.reference[Device]") is None
    assert ndjson.value_at(record, "subject.reference") == number


@pytest.mark.parametrize("reference", ["17", "#17", "Patient?identifier=http://a|17", "Patient/17/"])
def test_a_reference_that_names_no_resource_by_its_type_stays_as_it_is_written(reference: str) -> None:
    assert ndjson.value_at({"reference": reference}, "reference[Patient]") == reference


@pytest.mark.parametrize("path", ["", "a..b", "a[", "a[b]", "a.", "1a"])
def test_what_is_no_path_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match=r"is no path|chooses from a list by"):
        ndjson.steps(path)


def test_records_are_streamed_with_numbers_as_they_are_written(tmp_path: Path) -> None:
    file = tmp_path / "Observation.ndjson.gz"
    lines = ['{"id": "a", "v": {"value": 1.50}}', '{"id": "b"}']
    file.write_bytes(gzip.compress("\n".join(lines).encode()))
    (batch,) = ndjson.records(file, {"number": "id", "amount": "v.value"}, Path(file.name))
    assert batch.to_pylist() == [{"number": "a", "amount": "1.50"}, {"number": "b", "amount": None}]


@pytest.mark.parametrize("end", ["", "\n", "\r\n\r\n", "\n \n"])
def test_empty_lines_may_end_a_file(tmp_path: Path, end: str) -> None:
    file = tmp_path / "a.ndjson"
    file.write_bytes(b'{"id": "a"}\n' + end.encode())
    (batch,) = ndjson.records(file, {"number": "id"}, Path(file.name))
    assert batch.to_pylist() == [{"number": "a"}]


@pytest.mark.parametrize(
    "line",
    [
        "[1]",
        '{"id": "secret',
        "7",
        "",
        '{"id": "secret", "id": "b"}',
        '{"v": [{"a": 1, "a": 1}]}',
        '{"v": ' + "[" * 100_000,
    ],
)
def test_a_line_that_is_no_object_is_named_and_not_quoted(tmp_path: Path, line: str) -> None:
    file = tmp_path / "a.ndjson"
    file.write_text(f"{json.dumps(PRESSURE)}\n{line}\n\n{json.dumps(PRESSURE)}\n")
    with pytest.raises(InputError, match=r"a\.ndjson: line 2 holds no JSON object") as refused:
        list(ndjson.records(file, {"number": "id"}, Path(file.name)))
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("kinds", "line"),
    [
        (["Bundle"], 1),
        (["Parameters"], 1),
        (["Observation", "OperationOutcome"], 2),
        (["Observation", "Observation", "Condition"], 3),
    ],
)
def test_a_line_in_which_no_path_finds_anything_is_refused(
    tmp_path: Path, kinds: list[str], line: int
) -> None:
    """It would be a resource that states nothing, and nobody would know."""
    file = tmp_path / "Observation.ndjson"
    file.write_text("".join(json.dumps({"resourceType": kind, "id": "secret"}) + "\n" for kind in kinds))
    with pytest.raises(InputError, match=rf"Observation\.ndjson: line {line} is a resource") as refused:
        list(ndjson.records(file, {"number": "id"}, Path(file.name)))
    assert "secret" not in str(refused.value)


def test_a_line_that_does_not_end_is_not_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ndjson, "MAX_LINE", 1 << 20)
    file = tmp_path / "a.ndjson.gz"
    with gzip.open(file, "wb") as opened:
        for _ in range(64):
            opened.write(bytes(1 << 20))
    tracemalloc.start()
    with pytest.raises(InputError, match="line 1 holds no JSON object"):
        list(ndjson.records(file, {"number": "id"}, Path(file.name)))
    assert tracemalloc.get_traced_memory()[1] < 16 << 20
    tracemalloc.stop()


@pytest.mark.parametrize(
    "content", [gzip.compress(b'{"id": "a"}\n' * 1000)[:-10], b'{"id": "a"}\n', b"\x1f\x8b\x08"]
)
def test_a_torn_file_is_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "a.ndjson.gz"
    file.write_bytes(content)
    with pytest.raises(InputError, match=r"a\.ndjson\.gz is torn after line"):
        list(ndjson.records(file, {"number": "id"}, Path(file.name)))


def test_half_a_character_mars_its_value_alone(tmp_path: Path) -> None:
    file = tmp_path / "a.ndjson"
    file.write_text('{"id": "a\\ud800"}\n{"id": "\\ud83d\\ude00"}\n')
    (batch,) = ndjson.records(file, {"number": "id"}, Path(file.name))
    assert batch.to_pylist() == [{"number": "a\ufffd"}, {"number": "\U0001f600"}]
