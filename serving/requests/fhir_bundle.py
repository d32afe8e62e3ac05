"""FHIR bundles: a Patient with Encounters and Observations as bitemporal events, for the kernel that training used.

FHIR R4 and R5. An Observation was true at its effective time and known when it was issued, never before. What can't be
used (another unit, no time, a bound, a resource that no feature reads) is counted by reason, and no value is repeated.
"""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pyarrow as pa

from data_pipeline.features import kernel
from data_pipeline.ingest.timestamps import LONGEST
from mediscale.core.concepts import CONCEPTS, SCORE, Concept
from mediscale.core.errors import InputError
from mediscale.core.tables import EVENTS
from serving.schemas import ADULT

LOINC = "http://loinc.org"
INPATIENT = frozenset({"IMP", "ACUTE", "NONAC"})
"""Classes of an Encounter that are a stay in hospital."""
OBSERVATION_CLASS = "OBSENC"
_SAID = frozenset({"preliminary", "final", "amended", "corrected", "appended"})
"""States of an Observation that hold a result."""
_NOT_HELD = frozenset({"planned", "cancelled", "entered-in-error", "discontinued"})
"""States of an Encounter that was no stay."""
_OVER = frozenset({"finished", "discharged", "completed"})
"""States of an Encounter that has ended."""
_DESTINATIONS = {
    "home": "HOME", "alt-home": "HOME", "hosp": "HOSPICE", "other-hcf": "TRANSFER", "exp": "DIED",
    "aadvice": "AMA", "snf": "FACILITY", "rehab": "FACILITY", "long": "FACILITY", "psy": "FACILITY", "oth": "OTHER",
}  # fmt: skip
"""FHIR's discharge dispositions → the destinations of our events."""
_PRIORITIES = {"EM": "EMERGENCY", "UR": "URGENT", "A": "URGENT", "EL": "ELECTIVE", "R": "ELECTIVE"}
"""HL7's priorities of an act → admission types."""

_SAME_UNITS = {
    "/min": {"bpm"}, "10*3/uL": {"10*9/L", "K/uL"}, "mmol/L": {"meq/L", "mEq/L"},
    "[pH]": {"pH", "1"}, "{score}": {"1"}, "{INR}": {"1"}, "Cel": {"C", "°C"}, "U/L": {"[IU]/L"},
}  # fmt: skip
"""Other writings of a unit that mean the same number."""
_ANNOTATION = re.compile(r"\{[^{}]*\}")
"""A remark within a unit, which by UCUM changes nothing: ``{beats}/min`` is ``/min``."""
_FACTORS = {
    ("weight", "g"): 0.001, ("weight", "[lb_av]"): 0.45359237, ("height", "m"): 100.0, ("height", "[in_i]"): 2.54,
    ("creatinine", "umol/L"): 1 / 88.42, ("bilirubin", "umol/L"): 1 / 17.104, ("glucose", "mmol/L"): 18.016,
    ("urea_nitrogen", "mmol/L"): 2.801, ("hemoglobin", "g/L"): 0.1, ("albumin", "g/L"): 0.1,
    ("lactate", "mg/dL"): 1 / 9.008,
    ("calcium", "mmol/L"): 4.008, ("magnesium", "mmol/L"): 2.431, ("phosphate", "mmol/L"): 3.097,
    ("pco2", "kPa"): 7.50062, ("po2", "kPa"): 7.50062, ("crp", "mg/dL"): 10.0, ("fio2", "1"): 100.0,
    ("hematocrit", "1"): 100.0, ("urine_output", "L"): 1000.0,
}  # fmt: skip
"""(concept, UCUM unit) → what a value is multiplied with; by molar mass where moles are counted."""
_FAHRENHEIT = frozenset({"[degF]", "F", "°F"})

_BY_LOINC = {concept.loinc: concept for concept in CONCEPTS}
_PRESSURES = tuple(
    next(concept.code for concept in CONCEPTS if concept.name == f"{which}_blood_pressure")
    for which in ("diastolic", "mean", "systolic")
)
"""In the order of what they can be."""
_TIME = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}(:\d{2}(\.\d+)?)?(Z|[+-]\d{2}:\d{2})")
_DATE = re.compile(r"([0-9]{4})(?:-([0-9]{2})(?:-([0-9]{2})(?:T.*)?)?)?")
_LONG_AGO = datetime(1850, 1, 1)
"""When sex is taken to be known, where no birth is."""
SUBJECT = 1
"""The bundle's one patient, among its events."""

