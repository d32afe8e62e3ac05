"""Schemas of ``/predict``: what it takes and answers; plain names come from ``mediscale.core.concepts``.

A request is read by ``serving.requests.request``. All times in answers are UTC and say so.
"""

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BeforeValidator, ConfigDict, Field, TypeAdapter, with_config
from typing_extensions import TypedDict

from mediscale.core.concepts import CONCEPTS, SCORE, Concept
from mediscale.inference.model_spec import NOTICE

_Shape = TypeVar("_Shape")

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
NOT_TEXT = re.compile(r"[\x00-\x08\x0E-\x1F\x7F\uFFFD]")
"""What bytes that are not text, or text in another encoding, turn into."""
ADULT = (18.0, 120.0)
"""Ages, in years, that the models are made for."""


_TIME = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[T ]([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9](\.[0-9]{1,6})?)?"
    r"(Z|[+-][0-9]{2}:[0-5][0-9])?"
)
"""A day and an hour, as in RFC 3339: a number, or a day alone, could be read in more than one way."""


def _time(value: object) -> object:
    """Parses a time with an offset. Anything else stays a text, which a strict field then refuses."""
    return datetime.fromisoformat(value) if isinstance(value, str) and _TIME.fullmatch(value) else value


Number = Annotated[float, Field(allow_inf_nan=False)]
Whole = Annotated[float, Field(allow_inf_nan=False, multiple_of=1)]
Time = Annotated[datetime, BeforeValidator(_time)]


def _field(concept: Concept) -> Any:
    also = f"; also {', '.join(concept.aliases)}" if concept.aliases else ""
    name = display_name(concept.name)
    begun = name if concept.name.split("_")[0] in _WRITTEN else name.capitalize()
    text = f"{begun} in {concept.unit}, {concept.low:g} to {concept.high:g}{also}"
    return Annotated[(Whole if concept.unit == SCORE else Number) | None, Field(description=text)]


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
    "age": Annotated[Number | None, Field(description="Age in years, 18 to 120")],
    "sex": Annotated[Literal["female", "male"] | None, Field(description="female or male")],
    **{concept.name: _field(concept) for concept in CONCEPTS},
    "clinical_note": Annotated[
        Annotated[str, Field(min_length=1, max_length=NOTE_CHARACTERS)] | None,
        Field(description="What was written about this stay; it is read and not stored"),
    ],
    "patient": Annotated[
        Annotated[str, Field(min_length=1, max_length=64)] | None,
        Field(description="Instead of values: a patient of the lake, by the source's own identifier"),
    ],
    "prediction_time": Annotated[
        Time | None,
        Field(
            description="For a patient: use what was known then (RFC 3339; without an offset it is taken as UTC). "
            "Default: the last stay's discharge or, while it lasts, the newest moment of which its record tells"
        ),
    ],
}
_Request = TypedDict("_Request", _FIELDS, total=False)  # type: ignore[misc]
"""Either plain values or a patient known to the lake. ``null`` and an absent field both mean missing."""
REQUEST: TypeAdapter[Any] = TypeAdapter(
    with_config(ConfigDict(extra="forbid", strict=True, title="PredictRequest"))(_Request)
)
"""What a request is read by: a dictionary of what it gives, in the order of these fields."""

MAIN_NAMES: dict[str, str] = {
    **{name: name for name in _FIELDS},
    **{alias: concept.name for concept in CONCEPTS for alias in concept.aliases},
}
"""Every name that a body may use → the field that it is."""


def request_schema() -> dict[str, Any]:
    """JSON schema of the request, every alias a property of its own."""
    schema = REQUEST.json_schema()
    schema["maxProperties"] = len(MAIN_NAMES)
    for name, main in MAIN_NAMES.items():
        if name != main:
            kind = schema["properties"][main]["anyOf"]
            schema["properties"][name] = {"anyOf": kind, "description": f"The same as {main}"}
    return schema


_PLAUSIBLE: dict[str, tuple[float, float]] = {
    "age": ADULT,
    **{concept.name: (concept.low, concept.high) for concept in CONCEPTS},
}
SCORES = tuple(concept.name for concept in CONCEPTS if concept.unit == SCORE)
"""Inputs that are whole numbers."""
_UNITS = {"age": "years", **{concept.name: concept.unit for concept in CONCEPTS}}
_WRITTEN_UNITS = {
    "Cel": "°C", "mm[Hg]": "mmHg", "10*3/uL": "10³/µL", "[pH]": "", "{INR}": "", SCORE: "",
}  # fmt: skip
"""UCUM's codes that people write otherwise."""


def is_plausible(name: str, value: float) -> bool:
    """Whether a living adult's record can hold the value."""
    low, high = _PLAUSIBLE.get(name, (0.0, 1.0))
    return low <= value <= high


def documented(shape: type[_Shape]) -> type[_Shape]:
    """A dataclass whose fields' docstrings are their descriptions in OpenAPI.

    Its schema is made here, once. Each route of each application asks for it, and Pydantic would parse this whole file
    each time.
    """
    described = with_config(ConfigDict(use_attribute_docstrings=True))(shape)
    described.__pydantic_core_schema__ = TypeAdapter(described).core_schema  # type: ignore[attr-defined]
    return described


@documented
@dataclass(frozen=True, slots=True)
class Factor:
    """What moved this risk, largest first."""

    feature: str
    meaning: str
    direction: Literal["raises", "lowers"]
    contribution: float
    """Exact SHAP value in log-odds of the risk."""


