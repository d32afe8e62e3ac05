"""Request parsing: the body of ``/predict`` has one reading, or is refused in one sentence.

JSON leaves open which value counts when a name stands twice, and its readers differ over ``NaN``, byte order marks and
halves of surrogate pairs: between two of them a value passes that neither has judged. All of this is refused here, and
so are two names of one field. A request is a flat object of known names, so reading stops at the first name that is
unknown or stands twice: a body has at most as many fields as there are names, however long it is.

Sentences name fields and never repeat a value, which may be a patient's.
"""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from difflib import get_close_matches
from itertools import combinations
from typing import Any

from pydantic import ValidationError

from mediscale.core.errors import InputError
from serving.schemas import ADULT, MAIN_NAMES, NOT_TEXT, NOTE_CHARACTERS, REQUEST, SCORES, is_plausible

Scalar = str | float | bool | None

_LETTER_OR_DIGIT = re.compile(r"[^\W_]")
_SPACE = re.compile(r"[ \t\n\r]*")
_DECODER = json.JSONDecoder(parse_int=float)
_PRESSURES = ("diastolic_blood_pressure", "mean_blood_pressure", "systolic_blood_pressure")
"""In the order of what they can be."""
_NAME_CHARACTERS = 40
"""A longer name is no slip of the pen: it is neither repeated nor compared with the inputs."""

_NO_JSON = "The body is not valid JSON in UTF-8."
_NO_OBJECT = 'The body must be a JSON object in UTF-8, for example {"age": 67, "blood_pressure": 140}.'


@dataclass(frozen=True, slots=True)
class Values:
    """Plain values by their main names; ``sex`` is 1 for female and 0 for male."""

    given: Mapping[str, float]
    out_of_range: tuple[str, ...]
    """Names whose value no living adult's record holds: left out of ``given``."""
    note: str | None = None


@dataclass(frozen=True, slots=True)
class Patient:
    """A patient known to the lake, and the moment whose knowledge is to be used (UTC without a zone)."""

    source_id: str
    prediction_time: datetime | None
    with_offset: bool = False
    """Whether the time was given with its offset from UTC."""


def parse(body: bytes) -> Values | Patient:
    """The request in a body of JSON.

    Raises:
        InputError: it is not JSON or has more than one reading, names an unknown field, has a wrong type, is about a
            child, or says nothing.
    """
    fields = _validated(_fields(_text(body)))
    if "patient" in fields:
        return _patient(fields)
    if "prediction_time" in fields:
        raise InputError("prediction_time goes with patient: plain values have no time.")
    if not fields:
        raise InputError(
            "The request gives no value and no patient; send for example age and blood_pressure."
        )
    return _values(fields)


def _text(body: bytes) -> str:
    try:
        return body.decode()
    except UnicodeDecodeError:
        raise InputError(_NO_JSON) from None


def _fields(text: str) -> dict[str, Scalar]:
    """The fields of the object as they are written, nulls among them."""
    fields: dict[str, Scalar] = {}
    at = _skip_space(text, 0)
    if not text.startswith("{", at):
        raise InputError(_NO_OBJECT)
    at = _skip_space(text, at + 1)
    ended = text.startswith("}", at)
    while not ended:
        name, at = _name(text, at)
        if name in fields:
            raise InputError(f"{name} stands twice in the body; send it once.")
        if name not in MAIN_NAMES:
            raise InputError(_unknown(name))
        fields[name], at = _value(text, at, name)
        ended = text.startswith("}", at)
        at = at if ended else _after(text, at, ",")
    if _skip_space(text, at + 1) != len(text):
        raise InputError(_NO_JSON)
    return fields


def _name(text: str, at: int) -> tuple[str, int]:
    if not text.startswith('"', at):
        raise InputError(_NO_JSON)
    name, at = _decoded(text, at)
    return str(name), _after(text, _skip_space(text, at), ":")


def _value(text: str, at: int, name: str) -> tuple[Scalar, int]:
    if text.startswith(("{", "["), at):  # not read at all, however deep it is
        raise InputError(_wrong(name))
    value, at = _decoded(text, at)
    if isinstance(value, str) and not _is_text(value):
        raise InputError(f"{name} holds characters that are not text; send what was written, as UTF-8.")
    return value, _skip_space(text, at)