Resource = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Bundle:
    """What a bundle says of one patient. Times are UTC without a zone."""

    patient: str
    """Reference of the Patient, as ``Patient/123``."""
    encounter: str | None
    """Reference of the newest Encounter in hospital that has one."""
    events: pa.Table
    """``kernel.COLUMNS``, of the subject ``SUBJECT``."""
    prediction_time: datetime | None
    """Use what was known then; None: as for a patient of the lake."""
    unused: tuple[str, ...]
    """Sentences: what was not used, how often and why."""


class _Unused(Exception):  # noqa: N818 -- no failure: the reason why a resource is counted and left out
    pass


@dataclass(frozen=True, slots=True)
class _Fact:
    code: str
    time: datetime
    known: datetime
    value: float | None = None
    visit: int | None = None


def read(content: Resource, prediction_time: datetime | None = None) -> Bundle:
    """The events of a bundle.

    Raises:
        InputError: it is no Bundle of one Patient, or a resource in it is about somebody else.
    """
    resources = _resources(content)
    patients = [(at, each) for at, each in resources if each.get("resourceType") == "Patient"]
    if len(patients) != 1:
        raise InputError(f"The Bundle holds {len(patients)} Patient resources; send one patient at a time.")
    where, patient = patients[0]
    names = {where, f"Patient/{patient.get('id')}"} - {"", "Patient/None"}
    unused: Counter[str] = Counter()
    if pages := _further_pages(content):
        unused["further pages of resources, which were not sent"] = pages
    facts, encounter = [*_noted(_demographics(patient), unused)], None
    latest, differing = datetime.min, _differing(resources)
    for number, (at, resource) in enumerate(resources):
        kind = str(resource.get("resourceType"))
        _check_subject(resource, names, patient)
        if _reference("", resource) in differing:
            unused[f"{kind}s whose id stands twice in the Bundle, with other content"] += 1
        elif kind == "Encounter":
            own = list(_noted(_visit(resource, number + 1), unused))
            facts += own
            if own and own[0].time >= latest and own[0].code.startswith("HOSPITAL_ADMISSION"):
                latest, encounter = own[0].time, _reference(at, resource)
        elif kind == "Observation":
            facts += _noted(_measurements(resource, names, unused), unused)
        elif kind != "Patient":
            unused[f"{kind[:40] if kind.isalpha() else 'unnamed'} resources, which no model reads here"] += 1
    facts = [*_agreeing(facts, unused)]
    reasons = tuple(f"{n} {reason}" for reason, n in sorted(unused.items()))
    reference = f"Patient/{patient['id']}" if patient.get("id") else where or "Patient/unknown"
    return Bundle(reference, encounter, _events(facts), prediction_time, reasons)


def _resources(content: Resource) -> list[tuple[str, Resource]]:
    """(full URL, resource) of each entry."""
    entries = content.get("entry", [])
    if content.get("resourceType") != "Bundle" or not isinstance(entries, list):
        raise InputError("The body must be a FHIR Bundle: a JSON object whose resourceType is Bundle.")
    resources: list[tuple[str, Resource]] = []
    for number, entry in enumerate(entries, start=1):
        resource = entry.get("resource") if isinstance(entry, dict) else None
        if not isinstance(resource, dict):
            raise InputError(f"Entry {number} of the Bundle holds no resource.")
        url = entry.get("fullUrl")
        resources.append((url if isinstance(url, str) else "", resource))
    return resources


def _further_pages(content: Resource) -> int:
    """How many of the searches that a bundle answers go on elsewhere."""
    links = content.get("link")
    return sum(
        isinstance(link, dict) and link.get("relation") == "next"
        for link in (links if isinstance(links, list) else [])
    )


def _reference(url: str, resource: Resource) -> str | None:
    return f"{resource['resourceType']}/{resource['id']}" if resource.get("id") else url or None


def _differing(resources: list[tuple[str, Resource]]) -> set[str]:
    """References of Encounters and Observations that stand in the bundle more than once and differ."""
    first: dict[str, Resource] = {}
    differing = set()
    for _, resource in resources:
        if resource.get("resourceType") in ("Encounter", "Observation") and resource.get("id"):
            reference = f"{resource['resourceType']}/{resource['id']}"
            if first.setdefault(reference, resource) != resource:
                differing.add(reference)
    return differing


