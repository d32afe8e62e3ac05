"""NDJSON: nested records, one a line, as columns of texts by the paths that a source declares. FHIR's bulk export.

A path names keys with dots between. Of a list it takes the first element, or the one that brackets choose by its number
or by what stands at a path of its own: ``code.coding[system=http://loinc.org].code``. Of a FHIR reference,
``Patient/17``, it is the number.
"""

import gzip
import json
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from mediscale.core.errors import InputError

BATCH_RECORDS = 16_384

_STEP = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(?:\[([^\]]+)\])?(?:\.(?!$)|$)")


class Step(NamedTuple):
    """A key, and which element is meant where its value is a list."""

    key: str
    number: int = 0
    field: str = ""
    value: str = ""


@cache
def steps(path: str) -> tuple[Step, ...]:
    """The steps of a path.

    >>> steps("code.coding[system=http://loinc.org].code")[1]
    Step(key='coding', number=0, field='system', value='http://loinc.org')

    Raises:
        ValueError: it is no path.
    """
    parsed: list[Step] = []
    position = 0
    while position < len(path) or not parsed:
        match = _STEP.match(path, position)
        if match is None:
            raise ValueError(
                f"{path!r} is no path: write keys with dots between, a choice from a list in brackets"
            )
        key, chosen = match.groups()
        field, equals, value = (chosen or "").partition("=")
        if chosen and not equals and not chosen.isdecimal():
            raise ValueError(f"{path!r} chooses from a list by {chosen!r}: write a number, or FIELD=VALUE")
        parsed.append(Step(key, field=field, value=value) if equals else Step(key, int(chosen or 0)))
        position = match.end()
    return tuple(parsed)


def value_at(record: Any, path: str) -> str | None:
    """What stands at a path of a record, as a text; null where nothing does."""
    for step in steps(path):
        record = record.get(step.key) if isinstance(record, dict) else None
        if isinstance(record, list):
            record = _chosen(record, step)
        if record is None:
            return None
    if isinstance(record, bool):
        return str(record).lower()
    if not isinstance(record, str):
        return json.dumps(record)
    return (
        record.rpartition("/")[2].removeprefix("urn:uuid:") if steps(path)[-1].key == "reference" else record
    )


def _chosen(elements: list[Any], step: Step) -> Any:
    if step.field:
        return next((element for element in elements if value_at(element, step.field) == step.value), None)
    return elements[step.number] if step.number < len(elements) else None


def records(path: Path, paths: Mapping[str, str], shown: Path) -> Iterator[pa.RecordBatch]:
    """The columns of every record of a file; numbers are as they are written.

    Raises:
        InputError: a line holds no JSON object; the error names it.
    """
    rows: list[dict[str, str | None]] = []
    schema = pa.schema([(column, pa.string()) for column in paths])
    opened = gzip.open if path.suffix.lower() == ".gz" else open
    with opened(path, "rt", encoding="utf-8-sig", errors="replace") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                record = json.loads(line, parse_float=str, parse_int=str)
            except ValueError:
                record = None
            if not isinstance(record, dict):
                raise InputError(
                    f"{shown}: line {number:,} holds no JSON object; nothing was landed. Export it again, or compare "
                    "checksums with the origin's."
                )
            rows.append({column: value_at(record, where) for column, where in paths.items()})
            if len(rows) == BATCH_RECORDS:
                yield pa.RecordBatch.from_pylist(rows, schema)
                rows = []
    if rows:
        yield pa.RecordBatch.from_pylist(rows, schema)
