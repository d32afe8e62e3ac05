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
