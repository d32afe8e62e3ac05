"""Dose ranges: amounts outside of the usual ones of adults, and of children by weight."""

import re
from functools import cache
from typing import Literal

from data_pipeline.clinical_text.text import ClinicalText
from data_pipeline.drugs import tables
from data_pipeline.drugs.mentions import Dose
from data_pipeline.drugs.tables import ChildDose, DoseRange
from data_pipeline.safety.layer import CheckedText
from data_pipeline.safety.report import Finding, LayerFinding

NAME = "dose"
ADULT_YEARS = 18
_AGE = re.compile(
    r"\b(?P<number>\d{1,3}(?:\.\d)?)[\s-]*(?P<unit>y(?:ea)?rs?|yo\b|y/o|y\.o|months?|mos?\b|weeks?|wks?|days?)[\s-]*"
    r"(?:old|of age|(?=girl|boy|male|female|man|woman|[mf]\b|son|daughter|child|kid|baby)|(?<=yo)|(?<=y/o)|(?<=y\.o))"
    r"|\baged?\s+(?P<years>\d{1,3})\b"
)
_CHILD = re.compile(
    r"\b(?:baby|babies|infant|toddler|newborn|neonate|preschooler|preemie|child|children|kid|kids|kiddo|grandchild|pediatric|paediatric)\b"
)
_WEIGHT = re.compile(
    r"\b(?:weigh(?:s|ing|t)?(?:\s+(?:is|of|about|only))?\s*:?\s*)?(?P<number>\d{1,3}(?:\.\d+)?)[\s-]*(?P<unit>kgs?|kilos?|kilograms?|lbs?|pounds?)\b"
)
_YEARS = {"y": 1.0, "m": 1 / 12, "w": 1 / 52, "d": 1 / 365}
_LB_IN_KG = 0.4536


def check(checked: CheckedText) -> LayerFinding:
    """Doses above or below the usual range of their drug and route; what the tables lack is not judged."""
    age, weight = patient_age(checked), patient_weight(checked)
    is_child = age < ADULT_YEARS if age is not None else bool(_CHILD.search(checked.text.plain))
    findings = [
        finding
        for dose in checked.doses
        if (finding := _child(checked, dose, age, weight) if is_child else _adult(checked, dose, weight))
    ]
    message = "Check this dose with a pharmacist or prescriber before anybody takes it." if findings else ""
    return LayerFinding(layer=NAME, findings=tuple(findings), message=message)


def _adult(checked: CheckedText, dose: Dose, weight: float | None) -> Finding | None:
    usual = _adults().get((dose.drug.drugs[0], dose.route or "oral"))
    if usual is None or len(dose.drug.drugs) > 1 or dose.is_rarer_than_daily:
        return None
    kg = weight if dose.per_kg else 1.0
    side = _side(dose, usual, kg) if kg else None
    if side is None:
        return None
    message = (
        f"This dose of {usual.drug} is {side} the usual {usual.route} range of adults: {usual.single_min:g} to "
        f"{usual.single_max:g} {usual.unit} at a time, at most {usual.daily_max:g} {usual.unit} a day ({usual.source})."
    )
    return _finding(checked, dose, message, side)


def _side(dose: Dose, usual: DoseRange, kg: float) -> Literal["above", "below"] | None:
    """The side of the range on which the dose lies; None inside of it."""
    mg = 0.001 if usual.unit == "microgram" else 1.0
    low, high = dose.low_mg * kg, dose.high_mg * kg
    if dose.is_daily_total:
        low_day = high_day = None if dose.times_a_day else high
        single_high, single_low = 0.0, high
    else:
        low_day, high_day = (
            (low * dose.times_a_day, high * dose.times_a_day) if dose.times_a_day else (None, None)
        )
        single_high, single_low = high, high
    if (
        single_high > usual.single_max * mg * _ROUNDING
        or (high_day or 0.0) > usual.daily_max * mg * _ROUNDING
    ):
        return "above"
    most = high_day if high_day is not None else single_low
    if single_low < usual.single_min * mg / _ROUNDING and (
        low_day is None
        or most < usual.daily_min * mg / _ROUNDING
        or low_day < usual.daily_min * mg / _ROUNDING
    ):
        return "below"
    return None


_ROUNDING = 1.001


def _child(checked: CheckedText, dose: Dose, age: float | None, weight: float | None) -> Finding | None:
    """The finding of a child's dose: by weight where it is known, and never above an adult's."""
    drug, route = dose.drug.drugs[0], dose.route or "oral"
    adult, usual = _adults().get((drug, route)), _children().get((drug, route))
    if dose.is_rarer_than_daily or len(dose.drug.drugs) > 1:
        return None
    if usual and age is not None and age < usual.least_age_years:
        message = f"{drug} is not usual below the age of {usual.least_age_years:g} years ({usual.source})."
        return _finding(checked, dose, message, "above")
    if usual and _is_above_by_weight(dose, usual, weight):
        message = (
            f"This dose of {drug} is above the usual one of children: at most {usual.single_max_mg_per_kg:g} mg/kg "
            f"at a time and {usual.daily_max_mg_per_kg:g} mg/kg a day ({usual.source})."
        )
        return _finding(checked, dose, message, "above")
    if adult and not dose.per_kg and _side(dose, adult, 1.0) == "above":
        return _finding(
            checked,
            dose,
            f"This dose of {drug} is above the usual one even of adults ({adult.source}).",
            "above",
        )
    return None


def _is_above_by_weight(dose: Dose, usual: ChildDose, weight: float | None) -> bool:
    kg = 1.0 if dose.per_kg else weight
    if kg is None:
        return False
    amount = dose.high_mg / kg
    day = amount if dose.is_daily_total else amount * dose.times_a_day if dose.times_a_day else 0.0
    single = 0.0 if dose.is_daily_total else amount
    return single > usual.single_max_mg_per_kg * _ROUNDING or day > usual.daily_max_mg_per_kg * _ROUNDING


def _finding(checked: CheckedText, dose: Dose, message: str, side: Literal["above", "below"]) -> Finding:
    start, end = checked.text.original_span(dose.start, dose.end)
    return Finding(
        message=message, start=start, end=end, risk="high" if side == "above" else "moderate", code=side
    )


def patient_age(checked: CheckedText) -> float | None:
    """Years of age, by the patient context or the text; the youngest that the text names."""
    if checked.patient.age_years is not None:
        return checked.patient.age_years
    ages = [_age(match) for match in _AGE.finditer(checked.text.plain)]
    return min(ages, default=None)


def _age(match: re.Match[str]) -> float:
    if match["years"]:
        return float(match["years"])
    return float(match["number"]) * _YEARS[match["unit"][0]]


def patient_weight(checked: CheckedText) -> float | None:
    """Kilograms, by the patient context or the text."""
    if checked.patient.weight_kg is not None:
        return checked.patient.weight_kg
    match = next(iter(_weights(checked.text)), None)
    return float(match["number"]) * (1.0 if match["unit"].startswith("k") else _LB_IN_KG) if match else None


def _weights(text: ClinicalText) -> list[re.Match[str]]:
    return [
        match
        for match in _WEIGHT.finditer(text.plain)
        if text.plain[match.start() - 1 : match.start()] != "/"
    ]


@cache
def _adults() -> dict[tuple[str, str], DoseRange]:
    return tables.dose_ranges()


@cache
def _children() -> dict[tuple[str, str], ChildDose]:
    return tables.child_doses()
