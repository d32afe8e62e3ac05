"""Nested records as columns of texts."""

import gzip
import json
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


@pytest.mark.parametrize("line", ["[1]", '{"id": "secret', "7"])
def test_a_line_that_is_no_object_is_named_and_not_quoted(tmp_path: Path, line: str) -> None:
    file = tmp_path / "a.ndjson"
    file.write_text(f"{json.dumps(PRESSURE)}\n{line}\n")
    with pytest.raises(InputError, match=r"a\.ndjson: line 2 holds no JSON object") as refused:
        list(ndjson.records(file, {"number": "id"}, Path(file.name)))
    assert "secret" not in str(refused.value)
