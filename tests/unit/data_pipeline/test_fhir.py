"""What a FHIR bulk export states in more than one way."""

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.brute_force_cells import events_of
from mediscale.core.settings import Settings


def request(number: int, **drug: Any) -> dict[str, Any]:
    return {
        "id": f"r{number}",
        "subject": {"reference": "Patient/p1"},
        "encounter": {"reference": "Encounter/e1"},
        "authoredOn": f"2024-03-02T1{number}:00:00Z",
        "status": "active",
        **drug,
    }


@pytest.mark.parametrize("listed", [True, False])
def test_a_drug_is_named_in_its_request_or_in_the_medication_that_it_refers_to(
    listed: bool, tmp_path: Path, settings: Settings
) -> None:
    """A request whose Medication the extract lacks names no drug, and states none."""
    stay = {"start": "2024-03-01T08:00:00Z", "end": "2024-03-05T08:00:00Z"}
    files: dict[str, list[dict[str, Any]]] = {
        "Patient": [{"id": "p1", "birthDate": "1950-01-01", "gender": "female"}],
        "Encounter": [
            {"id": "e1", "subject": {"reference": "Patient/p1"}, "period": stay, "class": {"code": "IMP"}}
        ],
        "MedicationRequest": [
            request(1, medicationCodeableConcept={"text": "Furosemide 40 MG"}),
            request(2, medicationCodeableConcept={"coding": [{"display": "Insulin"}]}),
            request(3, medicationReference={"reference": "Medication/m1"}),
        ],
        "Medication": [{"id": "m1", "code": {"text": "Vancomycin 1 GM"}}] if listed else [],
    }
    for name, records in files.items():
        if records:
            (tmp_path / f"{name}.ndjson").write_text("\n".join(json.dumps(one) for one in records))
    codes = events_of(settings, "fhir", tmp_path)["code"].to_pylist()
    assert {code for code in codes if code.startswith(("MEDICATION", "TREATMENT"))} == {
        "MEDICATION//furosemide 40 mg",
        "MEDICATION//insulin",
        "TREATMENT//diuretic",
        "TREATMENT//insulin",
        *(["MEDICATION//vancomycin 1 gm", "TREATMENT//antibiotic"] if listed else []),
    }


TURNED = {"url": "urn:not-done", "valueBoolean": True}


def observed(number: int, **said: Any) -> dict[str, Any]:
    """Potassium of 4, or what is said instead."""
    return {
        "id": f"o{number}",
        "subject": {"reference": "Patient/p1"},
        "encounter": {"reference": "Encounter/e1"},
        "effectiveDateTime": f"2024-03-02T1{number}:00:00Z",
        "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": "2823-3"}]},
        "valueQuantity": {"value": 4, "code": "mmol/L"},
        **said,
    }


def test_what_a_resource_says_did_not_happen_is_no_event(tmp_path: Path, settings: Settings) -> None:
    """A status, a prohibition, a comparator, a focus or a modifier turns a resource's meaning round."""

    def stay(name: str, day: int, **said: Any) -> dict[str, Any]:
        period = {"start": f"2024-0{day}-01T08:00:00Z", "end": f"2024-0{day}-05T08:00:00Z"}
        about = {
            "id": name,
            "subject": {"reference": "Patient/p1"},
            "period": period,
            "class": {"code": "IMP"},
        }
        return about | said

    def done(name: str, status: str) -> dict[str, Any]:
        return {
            "id": name,
            "subject": {"reference": "Patient/p1"},
            "status": status,
            "performedPeriod": {"start": "2024-03-02T08:00:00Z", "end": "2024-03-02T09:00:00Z"},
            "code": {"coding": [{"code": name}]},
        }

    def stated(name: str, verified: str) -> dict[str, Any]:
        return {
            "id": name,
            "subject": {"reference": "Patient/p1"},
            "recordedDate": "2024-03-02T08:00:00Z",
            "verificationStatus": {"coding": [{"code": verified}]},
            "code": {"coding": [{"system": "http://snomed.info/sct", "code": name}]},
        }

    left = {"hospitalization": {"dischargeDisposition": {"coding": [{"code": "snf"}]}}}
    urgent = {"priority": {"coding": [{"code": "EM"}]}, "status": "finished", **left}
    drug = {"medicationCodeableConcept": {"text": "Insulin"}}
    files: dict[str, list[dict[str, Any]]] = {
        "Patient": [{"id": "p1", "birthDate": "1950-01-01", "deceasedDateTime": "1900-01-01T00:00:00Z"}],
        "Encounter": [
            stay("e1", 3, **urgent),
            stay("e2", 5, status="cancelled"),
            stay("e3", 7, status="entered-in-error"),
            stay("e4", 9, status="planned"),
            stay("e5", 6, status="finished", modifierExtension=[TURNED]),
        ],
        "Observation": [
            observed(1),
            observed(2, valueQuantity={"value": 10, "comparator": "<", "code": "mmol/L"}),
            observed(3, status="unknown"),
            observed(4, dataAbsentReason={"coding": [{"code": "error"}]}),
            observed(5, focus=[{"reference": "Patient/unborn"}]),
            observed(6, focus=[{"display": "donor"}]),
            observed(7, modifierExtension=[TURNED]),
            observed(8, focus=[{"reference": "Patient/p1"}], valueQuantity={"value": 5, "code": "mmol/L"}),
        ],
        "MedicationRequest": [
            request(1, doNotPerform=True, **drug),
            request(2, **{**drug, "status": "cancelled"}),
            request(3, modifierExtension=[TURNED], **drug),
        ],
        "Procedure": [
            done("11", "completed"),
            done("12", "not-done"),
            {**done("13", "completed"), "modifierExtension": [TURNED]},
        ],
        "Condition": [
            stated("21", "confirmed"),
            stated("22", "refuted"),
            {**stated("23", "confirmed"), "modifierExtension": [TURNED]},
        ],
    }
    for name, records in files.items():
        (tmp_path / f"{name}.ndjson").write_text("\n".join(json.dumps(one) for one in records))
    events = events_of(settings, "fhir", tmp_path)
    rows = zip(events["code"].to_pylist(), events["numeric_value"].to_pylist(), strict=True)
    assert {(code, value) for code, value in rows} == {
        ("MEDS_BIRTH", None),
        ("HOSPITAL_ADMISSION//EMERGENCY", None),
        ("HOSPITAL_DISCHARGE//FACILITY", None),
        ("LOINC//2823-3", 4),
        ("LOINC//2823-3", 5),
        ("SNOMED//11", None),
        ("SNOMED//21", None),
    }
