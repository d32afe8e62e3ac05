"""Whose a resource of a bundle is: its subject has to be the bundle's one Patient, whom a hospital has numbers for."""

from data_pipeline.ingest import ndjson
from mediscale.core.errors import InputError
from serving.requests.fhir_elements import Resource, codes

_RECORD_NUMBER = "MR"
"""HL7's type of a medical record number."""


def check_subject(resource: Resource, names: set[str], patient: Resource) -> None:
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


def is_of_patient(focus: object, names: set[str]) -> bool:
    """Whether an Observation is about its subject, and not about the ``focus`` that stands beside it."""
    return not focus or all(
        isinstance(one, dict)
        and isinstance(reference := one.get("reference"), str)
        and _names(reference, names)
        for one in (focus if isinstance(focus, list) else [focus])
    )


def _names(reference: str, names: set[str]) -> bool:
    """Whether a reference is one of the Patient's ``names``, of whichever version and server."""
    reference, *_ = reference.partition("/_history/")
    return reference in names or any(reference.endswith(f"/{name}") for name in names if name)


def _is_identified(identifier: object, patient: Resource) -> bool:
    """Whether an identifier in place of a reference is one of the Patient's; true where there is none."""
    if not isinstance(identifier, dict) or identifier.get("value") is None:
        return True
    same = ("value", "system") if identifier.get("system") is not None else ("value",)
    return any(all(one.get(key) == identifier[key] for key in same) for one in _identifiers(patient))


def numbers(patient: Resource, path: str | None) -> list[str]:
    """What may be a hospital's own number of a Patient, the likeliest first. ``path`` is where the source of its lake
    reads it, if that is FHIR; else it is the record number of whoever has one, for an EHR's id may be the record number
    of somebody else; of others the id, or another identifier."""
    if path is not None:
        return [ndjson.value_at(patient, path) or ""]
    listed = _identifiers(patient)
    records = [one for one in listed if any(code == _RECORD_NUMBER for _, code in codes(one.get("type")))]
    if records:
        return [str(one.get("value") or "") for one in records]
    return [str(patient.get("id") or ""), *(str(one.get("value") or "") for one in listed)]


def _identifiers(patient: Resource) -> list[Resource]:
    own = patient.get("identifier")
    return [one for one in own if isinstance(one, dict)] if isinstance(own, list) else []
