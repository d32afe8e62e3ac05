"""Facts of FHIR's resources: what a Patient, an Encounter and an Observation say, by the codes of our events.

An Observation was true at its effective time and known when it was issued, never before.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from data_pipeline.ingest.timestamps import LONGEST
from mediscale.core.concepts import CONCEPTS, Concept
from serving.requests.fhir_elements import (
    Resource,
    Unused,
    check_choice,
    check_modifiers,
    codes,
    instant,
    last_day,
)
from serving.requests.fhir_quantities import quantity

LOINC = "http://loinc.org"
INPATIENT = frozenset({"IMP", "ACUTE", "NONAC"})
"""Classes of an Encounter that are a stay in hospital."""
OBSERVATION_CLASS = "OBSENC"
_WITH_RESULT = frozenset({"preliminary", "final", "amended", "corrected", "appended"})
"""States of an Observation that hold a result."""
_DID_NOT_TAKE_PLACE = frozenset({"planned", "cancelled", "entered-in-error", "discontinued"})
"""States of an Encounter that was no stay."""
_ENDED = frozenset({"finished", "discharged", "completed"})
"""States of an Encounter that has ended."""
_DESTINATIONS = {
    "home": "HOME", "alt-home": "HOME", "hosp": "HOSPICE", "other-hcf": "TRANSFER", "exp": "DIED",
    "aadvice": "AMA", "snf": "FACILITY", "rehab": "FACILITY", "long": "FACILITY", "psy": "FACILITY", "oth": "OTHER",
}  # fmt: skip
"""FHIR's discharge dispositions → the destinations of our events."""
_PRIORITIES = {"EM": "EMERGENCY", "UR": "URGENT", "A": "URGENT", "EL": "ELECTIVE", "R": "ELECTIVE"}
"""HL7's priorities of an act → admission types."""

_BY_LOINC = {concept.loinc: concept for concept in CONCEPTS}
_LONG_AGO = datetime(1850, 1, 1)
"""When sex is taken to be known, where no birth is."""


@dataclass(frozen=True, slots=True)
class Fact:
    """What a resource says, as an event of our codes: when it was true, and when it was known."""

    code: str
    time: datetime
    available: datetime
    value: float | None = None
    visit: int | None = None


def of_patient(patient: Resource) -> Iterator[Fact]:
    """Birth, sex and death.

    Raises:
        Unused: one of them says nothing that can be used; those before it are yielded.
    """
    check_modifiers(patient)
    born = last_day(patient.get("birthDate"))
    if born:
        yield Fact("MEDS_BIRTH", born, born)
    code = {"female": "GENDER//F", "male": "GENDER//M"}.get(str(patient.get("gender")))
    if code:
        yield Fact(code, born or _LONG_AGO, born or _LONG_AGO)
    died, at = patient.get("deceasedDateTime"), None
    if isinstance(died, str):
        at = instant(died) or last_day(died)
        if at and at < (born or _LONG_AGO):
            raise Unused("deaths before the birth")
        if at:
            yield Fact("MEDS_DEATH", at, at)
    if (died and (not isinstance(died, str) or at is None)) or patient.get("deceasedBoolean") not in (
        None,
        False,
    ):
        raise Unused("deaths without a time")
    if patient.get("birthDate") and not born:
        raise Unused("births without a date such as 1950-06-01")


def of_encounter(encounter: Resource, visit: int) -> Iterator[Fact]:
    """Admission and discharge of the visit with that number.

    Raises:
        Unused: it is no stay in hospital, or its times can't be used.
    """
    check_modifiers(encounter)
    kind = _class(encounter)
    if kind not in INPATIENT and kind != OBSERVATION_CLASS:
        raise Unused("Encounters that are no stay in hospital (class IMP, ACUTE or NONAC)")
    if str(encounter.get("status")) in _DID_NOT_TAKE_PLACE:
        raise Unused("Encounters that did not take place (status)")
    period = encounter.get("period") or encounter.get("actualPeriod")
    period = period if isinstance(period, dict) else {}
    begun, ended = instant(period.get("start")), instant(period.get("end"))
    if begun is None:
        raise Unused("Encounters without the time of admission (period.start, with an offset)")
    if ended is not None and not begun <= ended <= begun + LONGEST:
        raise Unused("Encounters that end before they begin, or over ten years later")
    if ended is None and str(encounter.get("status")) in _ENDED:
        raise Unused("Encounters that are over, without the time of discharge (period.end, with an offset)")
    urgency = _PRIORITIES.get(next(codes(encounter.get("priority")), ("", ""))[1], "OTHER")
    admission = "OBSERVATION" if kind == OBSERVATION_CLASS else urgency
    yield Fact(f"HOSPITAL_ADMISSION//{admission}", begun, begun, visit=visit)
    if ended is not None:
        left = encounter.get("hospitalization") or encounter.get("admission")
        disposition = left.get("dischargeDisposition") if isinstance(left, dict) else None
        destination = _DESTINATIONS.get(next(codes(disposition), ("", ""))[1], "OTHER")
        yield Fact(f"HOSPITAL_DISCHARGE//{destination}", ended, ended, visit=visit)


def _class(encounter: Resource) -> str:
    """R4 has one Coding, R5 a list of concepts."""
    coding = encounter.get("class")
    if isinstance(coding, dict) and "code" in coding:
        return str(coding["code"])
    concepts = coding if isinstance(coding, list) else [coding]
    return next((code for concept in concepts for _, code in codes(concept)), "")


def of_observation(observation: Resource, unused: Counter[str]) -> Iterator[Fact]:
    """The value of each concept that it measures; values that can't be used are counted in ``unused``.

    Raises:
        Unused: no value of it can be used.
    """
    check_modifiers(observation)
    if str(observation.get("status")) not in _WITH_RESULT:
        raise Unused("Observations that hold no result (status)")
    at = _effective(observation)
    components = observation.get("component")
    own = [observation] if "valueQuantity" in observation or not components else []
    parts = [*own, *(components if isinstance(components, list) else [])]
    concepts = [(part, concept) for part in parts if isinstance(part, dict) and (concept := _concept(part))]
    if not concepts:
        raise Unused("Observations whose LOINC code no model reads")
    if at is None:
        raise Unused("Observations without an effective time with an hour and an offset")
    issued = instant(observation.get("issued"))
    if issued is None and observation.get("issued") is not None:
        raise Unused("Observations whose time of issue has no hour or no offset")
    available = max(at, issued or at)
    for part, concept in concepts:
        try:
            yield Fact(concept.code, at, available, quantity(part, concept))
        except Unused as reason:
            unused[str(reason)] += 1


def _effective(observation: Resource) -> datetime | None:
    """When an Observation was true: the end of a period, where it has one."""
    check_choice(observation, "effective", "Observations that say when they were true")
    period = observation.get("effectivePeriod")
    if not isinstance(period, dict):
        return instant(observation.get("effectiveDateTime") or observation.get("effectiveInstant"))
    begun, ended = instant(period.get("start")), instant(period.get("end"))
    if begun and ended and ended < begun:
        raise Unused("Observations whose period ends before it begins")
    return ended if period.get("end") is not None else begun


def _concept(part: Resource) -> Concept | None:
    named = {code for system, code in codes(part.get("code")) if system == LOINC and code in _BY_LOINC}
    if len(named) > 1:
        raise Unused("Observations whose LOINC codes name two values")
    return _BY_LOINC[named.pop()] if named else None