def _check_subject(resource: Resource, names: set[str], patient: Resource) -> None:
    """Refuses a resource about another patient: a sender who mixes two patients up would get one risk for both."""
    subject = resource.get("subject")
    reference = subject.get("reference") if isinstance(subject, dict) else subject
    if reference is None:
        if isinstance(subject, dict) and not _is_identified(subject.get("identifier"), patient):
            raise InputError(
                f"A resource ({resource.get('resourceType')}) of the Bundle names its patient by an identifier that "
                "the Patient does not have."
            )
        return
    if not isinstance(reference, str):
        raise InputError("A subject in the Bundle is no reference to a Patient.")
    if not _names(reference, names):
        kind = resource.get("resourceType")
        raise InputError(f"A resource ({kind}) of the Bundle is about another patient than its Patient.")


def _names(reference: str, names: set[str]) -> bool:
    """Whether a reference is one of the Patient's ``names``, of whichever version and server."""
    reference, *_ = reference.partition("/_history/")
    return reference in names or any(reference.endswith(f"/{name}") for name in names if name)


def _is_of_patient(focus: object, names: set[str]) -> bool:
    """Whether an Observation is about its subject, and not about the ``focus`` that stands beside it."""
    return not focus or all(
        isinstance(one, dict)
        and isinstance(reference := one.get("reference"), str)
        and _names(reference, names)
        for one in (focus if isinstance(focus, list) else [focus])
    )


def _is_identified(identifier: object, patient: Resource) -> bool:
    """Whether an identifier in place of a reference is one of the Patient's; true where there is none."""
    if not isinstance(identifier, dict) or identifier.get("value") is None:
        return True
    own = patient.get("identifier")
    same = ("value", "system") if identifier.get("system") is not None else ("value",)
    return any(
        isinstance(one, dict) and all(one.get(key) == identifier[key] for key in same)
        for one in (own if isinstance(own, list) else [])
    )


def _agreeing(facts: Sequence[_Fact], unused: Counter[str]) -> Iterator[_Fact]:
    """The facts without those that can't be true together: an age that nobody reaches, pressures swapped."""
    admitted = [fact.time for fact in facts if fact.code.startswith("HOSPITAL_ADMISSION")]
    oldest = min(admitted, default=datetime.max)
    pressures: dict[datetime, list[tuple[int, float]]] = defaultdict(list)
    for fact in facts:
        if fact.code in _PRESSURES and fact.value is not None:
            pressures[fact.time].append((_PRESSURES.index(fact.code), fact.value))
    disordered = {time for time, measured in pressures.items() if not _are_in_order(measured)}
    for fact in facts:
        if fact.code in _PRESSURES and fact.time in disordered:
            unused["blood pressures of a moment that are not in order (diastolic, mean, systolic)"] += 1
        elif fact.code == "MEDS_BIRTH" and oldest < datetime.max and oldest.year - fact.time.year > ADULT[1]:
            unused[f"births more than {ADULT[1]:g} years before the admission"] += 1
        else:
            yield fact


def _are_in_order(pressures: Sequence[tuple[int, float]]) -> bool:
    """Whether no pressure is above one that bounds it; each is (its kind's place in ``_PRESSURES``, value)."""
    highest = -math.inf
    for kind in range(len(_PRESSURES)):
        values = [value for place, value in pressures if place == kind]
        if min(values, default=math.inf) < highest:
            return False
        highest = max(highest, *values) if values else highest
    return True


def _noted(facts: Iterator[_Fact], unused: Counter[str]) -> Iterator[_Fact]:
    """The facts until one can't be used, which is counted."""
    try:
        yield from facts
    except _Unused as reason:
        unused[str(reason)] += 1


def _demographics(patient: Resource) -> Iterator[_Fact]:
    _check_modifiers(patient)
    born = _birth(patient.get("birthDate"))
    if born:
        yield _Fact("MEDS_BIRTH", born, born)
    code = {"female": "GENDER//F", "male": "GENDER//M"}.get(str(patient.get("gender")))
    if code:
        yield _Fact(code, born or _LONG_AGO, born or _LONG_AGO)
    died, at = patient.get("deceasedDateTime"), None
    if isinstance(died, str):
        at = _time(died) or _birth(died)
        if at and at < (born or _LONG_AGO):
            raise _Unused("deaths before the birth")
        if at:
            yield _Fact("MEDS_DEATH", at, at)
    if (died and (not isinstance(died, str) or at is None)) or patient.get("deceasedBoolean") not in (
        None,
        False,
    ):
        raise _Unused("deaths without a time")
    if patient.get("birthDate") and not born:
        raise _Unused("births without a date such as 1950-06-01")


