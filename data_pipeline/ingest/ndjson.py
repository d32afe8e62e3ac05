"""NDJSON: nested records, one a line, as columns of texts by the paths that a source declares. FHIR's bulk export.

A path names keys with dots between. Of a list it takes the first element, or the one that brackets choose by its number
or by what stands at a path of its own: ``code.coding[system=http://loinc.org].code``. Of a FHIR reference, such as
``Patient/17/_history/2``, it is the number, where brackets say so only of one type: ``subject.reference[Patient]``.
"""

import gzip
import json
import re
import zlib
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from mediscale.core.errors import InputError

BATCH_RECORDS = 16_384
MAX_LINE = 64 << 20
"""Characters of a line; none is longer."""

TYPE = "resourceType"
CONTAINERS = ("Bundle", "Parameters")
"""FHIR's resources that hold others, of which no path finds anything."""

_REFERENCE = re.compile(r"(?:.*/)?([A-Za-z]+)/([^/]+)(?:/_history/[^/]+)?")
"""A resource by its type and number, on whatever server and in whichever version."""
_STEP = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(?:\[([^\]]+)\])?(?:\.(?!$)|$)")


class Step(NamedTuple):
    """A key, and which element is meant where its value is a list, or which type of resource where it refers to one."""

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
        if equals:
            parsed.append(Step(key, field=field, value=value))
        elif chosen and key == "reference":
            parsed.append(Step(key, value=chosen))
        elif chosen and not chosen.isdecimal():
            raise ValueError(f"{path!r} chooses from a list by {chosen!r}: write a number, or FIELD=VALUE")
        else:
            parsed.append(Step(key, int(chosen or 0)))
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
    last = steps(path)[-1]
    return _referenced(record, last.value) if last.key == "reference" else record


def _referenced(reference: str, wanted: str) -> str | None:
    """The number of the resource that is referred to; null where it is of another type than the wanted one."""
    match = _REFERENCE.fullmatch(reference)
    if match is None:  # a number without a type, or what names no resource of an extract
        return reference.removeprefix("urn:uuid:")
    return match[2] if wanted in ("", match[1]) else None


def _chosen(elements: list[Any], step: Step) -> Any:
    if step.field:
        return next((element for element in elements if value_at(element, step.field) == step.value), None)
    return elements[step.number] if step.number < len(elements) else None


def records(path: Path, paths: Mapping[str, str], place: Path) -> Iterator[pa.RecordBatch]:
    """The columns of every record of a file; numbers are as they are written.

    Raises:
        InputError: a line holds no JSON object, or a resource of another type than the first; the error names it.
    """
    rows: list[dict[str, str | None]] = []
    schema = pa.schema([(column, pa.string()) for column in paths])
    for record in _of_one_type(_objects(path, place), place):
        rows.append({column: value_at(record, where) for column, where in paths.items()})
        if len(rows) == BATCH_RECORDS:
            yield _batch(rows, schema)
            rows = []
    if rows:
        yield _batch(rows, schema)


def _of_one_type(objects: Iterator[dict[str, Any]], place: Path) -> Iterator[dict[str, Any]]:
    """The objects, which are FHIR resources of one type where they are such: a path finds nothing in others."""
    kind: Any = None
    for line, record in enumerate(objects, start=1):
        kind = record.get(TYPE) if line == 1 else kind
        if kind in CONTAINERS or record.get(TYPE) != kind:
            raise InputError(
                f"{place}: line {line:,} is a resource that holds others, or of another type than line 1; nothing was "
                "landed. Write the resources of each type into a file of its own, one a line."
            )
        yield record


def _batch(rows: list[dict[str, str | None]], schema: pa.Schema) -> pa.RecordBatch:
    try:
        return pa.RecordBatch.from_pylist(rows, schema)
    except UnicodeEncodeError:  # half a character, which JSON can write: it mars a value and not the file
        whole = [{name: text and _whole_characters(text) for name, text in row.items()} for row in rows]
        return pa.RecordBatch.from_pylist(whole, schema)


def _whole_characters(text: str) -> str:
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _objects(path: Path, place: Path) -> Iterator[dict[str, Any]]:
    """The object of each line; empty lines may stand at the end."""
    number, blank, opened = 0, 0, gzip.open if path.suffix.lower() == ".gz" else open
    try:
        with opened(path, "rt", encoding="utf-8-sig", errors="replace") as lines:
            while line := lines.readline(MAX_LINE):
                number += 1
                if line.isspace():
                    blank = blank or number
                    continue
                if blank:
                    number = blank
                    raise ValueError
                yield _object(line)
    except (ValueError, RecursionError, OSError, EOFError, zlib.error) as error:
        if isinstance(error, OSError) and error.errno:  # the operating system refused to read it
            raise
        what = (
            f"{place}: line {number:,} holds no JSON object that has one reading and ends within "
            f"{MAX_LINE >> 20} million characters"
            if isinstance(error, ValueError | RecursionError)
            else f"{place} is torn after line {number:,}"
        )
        raise InputError(
            f"{what}; nothing was landed. Export it again, or compare checksums with the origin's."
        ) from error


def _object(line: str) -> dict[str, Any]:
    """The object of a line.

    Raises:
        ValueError: there is none, or one that readers take differently, for a name stands twice in it.
        RecursionError: it is too deep.
    """
    record = json.loads(line, parse_float=str, parse_int=str, object_pairs_hook=names_once)
    if isinstance(record, dict):
        return record
    raise ValueError


def names_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON, as ``object_pairs_hook`` gets it.

    Raises:
        ValueError: a name stands twice in it.
    """
    named = dict(pairs)
    if len(named) < len(pairs):
        raise ValueError
    return named