@documented
@dataclass(frozen=True, slots=True)
class Threshold:
    """An operating point of the model, chosen on the tuning split."""

    name: str
    risk: float
    exceeded: bool


@documented
@dataclass(frozen=True, slots=True)
class NoteUse:
    """How much of what was written was read."""

    used: Literal["read", "read in part", "not read"]
    """In part: the beginning of what is longer than the model reads. Not read: this version reads values only, or the
    lake has a known patient's notes in another tokenizer's numbers only."""
    tokens: int
    """Word pieces that were read."""
    language: str | None = None
    """Of a request's note that seems not to be in English, for which the packaged encoder and the rules that replace
    identifiers are: a version reads little of a language in which it saw no notes."""


@documented
@dataclass(frozen=True, slots=True)
class UnusualValue:
    """A value that the model has hardly seen: it may be in another unit than the expected one."""

    input: str
    expected_unit: str
    """In UCUM, the Unified Code for Units of Measure."""
    usual: str
    """The middle 99 % of the values that this version was trained on."""
    remark: str


@documented
@dataclass(frozen=True, slots=True)
class TaskRisk:
    """The risk of one task's outcome."""

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
    unusual_values: tuple[UnusualValue, ...]
    """Values that were used although this version has hardly seen such."""
    without_usual_range: tuple[str, ...]
    """Inputs whose value was compared with its plausible range alone: too few patients of those that this version was
    trained on have one."""
    note: NoteUse | None = None
    """What became of the note, or of a known patient's notes."""
    instead_of: str | None = None
    """Why the newest version does not answer, when an older one, or a points score, does in its place."""
    uncertain: bool = False
    """Whether the risk is less certain than the evidence of the version in production says: another one answers in its
    place, a value is hardly seen or was left out as implausible, or more than half of the inputs are missing."""


@documented
@dataclass(frozen=True, slots=True)
class TaskWithoutRisk:
    """A task of this dataset whose risk is not in the answer."""

    task: str
    reason: str


@documented
@dataclass(frozen=True, slots=True)
class OutOfRange:
    """A value that no living adult's record holds."""

    input: str
    plausible: str
    used: Literal["treated as missing"]


@documented
@dataclass(frozen=True, slots=True)
class Answer:
    """The risks of one patient, each with its reasons; it was logged before it left."""

    prediction_id: str
    """Names this prediction in the log."""
    predictions: tuple[TaskRisk, ...]
    not_predicted: tuple[TaskWithoutRisk, ...]
    """Every other task of the dataset, and why its risk is not here."""
    missing: tuple[str, ...]
    """Inputs that the models know and did not get."""
    out_of_range: tuple[OutOfRange, ...]
    prediction_time: datetime | None = None
    """For a known patient: nothing that became known later was used."""
    prediction_time_basis: str | None = None
    """For a known patient: whether the time was given, and with which offset, or what it is taken from."""
    notice: str = NOTICE
    needs_clinician_review: Literal[True] = True


Status = Literal["ready", "degraded", "unavailable"]


@documented
@dataclass(frozen=True, slots=True)
class ModelHealth:
    """A version that is served."""

    task: str
    """A risk's, or language."""
    model: str
    version: int
    promoted_at: datetime


@documented
@dataclass(frozen=True, slots=True)
class BesideHealth:
    """A version that answers beside the one in production."""

    task: str
    model: str
    version: int
    mode: Literal["canary", "shadow"]
    """Whether the patients who are drawn get its answers, or these are only logged."""
    percent: float
    """Of the patients, who are drawn."""


@documented
@dataclass(frozen=True, slots=True)
class Health:
    """Which versions are served, and what is wrong."""

    status: Status
    """degraded: something is wrong and predictions are answered all the same."""
    dataset: str
    alias: str
    models: tuple[ModelHealth, ...]
    beside: tuple[BesideHealth, ...]
    """Canaries and shadows."""
    model_loaded: bool
    """Whether every version that the alias points to is loaded, the language model's among them."""
    gpu_available: bool | None
    """Whether the language model computes on an accelerator; null where none is loaded, or its engine is elsewhere."""
    problems: tuple[str, ...]
    unflushed: int | None
    """Predictions that are durable on this machine and not yet in the lake; null when the log is locked."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Why there is no answer, and what to do."""

    error: str


def out_of_range(names: tuple[str, ...]) -> tuple[OutOfRange, ...]:
    """The remarks on inputs outside their plausible range; they do not repeat the values."""
    return tuple(OutOfRange(name, _in_units(name, *_PLAUSIBLE[name]), "treated as missing") for name in names)


def unusual_value(name: str, low: float, high: float) -> UnusualValue:
    """The remark on a value; it does not repeat the value."""
    usual = _in_units(name, low, high)
    return UnusualValue(
        name,
        _UNITS[name],
        usual,
        f"{display_name(name)} lies outside {usual}, the middle 99 % of what this model was trained on; check its "
        "unit.",
    )


def _in_units(name: str, low: float, high: float) -> str:
    return f"{low:g} to {with_unit(name, high)}"


def with_unit(name: str, value: float) -> str:
    """A value of an input, as people write it.

    >>> with_unit("temperature", 38.94), with_unit("gcs_motor", 5)
    ('38.94 °C', '5')
    """
    unit = _UNITS[name]
    return f"{value:g} {_WRITTEN_UNITS.get(unit, unit)}".rstrip()