def _birth(text: object) -> datetime | None:
    """The last day that a date may mean, so that nobody is taken for an adult too early."""
    match = _DATE.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        return None
    year, month, day = (int(part) if part else None for part in match.groups())
    assert year is not None  # the pattern's first group always matches
    try:
        if day is not None and month is not None:
            return datetime(year, month, day)
        following = date(year + (month in (None, 12)), (month or 12) % 12 + 1, 1)
        return datetime.combine(following, datetime.min.time()) - timedelta(days=1)
    except ValueError:
        return None


def _check_modifiers(resource: Resource) -> None:
    """Modifiers: by FHIR's rule one that a reader does not know may turn what is said into its opposite."""
    if resource.get("modifierExtension") or resource.get("implicitRules"):
        kind = resource.get("resourceType", "component")
        raise _Unused(f"{kind}s with a modifier, which may change what they say")


def _visit(encounter: Resource, visit: int) -> Iterator[_Fact]:
    _check_modifiers(encounter)
    kind = _class(encounter)
    if kind not in INPATIENT and kind != OBSERVATION_CLASS:
        raise _Unused("Encounters that are no stay in hospital (class IMP, ACUTE or NONAC)")
    if str(encounter.get("status")) in _NOT_HELD:
        raise _Unused("Encounters that did not take place (status)")
    period = encounter.get("period") or encounter.get("actualPeriod")
    period = period if isinstance(period, dict) else {}
    begun, ended = _time(period.get("start")), _time(period.get("end"))
    if begun is None:
        raise _Unused("Encounters without the time of admission (period.start, with an offset)")
    if ended is not None and not begun <= ended <= begun + LONGEST:
        raise _Unused("Encounters that end before they begin, or over ten years later")
    if ended is None and str(encounter.get("status")) in _OVER:
        raise _Unused("Encounters that are over, without the time of discharge (period.end, with an offset)")
    urgency = _PRIORITIES.get(next(_codes(encounter.get("priority")), ("", ""))[1], "OTHER")
    admission = "OBSERVATION" if kind == OBSERVATION_CLASS else urgency
    yield _Fact(f"HOSPITAL_ADMISSION//{admission}", begun, begun, visit=visit)
    if ended is not None:
        left = encounter.get("hospitalization") or encounter.get("admission")
        disposition = left.get("dischargeDisposition") if isinstance(left, dict) else None
        destination = _DESTINATIONS.get(next(_codes(disposition), ("", ""))[1], "OTHER")
        yield _Fact(f"HOSPITAL_DISCHARGE//{destination}", ended, ended, visit=visit)


def _class(encounter: Resource) -> str:
    """R4 has one Coding, R5 a list of concepts."""
    coding = encounter.get("class")
    if isinstance(coding, dict) and "code" in coding:
        return str(coding["code"])
    concepts = coding if isinstance(coding, list) else [coding]
    return next((code for concept in concepts for _, code in _codes(concept)), "")


def _measurements(observation: Resource, names: set[str], unused: Counter[str]) -> Iterator[_Fact]:
    _check_modifiers(observation)
    if not _is_of_patient(observation.get("focus"), names):
        raise _Unused("Observations of somebody or something else, such as a donor or a child unborn (focus)")
    if str(observation.get("status")) not in _SAID:
        raise _Unused("Observations that hold no result (status)")
    period = observation.get("effectivePeriod")
    of_period = period.get("end") or period.get("start") if isinstance(period, dict) else None
    at = _time(observation.get("effectiveDateTime") or observation.get("effectiveInstant") or of_period)
    components = observation.get("component")
    own = [observation] if "valueQuantity" in observation or not components else []
    parts = [*own, *(components if isinstance(components, list) else [])]
    concepts = [(part, concept) for part in parts if isinstance(part, dict) and (concept := _concept(part))]
    if not concepts:
        raise _Unused("Observations whose LOINC code no model reads")
    if at is None:
        raise _Unused("Observations without an effective time with an hour and an offset")
    issued = _time(observation.get("issued"))
    if issued is None and observation.get("issued") is not None:
        raise _Unused("Observations whose time of issue has no hour or no offset")
    available = max(at, issued or at)
    for part, concept in concepts:
        try:
            yield _Fact(concept.code, at, available, _quantity(part, concept))
        except _Unused as reason:
            unused[str(reason)] += 1


