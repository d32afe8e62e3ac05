"""FHIR's quantities: the value of an Observation in its concept's unit."""

import math
import re

from mediscale.core.concepts import SCORE, Concept
from serving.requests.fhir_elements import Resource, Unused, check_choice, check_modifiers

_SAME_UNITS = {
    "/min": {"bpm", "1/min", "beats/min", "breaths/min"}, "mm[Hg]": {"mmHg", "mm Hg"}, "{INR}": {"1"},
    "10*3/uL": {"10*9/L", "10^9/L", "10^3/uL", "K/uL"}, "mmol/L": {"meq/L", "mEq/L"}, "{score}": {"1"},
    "[pH]": {"pH", "1"}, "Cel": {"C", "°C"}, "U/L": {"[IU]/L", "IU/L"},
}  # fmt: skip
"""Other writings of a unit that mean the same number."""
_MICRO = str.maketrans("\u00b5\u03bc", "uu")
_LITRE = re.compile(r"(?<![A-Za-z])([dmu]?)l(?![A-Za-z])")
"""By UCUM a litre is ``L`` or ``l``."""
_ANNOTATION = re.compile(r"\{[^{}]*\}")
"""A remark within a unit, which by UCUM changes nothing: ``{beats}/min`` is ``/min``."""
_FACTORS = {
    ("weight", "g"): 0.001, ("weight", "[lb_av]"): 0.45359237, ("weight", "lb"): 0.45359237,
    ("height", "m"): 100.0, ("height", "[in_i]"): 2.54, ("height", "in"): 2.54, ("troponin_t", "ng/L"): 0.001,
    ("creatinine", "umol/L"): 1 / 88.42, ("bilirubin", "umol/L"): 1 / 17.104, ("glucose", "mmol/L"): 18.016,
    ("urea_nitrogen", "mmol/L"): 2.801, ("hemoglobin", "g/L"): 0.1, ("albumin", "g/L"): 0.1,
    ("lactate", "mg/dL"): 1 / 9.008,
    ("calcium", "mmol/L"): 4.008, ("magnesium", "mmol/L"): 2.431, ("phosphate", "mmol/L"): 3.097,
    ("pco2", "kPa"): 7.50062, ("po2", "kPa"): 7.50062, ("crp", "mg/dL"): 10.0, ("fio2", "1"): 100.0,
    ("hematocrit", "1"): 100.0, ("urine_output", "L"): 1000.0,
}  # fmt: skip
"""(concept, UCUM unit) → what a value is multiplied with; by molar mass where moles are counted."""
_FAHRENHEIT = frozenset({"[degF]", "F", "°F"})


def quantity(part: Resource, concept: Concept) -> float:
    """The value of an Observation, or of one of its components, in the concept's unit.

    Raises:
        Unused: it holds no number, one of another unit, or one that no record can hold.
    """
    check_modifiers(part)
    check_choice(part, "value", f"Observations of {concept.name} that give a value")
    if part.get("dataAbsentReason") is not None:
        raise Unused(f"Observations of {concept.name} that say why there is no value")
    measured = part.get("valueQuantity")
    value = measured.get("value") if isinstance(measured, dict) else None
    if not isinstance(measured, dict) or isinstance(value, bool) or not isinstance(value, int | float):
        raise Unused(f"Observations of {concept.name} without a number")
    if measured.get("comparator"):
        raise Unused(f"Observations of {concept.name} that are only a bound")
    code, unit = (_unit(measured.get(name)) for name in ("code", "unit"))
    converted = _convert(_number(value), concept, code or unit)
    if code and unit and _differ(converted, _number(value), concept, unit):
        raise Unused(f"Observations of {concept.name} whose code and text name two units")
    if concept.unit == SCORE and not converted.is_integer():
        raise Unused(f"Observations of {concept.name} that are no whole number")
    if not concept.low <= converted <= concept.high:
        limits = f"{concept.low:g} to {concept.high:g} {concept.unit}"
        raise Unused(f"Observations of {concept.name} outside what a record can hold ({limits})")
    return converted


def _unit(written: object) -> str:
    """A unit in one spelling of its millionth and its litre."""
    return _LITRE.sub(r"\1L", str(written or "").strip().translate(_MICRO))


def _number(value: float) -> float:
    """What is too large for a number is out of every range."""
    try:
        return float(value)
    except OverflowError:
        return math.inf


def _differ(converted: float, value: float, concept: Concept, unit: str) -> bool:
    """Whether another writing of the unit, where it is a known one, makes another value."""
    try:
        other = _convert(value, concept, unit)
    except Unused:
        return False
    return abs(other - converted) > abs(converted) / 1000


def _convert(value: float, concept: Concept, unit: str) -> float:
    if concept.name == "temperature" and unit in _FAHRENHEIT:
        return (value - 32) / 1.8
    if unit == concept.unit or unit in _SAME_UNITS.get(concept.unit, ()):
        return value
    if (concept.name, unit) in _FACTORS:
        return value * _FACTORS[concept.name, unit]
    if _ANNOTATION.search(unit):
        return _convert(value, concept, _ANNOTATION.sub("", unit) or "1")
    raise Unused(f"Observations of {concept.name} in a unit that is not converted to {concept.unit}")
