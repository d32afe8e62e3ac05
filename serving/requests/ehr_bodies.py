"""Bodies of an electronic health record: a FHIR Bundle of one patient, or a request of the hook ``patient-view``."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from mediscale.core.errors import InputError, NotFoundError
from serving.requests import fhir_bundle, json_body
from serving.requests.fhir_bundle import Bundle
from serving.requests.request import Patient

HOOK = "patient-view"
_SEARCHES = ("encounters", "observations")
_BUNDLE = '{"resourceType": "Bundle", "type": "collection", "entry": []}'
_HOOK = f'{{"hook": "{HOOK}", "hookInstance": "…", "context": {{"patientId": "…"}}}}'


class NotPrefetchedError(NotFoundError):
    """A search of the EHR that failed: nothing measured and nothing sent are not the same."""


def bundle(body: bytes, prediction_time: datetime | None) -> Bundle:
    """The patient of a Bundle.

    Raises:
        InputError: as ``json_body.read`` and ``fhir_bundle.read``.
    """
    return fhir_bundle.read(json_body.read(body, _BUNDLE), prediction_time)


def hook(body: bytes) -> Bundle | Patient:
    """The patient of a hook: by what the EHR prefetched, else as the lake knows them.

    Raises:
        InputError: it is another hook, names no patient, or the prefetched resources are another patient's.
        NotPrefetchedError: a search of the EHR failed.
    """
    hook = json_body.read(body, _HOOK)
    context, prefetch = hook.get("context"), hook.get("prefetch")
    patient_id = context.get("patientId") if isinstance(context, dict) else None
    if hook.get("hook") != HOOK or not isinstance(patient_id, str) or not patient_id:
        raise InputError(f"The body must be a request of the hook {HOOK} with context.patientId.")
    prefetch = prefetch if isinstance(prefetch, dict) else {}
    resources = list(_prefetched(prefetch))
    if not any(one.get("resourceType") == "Patient" for one in resources):
        return Patient(patient_id, None)
    entries = [{"resource": one} for one in resources]
    bundle = fhir_bundle.read({"resourceType": "Bundle", "entry": entries, "link": list(_further(prefetch))})
    if bundle.patient != f"Patient/{patient_id}":
        raise InputError("The prefetched Patient is another one than context.patientId.")
    if failed := [name for name in _SEARCHES if not _is_answered(prefetch.get(name))]:
        raise NotPrefetchedError(
            f"The EHR did not send what it holds of this patient: no result of the prefetch {' and '.join(failed)}."
        )
    return bundle


def _is_answered(content: object) -> bool:
    return isinstance(content, dict) and content.get("resourceType") == "Bundle"


def _prefetched(prefetch: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The resources, those of search results among them; a query that failed is null."""
    for content in prefetch.values():
        if isinstance(content, dict) and content.get("resourceType") == "Bundle":
            entries = content.get("entry")
            for entry in entries if isinstance(entries, list) else []:
                resource = entry.get("resource") if isinstance(entry, dict) else None
                if isinstance(resource, dict) and resource.get("resourceType") != "OperationOutcome":
                    yield resource
        elif isinstance(content, dict) and content.get("resourceType") != "OperationOutcome":
            yield content


def _further(prefetch: dict[str, Any]) -> Iterator[dict[str, str]]:
    """A link for each search that goes on elsewhere."""
    for content in prefetch.values():
        pages = fhir_bundle.further_pages(content) if isinstance(content, dict) else 0
        yield from ({"relation": "next"} for _ in range(pages))
