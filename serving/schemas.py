"""What /predict takes and answers: the request's plain names come from ``mediscale.core.concepts``.

Requests are refused in one sentence that names fields and never repeats a value, which may be a patient's.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from difflib import get_close_matches
from typing import Annotated, Any, Literal

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, ValidationError, create_model

from mediscale.core.concepts import CONCEPTS, Concept
from mediscale.core.errors import InputError
from mediscale.inference.model_spec import NOTICE

EXAMPLES: dict[str, dict[str, Any]] = {
    "two values and a note": {
        "summary": "A clinical note beside the values: it is read, and never stored",
        "value": {"age": 67, "blood_pressure": 140, "clinical_note": "Patient presents with chest pain..."},
    },
    "two values": {
        "summary": "Plain values; everything else is missing, and said so",
        "value": {"age": 67, "blood_pressure": 140},
    },
    "vital signs and laboratory": {
        "summary": "More values: a surer answer",
        "value": {
            "age": 67, "sex": "female", "heart_rate": 118, "systolic_blood_pressure": 92, "respiratory_rate": 26,
            "oxygen_saturation": 91, "temperature": 38.9, "lactate": 4.1, "creatinine": 2.3, "white_blood_cells": 17.2,
        },
    },
}  # fmt: skip

NOTE_CHARACTERS = 2**20
_NOT_TEXT = re.compile(r"[\x00-\x08\x0E-\x1F\x7F\uFFFD]")
"""What bytes that are not text, or text in another encoding, turn into."""

ADULT = (18.0, 120.0)
"""Ages, in years, that the models are made for."""


class _Request(BaseModel):
    """Either plain values or a patient known to the lake. ``null`` and an absent field both mean missing."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


Number = Annotated[float, Field(allow_inf_nan=False)]


def _field(concept: Concept) -> Any:
    also = f"; also {', '.join(concept.aliases)}" if concept.aliases else ""
    name = display_name(concept.name)
    begun = name if concept.name.split("_")[0] in _WRITTEN else name.capitalize()
    text = f"{begun} in {concept.unit}, {concept.low:g} to {concept.high:g}{also}"
    return (
        Number | None,
        Field(None, validation_alias=AliasChoices(concept.name, *concept.aliases), description=text),
    )


_WRITTEN = {
    "alt": "ALT", "ast": "AST", "crp": "CRP", "fio2": "FiO2", "gcs": "GCS", "hiv": "HIV", "icu": "ICU", "inr": "INR",
    "pco2": "pCO2", "ph": "pH", "po2": "pO2", "ptt": "PTT", "t": "T",
}  # fmt: skip
"""What is not written in small letters."""


def display_name(name: str) -> str:
    """A name of the code as people write it.

    >>> display_name("gcs_motor"), display_name("troponin_t"), display_name("heart_rate")
    ('GCS motor', 'troponin T', 'heart rate')
    """
    return " ".join(_WRITTEN.get(word, word) for word in name.split("_"))


_FIELDS: dict[str, Any] = {
    "age": (Number | None, Field(None, description="Age in years, 18 to 120")),
    "sex": (Literal["female", "male"] | None, Field(None, description="female or male")),
    **{concept.name: _field(concept) for concept in CONCEPTS},
    "clinical_note": (
        Annotated[str, Field(min_length=1, max_length=NOTE_CHARACTERS)] | None,
        Field(None, description="What was written about this stay; it is read and not stored"),
    ),
    "patient": (
        Annotated[str, Field(min_length=1, max_length=64)] | None,
        Field(None, description="Instead of values: a patient of the lake, by the source's own identifier"),
    ),
    "prediction_time": (
        datetime | None,
        Field(
            None,
            description="For a patient: use what was known then (ISO 8601, UTC). Default: the last stay's discharge "
            "or, while it lasts, the newest moment of which its record tells",
        ),
    ),
}
PredictRequest = create_model("PredictRequest", __base__=_Request, **_FIELDS)


def request_schema() -> dict[str, Any]:
    """JSON schema of the request, every alias a property of its own."""
    schema = PredictRequest.model_json_schema()
    for alias, name in _SAME.items():
        kind = schema["properties"][name]["anyOf"]
        schema["properties"][alias] = {"anyOf": kind, "description": f"The same as {name}"}
    return schema


_PLAUSIBLE: dict[str, tuple[float, float]] = {
    "age": ADULT,
    **{concept.name: (concept.low, concept.high) for concept in CONCEPTS},
}
_KNOWN_NAMES = (*_FIELDS, *(alias for concept in CONCEPTS for alias in concept.aliases))
_SAME = {alias: concept.name for concept in CONCEPTS for alias in concept.aliases}


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


def parse(body: bytes) -> Values | Patient:
    """The request in a body of JSON.

    Raises:
        InputError: it is not JSON, names an unknown field, has a wrong type, is about a child, or says nothing.
    """
    try:
        fields = PredictRequest.model_validate_json(body).model_dump(exclude_none=True)
    except ValidationError as error:
        raise InputError(_sentence(error)) from None
    if "patient" in fields:
        return _patient(fields)
    if "prediction_time" in fields:
        raise InputError("prediction_time goes with patient: plain values have no time.")
    if not fields:
        raise InputError(
            "The request gives no value and no patient; send for example age and blood_pressure."
        )
    return _values(fields)


