"""Urgency and risk stratum of a note, each with the factors that raised it."""

from functools import cache
from pathlib import Path
from typing import Literal

from data_pipeline.clinical_text import phrases
from data_pipeline.clinical_text.context import Context
from data_pipeline.clinical_text.phrases import Phrases
from data_pipeline.clinical_text.text import ClinicalText
from data_pipeline.notes.analysis.fields import (
    ClinicalFinding,
    Medication,
    RiskFactor,
    RiskStratum,
    Urgency,
    Vital,
)
from data_pipeline.notes.analysis.sections import Sections
from mediscale.core.bedside_rules import NEWS2

_GRAVE = frozenset({
    "congestive heart failure", "coronary artery disease", "myocardial infarction", "stroke", "chronic kidney disease",
    "end stage renal disease", "cirrhosis", "copd", "cancer", "dementia", "diabetes", "sepsis", "respiratory failure",
    "pulmonary embolism",
})  # fmt: skip
"""Chronic and acute conditions of the usual indices of comorbidity."""
_EXERCISE = frozenset({"treadmill", "bruce", "stress"})
"""Words of tests in which a fast heart is meant to be."""
_MANY_DRUGS = 8
_HIGH = 4


def urgency(
    text: ClinicalText, context: Context, sections: Sections, vitals: list[Vital]
) -> tuple[Urgency, list[RiskFactor]]:
    """The urgency, how soon somebody must act, by words of now and by vital signs."""
    factors: dict[str, list[RiskFactor]] = {"emergency": [], "urgent": []}
    for match in _words().find(text):
        section = sections.kind(text.starts[match.first])
        is_now = not context.is_past(match.first) and section not in (
            "past",
            "family",
            "social",
            "review",
            "plan",
        )
        if is_now and not context.is_negated(match.first, match.last):
            start, end = text.span(match.first, match.last)
            factors[match.label].append(
                RiskFactor(name=" ".join(text.words[match.first : match.last]), start=start, end=end)
            )
    if _EXERCISE.isdisjoint(text.vocabulary):
        factors["emergency"] += dangerous(vitals)
        score, scored = news2(vitals)
        if score >= _EMERGENCY_SCORE:
            factors["emergency"] += scored
        elif score >= _URGENT_SCORE or any(_points(vital) == _RED for vital in vitals):
            factors["urgent"] += scored
    for level in ("emergency", "urgent"):
        if factors[level]:
            return level, _once(factors[level])
    return "routine", []


def dangerous(vitals: list[Vital]) -> list[RiskFactor]:
    """Vital signs that are so far off that each alone is an emergency; the limits are a judgement of ours."""
    return [
        _factor(vital)
        for vital in vitals
        if vital.kind in _LIMITS and _is_beyond(vital, *_LIMITS[vital.kind])
    ]


def _is_beyond(vital: Vital, low: float, high: float) -> bool:
    """Whether the value, or each that a bound leaves open, is none between the limits."""
    number = _number(vital.value)
    return (number <= low and not vital.value.startswith(">")) or (
        number >= high and not vital.value.startswith("<")
    )


_LIMITS = {
    "blood pressure": (80.0, 220.0),
    "heart rate": (40.0, 140.0),
    "respiratory rate": (8.0, 35.0),
    "oxygen saturation": (85.0, 101.0),
}


def news2(vitals: list[Vital]) -> tuple[int, list[RiskFactor]]:
    """National Early Warning Score 2 (Royal College of Physicians 2017) of the worst value of each sign that is
    written, and the signs that have points; consciousness and oxygen given are not counted."""
    worst: dict[str, Vital] = {}
    for vital in vitals:
        if vital.kind not in worst or _points(vital) > _points(worst[vital.kind]):
            worst[vital.kind] = vital
    scored = [vital for vital in worst.values() if _points(vital)]
    return sum(map(_points, scored)), [_factor(vital) for vital in scored]


_URGENT_SCORE, _EMERGENCY_SCORE, _RED = 5, 7, 3
"""The score's thresholds of an urgent and of an emergency response; one sign with three points is urgent, too."""
_POINTS = {
    "blood pressure": NEWS2["systolic_blood_pressure"],
    "heart rate": NEWS2["heart_rate"],
    "respiratory rate": NEWS2["respiratory_rate"],
    "oxygen saturation": NEWS2["oxygen_saturation"],
    "temperature": NEWS2["temperature"],
}
"""Of each sign; of a blood pressure the systolic."""


def _points(vital: Vital) -> int:
    """The points of a sign; of a bound the fewest that it leaves open, for "SpO2 > 92 %" is mostly what is aimed at."""
    bands = _POINTS.get(vital.kind)
    if bands is None:
        return 0
    value = _celsius(_number(vital.value)) if vital.kind == "temperature" else _number(vital.value)
    at = next(i for i, (most, _) in enumerate(bands) if value <= most)
    if vital.value.startswith("<"):
        return min(points for _, points in bands[: at + 1])
    if vital.value.startswith(">"):
        return min(points for _, points in bands[at:])
    return bands[at][1]


def _celsius(temperature: float) -> float:
    """A body's temperature, which is one of Fahrenheit's where it would boil otherwise."""
    return round((temperature - 32) / 1.8, 1) if temperature > _HOTTEST else temperature


_HOTTEST = 60.0
"""Degrees Celsius that no body has."""


def _factor(vital: Vital) -> RiskFactor:
    return RiskFactor(name=f"{vital.kind} {vital.value}", start=vital.start, end=vital.end)


def _number(value: str) -> float:
    return float(value.lstrip("<>").partition("/")[0])


def risk(
    text: ClinicalText,
    conditions: list[ClinicalFinding],
    medications: list[Medication],
    acute: list[RiskFactor],
) -> RiskStratum:
    """The risk stratum, by the number of factors: grave conditions, age, many drugs, signs of an emergency."""
    factors = [
        RiskFactor(name=finding.name, start=finding.start, end=finding.end)
        for finding in conditions
        if finding.status == "present" and finding.name in _GRAVE
    ]
    factors += acute[:2]
    if len(medications) >= _MANY_DRUGS:
        factors.append(
            RiskFactor(name=f"{len(medications)} drugs", start=medications[0].start, end=medications[-1].end)
        )
    age = _age(text)
    factors += [age] if age else []
    level: Literal["low", "moderate", "high"] = (
        "high" if len(factors) >= _HIGH else "moderate" if len(factors) > 1 else "low"
    )
    return RiskStratum(level=level, factors=tuple(factors))


_OLD = 75


def _age(text: ClinicalText) -> RiskFactor | None:
    """A factor of age, where the note says that the patient is old."""
    for i in range(len(text.words) - 2):
        if (
            text.words[i].isdigit()
            and text.words[i + 1] in ("year", "yr", "years")
            and text.words[i + 2] == "old"
        ):
            start, end = text.span(i, i + 3)
            return (
                RiskFactor(name=f"age of {_OLD} or more", start=start, end=end)
                if int(text.words[i]) >= _OLD
                else None
            )
    return None


def _once(factors: list[RiskFactor]) -> list[RiskFactor]:
    return list({factor.name: factor for factor in reversed(factors)}.values())[::-1]


@cache
def _words() -> Phrases:
    return Phrases(phrases.load(Path(__file__).with_name("urgency.yaml")))
