"""FHIR bundles: a Patient with Encounters and Observations as bitemporal events, for the kernel that training used.

What can't be used (another unit, no time, a bound, a resource that no feature reads) is counted by reason, and no value
is repeated.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

import pyarrow as pa

from data_pipeline.features import kernel
from mediscale.core.errors import InputError
from mediscale.core.tables import EVENTS
from serving.requests import fhir_facts
from serving.requests.fhir_consistency import consistent
from serving.requests.fhir_elements import Resource, Unused
from serving.requests.fhir_facts import Fact
from serving.requests.fhir_subject import check_subject, is_of_patient

SUBJECT = 1
"""The bundle's one patient, among its events."""
MOST_REASONS = 50
"""That are told apart; a bundle can name as many kinds of resources as it has resources."""


@dataclass(frozen=True, slots=True)
class Bundle:
    """What a bundle says of one patient. Times are UTC without a zone."""

    patient: str
    """Reference of the Patient, as ``Patient/123``."""
    resource: Resource
    """The Patient itself."""
    encounter: str | None
    """Reference of the newest Encounter in hospital that has one."""
    events: pa.Table
    """``kernel.COLUMNS``, of the subject ``SUBJECT``."""
    prediction_time: datetime | None
    """Use what was known then; None: as for a patient of the lake."""
    unused: tuple[str, ...]
    """Sentences: what was not used, how often and why."""


def read(content: Resource, prediction_time: datetime | None = None) -> Bundle:
    """The events of a bundle.

    Raises:
        InputError: it is no Bundle of one Patient, or a resource in it is about somebody else.
    """
    resources = _resources(content)
    patients = [(at, each) for at, each in resources if _kind(each) == "Patient"]
    where, patient = _only(patients)
    names = {where, f"Patient/{patient.get('id')}"} - {"", "Patient/None"}
    unused: Counter[str] = Counter()
    if pages := further_pages(content):
        unused["further pages of resources, which were not sent"] = pages
    facts, encounter = [*_counted(fhir_facts.of_patient(patient), unused)], None
    latest, differing = datetime.min, _differing(resources)
    for number, (at, resource) in enumerate(resources):
        kind = _kind(resource)
        check_subject(resource, names, patient)
        if _reference("", resource) in differing:
            unused[f"{kind}s whose id stands twice in the Bundle, with other content"] += 1
        elif kind == "Encounter":
            own = list(_counted(fhir_facts.of_encounter(resource, number + 1), unused))
            facts += own
            if own and own[0].time >= latest and own[0].code.startswith("HOSPITAL_ADMISSION"):
                latest, encounter = own[0].time, _reference(at, resource)
        elif kind == "Observation" and not is_of_patient(resource.get("focus"), names):
            unused[
                "Observations of somebody or something else, such as a donor or a child unborn (focus)"
            ] += 1
        elif kind == "Observation":
            facts += _counted(fhir_facts.of_observation(resource, unused), unused)
        elif kind != "Patient":
            name = "other" if len(unused) >= MOST_REASONS else kind[:40] if kind.isalpha() else "unnamed"
            unused[f"{name} resources, which no model reads here"] += 1
    facts = [*consistent(facts, unused)]
    if later := sum(_came_later(fact, prediction_time) for fact in facts):
        unused["values that were not known by the prediction time"] += later
    reasons = tuple(f"{n} {reason}" for reason, n in sorted(unused.items()))
    reference = f"Patient/{patient['id']}" if patient.get("id") else where or "Patient/unknown"
    return Bundle(reference, patient, encounter, _events(facts), prediction_time, reasons)


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


def _only(patients: list[tuple[str, Resource]]) -> tuple[str, Resource]:
    """The one Patient; a record that was merged into another is refused, for what was measured since stands there."""
    if len(patients) != 1:
        raise InputError(f"The Bundle holds {len(patients)} Patient resources; send one patient at a time.")
    links = patients[0][1].get("link")
    for link in links if isinstance(links, list) else []:
        if isinstance(link, dict) and link.get("type") == "replaced-by":
            raise InputError(
                "The Patient was merged into another one (link replaced-by); send that one's record."
            )
    return patients[0]


def further_pages(content: Resource) -> int:
    """How many of the searches that a bundle answers go on elsewhere, by a link or because it counts more results."""
    links, entries = content.get("link"), content.get("entry")
    linked = sum(
        isinstance(link, dict) and link.get("relation") == "next"
        for link in (links if isinstance(links, list) else [])
    )
    total = content.get("total")
    there = (
        len(entries) if isinstance(entries, list) else 0
    )  # with those that it includes, which no total counts
    return linked or int(isinstance(total, int) and total > there)


def _reference(url: str, resource: Resource) -> str | None:
    return f"{_kind(resource)}/{resource['id']}" if resource.get("id") else url or None


def _kind(resource: Resource) -> str:
    return str(resource.get("resourceType") or "")


def _differing(resources: list[tuple[str, Resource]]) -> set[str]:
    """References of Encounters and Observations that stand in the bundle more than once and differ."""
    first: dict[str | None, Resource] = {}
    return {
        reference
        for _, resource in resources
        if _kind(resource) in ("Encounter", "Observation")
        and (reference := _reference("", resource))
        and first.setdefault(reference, resource) != resource
    }


def _came_later(fact: Fact, prediction_time: datetime | None) -> bool:
    return fact.value is not None and prediction_time is not None and fact.available > prediction_time


def _counted(facts: Iterator[Fact], unused: Counter[str]) -> Iterator[Fact]:
    """The facts until one can't be used, which is counted."""
    try:
        yield from facts
    except Unused as reason:
        unused[str(reason)] += 1


def _events(facts: Sequence[Fact]) -> pa.Table:
    schema = EVENTS.arrow_schema()
    columns = {
        "subject_id": [SUBJECT] * len(facts),
        "time": [fact.time for fact in facts],
        "code": [fact.code for fact in facts],
        "numeric_value": [fact.value for fact in facts],
        "available_time": [fact.available for fact in facts],
        "visit_id": [fact.visit for fact in facts],
        "event_id": list(range(len(facts))),
        "retracted": [False] * len(facts),
    }
    return pa.table(
        {name: pa.chunked_array([columns[name]], schema.field(name).type) for name in kernel.COLUMNS}
    )