def _decoded(text: str, at: int) -> tuple[Scalar, int]:
    try:
        value, at = _DECODER.raw_decode(text, at)
    except ValueError:
        raise InputError(_NO_JSON) from None
    return value, at


def _after(text: str, at: int, sign: str) -> int:
    if not text.startswith(sign, at):
        raise InputError(_NO_JSON)
    return _skip_space(text, at + 1)


def _skip_space(text: str, at: int) -> int:
    space = _SPACE.match(text, at)
    return space.end() if space else at


def _is_text(value: str) -> bool:
    """Whether it holds whole characters: JSON can escape one half of a surrogate pair."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _validated(fields: Mapping[str, Scalar]) -> dict[str, Any]:
    """What is given, by main names; ``null`` means missing, beside another name of the same field too."""
    values: dict[str, Scalar] = {}
    written: dict[str, str] = {}
    for name, value in fields.items():
        main = MAIN_NAMES[name]
        if value is not None and main in values:
            raise InputError(f"{written[main]} and {name} are the same input; send one of them.")
        if value is not None:
            values[main], written[main] = value, name
    try:
        request: dict[str, Any] = REQUEST.validate_python(values)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False, include_context=False)[0]
        raise InputError(_wrong(written[str(first["loc"][0])])) from None
    return request


def _patient(fields: Mapping[str, Any]) -> Patient:
    if set(fields) - {"patient", "prediction_time"}:
        raise InputError(
            "Send either a patient or values, not both: a known patient's values come from the lake."
        )
    time: datetime | None = fields.get("prediction_time")
    if time is None:
        return Patient(fields["patient"], None)
    return Patient(fields["patient"], _utc(time), with_offset=time.tzinfo is not None)


def _utc(time: datetime) -> datetime:
    """A time as UTC without a zone, as all times are here."""
    try:
        return time.astimezone(UTC).replace(tzinfo=None) if time.tzinfo is not None else time
    except OverflowError:
        raise InputError(
            "prediction_time lies outside the years 1 to 9999 in UTC; send a time within a stay."
        ) from None


def _values(fields: dict[str, Any]) -> Values:
    note = fields.pop("clinical_note", None)
    if note is not None:
        _check_note(note)
    if fields.get("age", math.inf) < ADULT[0]:
        raise InputError(f"age is below {ADULT[0]:g}; the models are made for adults. Nothing was predicted.")
    if "sex" in fields:
        fields["sex"] = float(fields["sex"] == "female")
    _check_pressures(fields)
    outside = tuple(name for name, value in fields.items() if not is_plausible(name, value))
    return Values({name: value for name, value in fields.items() if name not in outside}, outside, note)


def _check_pressures(fields: Mapping[str, Any]) -> None:
    """A mean lies between the pressures that it is the mean of, or one of the three is another's."""
    for low, high in combinations(_PRESSURES, 2):
        if low in fields and high in fields and fields[high] < fields[low]:
            raise InputError(f"{high} is below {low}; check which is which.")


def _check_note(note: str) -> None:
    if NOT_TEXT.search(note):
        raise InputError("clinical_note holds characters that are not text; send what was written, as UTF-8.")
    if not _LETTER_OR_DIGIT.search(note):
        raise InputError("clinical_note holds no letter or digit; leave it out, or send what was written.")


def _wrong(name: str) -> str:
    """What the field must be, by whichever of its names it was sent."""
    if name == "sex":
        return "sex must be female or male."
    if name == "prediction_time":
        return "prediction_time must be a time such as 2026-11-22T07:30:00Z, with a day and an hour."
    if name == "clinical_note":
        return f"clinical_note must be text of 1 to {NOTE_CHARACTERS} characters."
    if name == "patient":
        return "patient must be text of 1 to 64 characters: the source's own identifier."
    return f"{name} must be a {'whole ' if MAIN_NAMES[name] in SCORES else ''}number."


def _unknown(name: str) -> str:
    short = len(name) <= _NAME_CHARACTERS
    near = get_close_matches(name.lower(), MAIN_NAMES, n=1) if short else []
    hint = f"did you mean {near[0]}?" if near else "the page /docs lists the inputs."
    return f"{name if short and name.isidentifier() else 'A field of the request'} is not an input; {hint}"