def _patient(fields: Mapping[str, Any]) -> Patient:
    if set(fields) - {"patient", "prediction_time"}:
        raise InputError(
            "Send either a patient or values, not both: a known patient's values come from the lake."
        )
    time: datetime | None = fields.get("prediction_time")
    return Patient(fields["patient"], _utc(time) if time is not None else None)


def _utc(time: datetime) -> datetime:
    """Without a zone, as all times here."""
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
    outside = tuple(name for name, value in fields.items() if not _plausible(name, value))
    return Values({name: value for name, value in fields.items() if name not in outside}, outside, note)


def _check_note(note: str) -> None:
    if _NOT_TEXT.search(note):
        raise InputError("clinical_note holds characters that are not text; send what was written, as UTF-8.")
    if not any(map(str.isalnum, note)):
        raise InputError("clinical_note holds no letter or digit; leave it out, or send what was written.")


def _plausible(name: str, value: float) -> bool:
    low, high = _PLAUSIBLE.get(name, (0.0, 1.0))
    return low <= value <= high


def _sentence(error: ValidationError) -> str:
    problem = error.errors(include_input=False, include_url=False, include_context=False)[0]
    name = str(problem["loc"][0]) if problem["loc"] else ""
    if problem["type"] == "json_invalid":
        return "The body is not valid JSON in UTF-8."
    if problem["type"] == "model_type" or not name:
        return 'The body must be a JSON object, for example {"age": 67, "blood_pressure": 140}.'
    if problem["type"] == "extra_forbidden":
        return _unknown(name)
    if name == "sex":
        return "sex must be female or male."
    if name == "prediction_time":
        return "prediction_time must be a time such as 2026-11-22T07:30:00."
    if name == "clinical_note":
        return f"clinical_note must be text of 1 to {NOTE_CHARACTERS} characters."
    if name == "patient":
        return "patient must be text of 1 to 64 characters: the source's own identifier."
    return f"{name} must be a number."


def _unknown(name: str) -> str:
    if name in _SAME:
        return f"{name} and {_SAME[name]} (or another of its names) are the same input; send one of them."
    near = get_close_matches(name.lower(), _KNOWN_NAMES, n=1)
    hint = f"did you mean {near[0]}?" if near else "the page /docs lists the inputs."
    shown = name if name.isidentifier() and len(name) <= 40 else "A field of the request"
    return f"{shown} is not an input; {hint}"


@dataclass(frozen=True, slots=True)
class Factor:
    """What moved this risk, largest first."""

    feature: str
    meaning: str
    direction: Literal["raises", "lowers"]
    contribution: float
    """Exact SHAP value in log-odds of the risk."""


@dataclass(frozen=True, slots=True)
class Threshold:
    """An operating point of the model, chosen on the tuning split."""

    name: str
    risk: float
    exceeded: bool


@dataclass(frozen=True, slots=True)
class NoteUse:
    used: Literal["read", "read in part", "not read"]
    """In part: the beginning of what is longer than the model reads. Not read: this version reads values only, or the
    lake has a known patient's notes in another tokenizer's numbers only."""
    tokens: int
    """Word pieces that were read."""


@dataclass(frozen=True, slots=True)
class TaskRisk:
    task: str
    outcome: str
    """What the risk is the risk of."""
    risk: float
    """Calibrated probability."""
    baseline_risk: float
    """Risk of the average patient of training, from which the factors lead to this one."""
    model: str
    version: int
    thresholds: tuple[Threshold, ...]
    factors: tuple[Factor, ...]
    note: NoteUse | None = None
    """What became of the note, or of a known patient's notes."""


@dataclass(frozen=True, slots=True)
class OutOfRange:
    input: str
    plausible: str
    used: Literal["treated as missing"]


@dataclass(frozen=True, slots=True)
class Answer:
    prediction_id: str
    """Names this prediction in the log."""
    predictions: tuple[TaskRisk, ...]
    missing: tuple[str, ...]
    """Inputs that the models know and did not get."""
    out_of_range: tuple[OutOfRange, ...]
    prediction_time: datetime | None = None
    """For a known patient: nothing that became known later was used."""
    notice: str = NOTICE


Status = Literal["ready", "degraded", "unavailable"]


@dataclass(frozen=True, slots=True)
class ModelHealth:
    task: str
    model: str
    version: int
    promoted_at: datetime


@dataclass(frozen=True, slots=True)
class Health:
    status: Status
    """degraded: something is wrong and predictions are answered all the same."""
    dataset: str
    alias: str
    models: tuple[ModelHealth, ...]
    problems: tuple[str, ...]
    unflushed: int | None
    """Predictions that are durable on this machine and not yet in the lake; null when the log is locked."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Why there is no answer, and what to do."""

    error: str


def out_of_range(names: tuple[str, ...]) -> tuple[OutOfRange, ...]:
    return tuple(OutOfRange(name, _plausible_words(name), "treated as missing") for name in names)


def _plausible_words(name: str) -> str:
    low, high = _PLAUSIBLE[name]
    unit = "years" if name == "age" else next(c.unit for c in CONCEPTS if c.name == name)
    return f"{low:g} to {high:g} {unit}"