def _concept(part: Resource) -> Concept | None:
    named = {code for system, code in _codes(part.get("code")) if system == LOINC and code in _BY_LOINC}
    if len(named) > 1:
        raise _Unused("Observations whose LOINC codes name two values")
    return _BY_LOINC[named.pop()] if named else None


def _quantity(part: Resource, concept: Concept) -> float:
    _check_modifiers(part)
    if part.get("dataAbsentReason") is not None:
        raise _Unused(f"Observations of {concept.name} that say why there is no value")
    quantity = part.get("valueQuantity")
    value = quantity.get("value") if isinstance(quantity, dict) else None
    if not isinstance(quantity, dict) or isinstance(value, bool) or not isinstance(value, int | float):
        raise _Unused(f"Observations of {concept.name} without a number")
    if quantity.get("comparator"):
        raise _Unused(f"Observations of {concept.name} that are only a bound")
    code, unit = str(quantity.get("code") or ""), str(quantity.get("unit") or "")
    converted = _converted(_number(value), concept, code or unit)
    if code and unit and _differ(converted, _number(value), concept, unit):
        raise _Unused(f"Observations of {concept.name} whose code and text name two units")
    if concept.unit == SCORE and not converted.is_integer():
        raise _Unused(f"Observations of {concept.name} that are no whole number")
    if not concept.low <= converted <= concept.high:
        limits = f"{concept.low:g} to {concept.high:g} {concept.unit}"
        raise _Unused(f"Observations of {concept.name} outside what a record can hold ({limits})")
    return converted


def _number(value: float) -> float:
    """What is too large for a number is out of every range."""
    try:
        return float(value)
    except OverflowError:
        return math.inf


def _differ(converted: float, value: float, concept: Concept, unit: str) -> bool:
    """Whether another writing of the unit, where it is a known one, makes another value."""
    try:
        other = _converted(value, concept, unit)
    except _Unused:
        return False
    return abs(other - converted) > abs(converted) / 1000


def _converted(value: float, concept: Concept, unit: str) -> float:
    if concept.name == "temperature" and unit in _FAHRENHEIT:
        return (value - 32) / 1.8
    if unit == concept.unit or unit in _SAME_UNITS.get(concept.unit, ()):
        return value
    if (concept.name, unit) in _FACTORS:
        return value * _FACTORS[concept.name, unit]
    if _ANNOTATION.search(unit):
        return _converted(value, concept, _ANNOTATION.sub("", unit) or "1")
    raise _Unused(f"Observations of {concept.name} in a unit that is not converted to {concept.unit}")


def _codes(concept: object) -> Iterator[tuple[str, str]]:
    """(system, code) of a CodeableConcept."""
    codings = concept.get("coding") if isinstance(concept, dict) else None
    for coding in codings if isinstance(codings, list) else []:
        if isinstance(coding, dict) and isinstance(coding.get("code"), str):
            yield str(coding.get("system", "")), coding["code"]


def _time(text: object) -> datetime | None:
    """A FHIR instant in UTC without a zone; None for a day alone, which has no hour."""
    if not isinstance(text, str) or not _TIME.fullmatch(text):
        return None
    try:
        return utc(datetime.fromisoformat(text))
    except (ValueError, OverflowError):
        return None


def utc(time: datetime) -> datetime:
    """A time with its offset as all times here are: UTC without a zone."""
    return time.astimezone(UTC).replace(tzinfo=None)


def _events(facts: Sequence[_Fact]) -> pa.Table:
    schema = EVENTS.arrow_schema()
    columns = {
        "subject_id": [SUBJECT] * len(facts),
        "time": [fact.time for fact in facts],
        "code": [fact.code for fact in facts],
        "numeric_value": [fact.value for fact in facts],
        "available_time": [fact.known for fact in facts],
        "visit_id": [fact.visit for fact in facts],
        "event_id": list(range(len(facts))),
        "retracted": [False] * len(facts),
    }
    return pa.table(
        {name: pa.chunked_array([columns[name]], schema.field(name).type) for name in kernel.COLUMNS}
    )
