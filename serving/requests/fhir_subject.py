"""Whose a resource of a bundle is: its subject has to be the bundle's one Patient."""

from mediscale.core.errors import InputError
from serving.requests.fhir_elements import Resource


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
    own = patient.get("identifier")
    same = ("value", "system") if identifier.get("system") is not None else ("value",)
    return any(
        isinstance(one, dict) and all(one.get(key) == identifier[key] for key in same)
        for one in (own if isinstance(own, list) else [])
    )
