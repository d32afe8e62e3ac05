"""What an EHR asks by itself: the same patient by FHIR, by CDS Hooks and from the lake gets the same risk."""

import copy
import itertools
import os
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from fastapi.testclient import TestClient
from fhir.resources.R4B.bundle import Bundle
from fhir.resources.R4B.riskassessment import RiskAssessment
from fixtures import lake_patients
from fixtures.lake_patients import ADMITTED, SECRET, hours, logged, utc
from hypothesis import given
from hypothesis import settings as settings_of_test
from hypothesis import strategies as st

from data_pipeline.ingest import stream_record
from mediscale.core.errors import InputError
from mediscale.core.settings import Settings
from mediscale.storage import registry
from serving.requests import fhir_bundle

PREDICT = "/fhir/RiskAssessment/$predict"
HOOK = "/cds-services/mediscale-risk"
LOINC = "http://loinc.org"


client = lake_patients.client


PATIENT: dict[str, Any] = {
    "resourceType": "Patient",
    "id": SECRET,
    "gender": "female",
    "birthDate": "2080-06-01",
}
ENCOUNTER: dict[str, Any] = {
    "resourceType": "Encounter",
    "id": "stay",
    "status": "finished",
    "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "IMP"},
    "priority": {
        "coding": [{"system": "http://terminology.hl7.org/CodeSystem/v3-ActPriority", "code": "EM"}]
    },
    "subject": {"reference": f"Patient/{SECRET}"},
    "period": {"start": utc(ADMITTED), "end": utc(hours(40))},
    "hospitalization": {"dischargeDisposition": {"coding": [{"code": "home"}]}},
}


def observation(
    code: str, value: float, unit: str, at: datetime, issued: datetime | None = None, **changed: Any
) -> dict[str, Any]:
    return {
        "resourceType": "Observation",
        "status": "final",
        "code": {"coding": [{"system": LOINC, "code": code}]},
        "subject": {"reference": f"Patient/{SECRET}"},
        "effectiveDateTime": utc(at),
        **({"issued": utc(issued)} if issued else {}),
        "valueQuantity": {"value": value, "unit": unit, "system": "http://unitsofmeasure.org", "code": unit},
        **changed,
    }


def period(code: str, begun: datetime, ended: datetime) -> dict[str, Any]:
    lasting = observation(code, 61, "/min", begun, effectivePeriod={"start": utc(begun), "end": utc(ended)})
    return {name: value for name, value in lasting.items() if name != "effectiveDateTime"}


def stay(status: str, begun: float, ended: float) -> dict[str, Any]:
    period = {"start": utc(hours(begun)), "end": utc(hours(ended))}
    return {**ENCOUNTER, "id": "another", "status": status, "period": period}


OBSERVATIONS = [
    observation("8867-4", 90, "/min", hours(2)),
    observation("8867-4", 120, "{beats}/min", hours(5)),
    observation("2160-0", 309.47, "umol/L", hours(4), issued=hours(30)),  # drawn early, known late
]


def bundle(*more: dict[str, Any], without: str = "") -> dict[str, Any]:
    resources = [PATIENT, ENCOUNTER, *OBSERVATIONS, *more]
    entry = [{"resource": one} for one in resources if one["resourceType"] != without]
    return {"resourceType": "Bundle", "type": "collection", "entry": entry}


def at(time: datetime) -> str:
    return f"{PREDICT}?prediction_time={utc(time)}"


def risks(answer: dict[str, Any]) -> dict[str, float]:
    assessments = [
        entry["resource"]
        for entry in answer["entry"]
        if entry["resource"]["resourceType"] == "RiskAssessment"
    ]
    return {one["method"]["text"]: one["prediction"][0]["probabilityDecimal"] for one in assessments}


@pytest.mark.parametrize("time", [hours(24), hours(35), hours(40)])
def test_a_bundle_is_answered_as_the_lake_s_own_record_of_that_patient(
    client: TestClient, time: datetime
) -> None:
    """At hour 24 the creatinine was drawn and not known yet: neither of them uses it."""
    lake = client.post("/predict", json={"patient": SECRET, "prediction_time": time.isoformat()}).json()
    answer = client.post(at(time), json=bundle())
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("application/fhir+json")
    expected = {
        f"{one['model']} version {one['version']}": round(one["risk"], 6) for one in lake["predictions"]
    }
    assert risks(answer.json()) == pytest.approx(expected, abs=2e-6)


def missing(answer: dict[str, Any]) -> str:
    notes = [note["text"] for note in answer["entry"][0]["resource"]["note"]]
    return next(text for text in notes if "inputs were missing" in text)


def test_a_result_is_used_once_it_was_issued(client: TestClient) -> None:
    before, after = (client.post(at(time), json=bundle()).json() for time in (hours(29), hours(31)))
    assert " creatinine" in missing(before)
    assert " creatinine" not in missing(after)


def test_answers_are_valid_fhir_with_provenance_and_the_notice(client: TestClient) -> None:
    answer = client.post(at(hours(24)), json=bundle()).json()
    Bundle.model_validate(answer)
    assessment, provenance = (entry["resource"] for entry in answer["entry"][:2])
    RiskAssessment.model_validate(assessment)
    assert assessment["subject"] == {"reference": f"Patient/{SECRET}"}
    assert assessment["encounter"] == {"reference": "Encounter/stay"}
    assert "clinical judgement" in assessment["note"][0]["text"]
    assert provenance["target"] == [{"reference": answer["entry"][0]["fullUrl"]}]
    assert "synthetic-mortality version 1" in provenance["agent"][0]["who"]["display"]


@pytest.mark.parametrize(
    ("resource", "said"),
    [
        (
            observation("2160-0", 3.5, "stones", hours(3)),
            "1 Observations of creatinine in a unit that is not converted",
        ),
        (
            observation("2160-0", 3500, "mg/dL", hours(3)),
            "1 Observations of creatinine outside what a record can hold",
        ),
        (observation("8867-4", 61, "/min", hours(3), status="entered-in-error"), "hold no result"),
        (
            observation("2160-0", 10**400, "mg/dL", hours(3)),
            "1 Observations of creatinine outside what a record",
        ),
        (
            observation("9267-6", 2.5, "{score}", hours(3)),
            "1 Observations of gcs_eye that are no whole number",
        ),
        (
            observation(
                "2160-0", 2, "mg/dL", hours(3), valueQuantity={"value": 2, "code": "mg/dL", "unit": "umol/L"}
            ),
            "1 Observations of creatinine whose code and text name two units",
        ),
        (
            observation("8867-4", 61, "/min", hours(3), effectiveDateTime="2150-03-01"),
            "without an effective time",
        ),
        (observation("99999-9", 61, "/min", hours(3)), "whose LOINC code no model reads"),
        ({"resourceType": "MedicationRequest"}, "1 MedicationRequest resources, which no model reads"),
        ({**ENCOUNTER, "id": "clinic", "class": {"code": "AMB"}}, "Encounters that are no stay in hospital"),
        (stay("cancelled", -24 * 60, -24 * 58), "1 Encounters that did not take place (status)"),
        (stay("entered-in-error", -1, 50), "1 Encounters that did not take place (status)"),
        (stay("finished", -48, -72), "1 Encounters that end before they begin"),
        (
            {**ENCOUNTER, "id": "other", "period": {"start": utc(hours(-72))}},
            "1 Encounters that are over, without the time of discharge",
        ),
        (
            observation("2160-0", 3, "mg/dL", hours(3), status="Final "),
            "1 Observations that hold no result (status)",
        ),
        (
            {k: v for k, v in observation("2160-0", 3, "mg/dL", hours(3)).items() if k != "status"},
            "1 Observations that hold no result (status)",
        ),
        (
            observation("2160-0", 3, "mg/dL", hours(3), dataAbsentReason={"coding": [{"code": "error"}]}),
            "1 Observations of creatinine that say why there is no value",
        ),
        (
            observation("2160-0", 3, "mg/dL", hours(3)) | {"issued": "yesterday"},
            "1 Observations whose time of issue has no hour or no offset",
        ),
        (
            observation("2160-0", 3, "mg/dL", hours(3))
            | {"code": {"coding": [{"system": LOINC, "code": code} for code in ("2160-0", "8867-4")]}},
            "1 Observations whose LOINC codes name two values",
        ),
        (
            stay("finished", -24 * 4000, -48),
            "1 Encounters that end before they begin, or over ten years later",
        ),
        (
            observation("8867-4", 150, "/min", hours(6), focus=[{"reference": "Patient/unborn"}]),
            "1 Observations of somebody or something else",
        ),
        (
            observation("8867-4", 150, "/min", hours(6), focus=[{"display": "donor"}]),
            "1 Observations of somebody or something else",
        ),
        (
            observation("8867-4", 150, "/min", hours(6), modifierExtension=[{"url": "urn:not-done"}]),
            "1 Observations with a modifier",
        ),
        (
            observation("8867-4", 150, "/min", hours(6), implicitRules="urn:rules"),
            "1 Observations with a modifier",
        ),
        (
            observation("8867-4", 61, "/min", hours(3), valueString="150"),
            "1 Observations of heart_rate that give a value more than once, in different types",
        ),
        (
            observation("8867-4", 61, "/min", hours(3), effectiveInstant=utc(hours(4))),
            "1 Observations that say when they were true more than once, in different types",
        ),
        (period("8867-4", hours(4), hours(3)), "1 Observations whose period ends before it begins"),
        (observation("8867-4", 61, "/min", hours(24.1)), "values that were not known by the prediction time"),
        (
            {**stay("finished", -90, -80), "modifierExtension": [{"url": "urn:not-done"}]},
            "1 Encounters with a modifier",
        ),
    ],
)
def test_what_can_not_be_used_changes_nothing_and_is_said(
    client: TestClient, resource: dict[str, Any], said: str
) -> None:
    plain, more = (
        client.post(at(hours(24)), json=content).json() for content in (bundle(), bundle(resource))
    )
    assert risks(plain) == risks(more)
    notes = [note["text"] for note in more["entry"][0]["resource"]["note"]]
    assert any(note.startswith("Not used: ") and said in note for note in notes), notes


def test_the_parts_of_a_panel_are_read_each_by_itself(client: TestClient) -> None:
    def pressure(systolic: float, diastolic: float) -> dict[str, Any]:
        parts = [("8480-6", systolic), ("8462-4", diastolic)]
        panel = observation("85354-9", 0, "", hours(3))
        del panel["valueQuantity"]
        components = [
            {
                "code": {"coding": [{"system": LOINC, "code": code}]},
                "valueQuantity": {"value": value, "code": "mm[Hg]"},
            }
            for code, value in parts
        ]
        return {**panel, "component": components}

    answer = client.post(at(hours(24)), json=bundle(pressure(80, 9000))).json()
    missing = next(
        n["text"] for n in answer["entry"][0]["resource"]["note"] if "inputs were missing" in n["text"]
    )
    assert " systolic blood pressure" not in missing
    assert " diastolic blood pressure" in missing
    swapped = client.post(at(hours(24)), json=bundle(pressure(70, 120))).json()
    assert "2 blood pressures of a moment that are not in order (diastolic, mean, systolic)" in str(swapped)
    assert risks(swapped) == risks(client.post(at(hours(24)), json=bundle()).json())


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"resourceType": "Patient"}, "must be a FHIR Bundle"),
        (bundle(without="Patient"), "holds 0 Patient resources"),
        (bundle({**PATIENT, "id": "another"}), "holds 2 Patient resources"),
        (
            bundle(observation("8867-4", 61, "/min", hours(3), subject={"reference": "Patient/another"})),
            "another patient",
        ),
        (
            bundle(observation("8867-4", 61, "/min", hours(3), subject={"reference": 7})),
            "no reference to a Patient",
        ),
        (
            bundle(observation("8867-4", 61, "/min", hours(3), subject={"identifier": {"value": "another"}})),
            "an identifier that the Patient does not have",
        ),
        (
            {
                "resourceType": "Bundle",
                "entry": [{"resource": PATIENT}, {"resource": {**ENCOUNTER, "class": {"code": "imp"}}}],
            },
            "Not used: 1 Encounters that are no stay in hospital (class IMP, ACUTE or NONAC).",
        ),
        (
            {
                "resourceType": "Bundle",
                "entry": [{"resource": {**PATIENT, "birthDate": "1757-06-01"}}, {"resource": ENCOUNTER}],
            },
            "Not used: 1 births more than 120 years before the admission.",
        ),
        (bundle(without="Encounter"), "had not been admitted by that time"),
        ({"resourceType": "Bundle", "entry": [{}]}, "Entry 1 of the Bundle holds no resource"),
    ],
)
def test_a_wrong_bundle_is_refused_in_one_sentence_that_repeats_no_identifier(
    client: TestClient, content: dict[str, Any], said: str
) -> None:
    answer = client.post(at(hours(24)), json=content)
    assert answer.status_code == 422
    assert said in answer.json()["error"]
    assert SECRET not in answer.text


def test_a_resource_that_stands_twice_counts_once_and_not_at_all_where_it_differs(client: TestClient) -> None:
    one, other = ({**observation("8867-4", value, "/min", hours(6)), "id": "o"} for value in (61, 180))
    once, twice, differing = (
        client.post(at(hours(24)), json=bundle(*more)).json() for more in ((one,), (one, one), (one, other))
    )
    assert risks(once) == risks(twice)
    assert risks(differing) == risks(client.post(at(hours(24)), json=bundle()).json())
    assert "2 Observations whose id stands twice in the Bundle, with other content" in str(differing)


def test_a_subject_may_be_named_by_version_or_by_identifier(client: TestClient) -> None:
    patient = {**PATIENT, "identifier": [{"system": "urn:mrn", "value": "7"}]}
    subjects = (
        {"reference": f"Patient/{SECRET}/_history/3"},
        {"identifier": {"system": "urn:mrn", "value": "7"}},
    )
    resources = [
        patient,
        ENCOUNTER,
        *(observation("8867-4", 61, "/min", hours(3), subject=one) for one in subjects),
    ]
    content = {"resourceType": "Bundle", "entry": [{"resource": one} for one in resources]}
    assert client.post(at(hours(24)), json=content).status_code == 200


def pressures(*measured: tuple[str, float]) -> list[dict[str, Any]]:
    codes = {"diastolic": "8462-4", "mean": "8478-0", "systolic": "8480-6"}
    return [observation(codes[which], value, "mm[Hg]", hours(3)) for which, value in measured]


@given(
    st.lists(st.tuples(st.sampled_from(["diastolic", "mean", "systolic"]), st.integers(30, 200)), max_size=6)
)
def test_pressures_of_a_moment_count_only_in_the_order_that_they_can_have(
    measured: list[tuple[str, int]],
) -> None:
    order = ("diastolic", "mean", "systolic")
    possible = not any(
        a > b for one, a in measured for other, b in measured if order.index(one) < order.index(other)
    )
    read = fhir_bundle.read(bundle(*pressures(*measured)))
    assert read.events.num_rows == len(bundle()["entry"]) + 2 + (len(measured) if possible else 0)
    assert ("blood pressures of a moment" in str(read.unused)) is not possible


@pytest.mark.parametrize("unit", ["{Beats}/min", "/min{art. line}", "{beats}/min{x}"])
def test_an_annotation_changes_no_unit(unit: str) -> None:
    """UCUM, section 12: what stands in braces is for people; a unit of nothing else is that of a bare number."""
    units = [("8867-4", unit), ("9267-6", "{points}"), ("6301-6", "{ratio}")]
    measured = [observation(code, 4, one, hours(3)) for code, one in units]
    measured[0]["valueQuantity"]["value"] = 61
    assert fhir_bundle.read(bundle(*measured)).unused == ()


def test_a_patient_with_a_modifier_is_nobody_whose_age_is_known(client: TestClient) -> None:
    content = bundle()
    content["entry"][0] = {"resource": {**PATIENT, "modifierExtension": [{"url": "urn:not-a-person"}]}}
    answer = client.post(at(hours(24)), json=content)
    assert answer.status_code == 422
    assert "1 Patients with a modifier, which may change what they say" in answer.json()["error"]


@pytest.mark.parametrize(
    ("patient", "said"),
    [
        ({"deceasedBoolean": True}, "1 deaths without a time"),
        ({"deceasedBoolean": "true"}, "1 deaths without a time"),
        ({"deceasedDateTime": "last spring"}, "1 deaths without a time"),
        ({"birthDate": "12345-01-01"}, "1 births without a date such as 1950-06-01"),
    ],
)
def test_a_patient_s_dates_that_say_nothing_are_counted(patient: dict[str, Any], said: str) -> None:
    content = {"resourceType": "Bundle", "entry": [{"resource": {**PATIENT, **patient}}]}
    assert said in fhir_bundle.read(content).unused


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("hour=6", "parameter that is unknown here; this route knows prediction_time alone"),
        (f"prediction_time={utc(hours(3))}&prediction_time={utc(hours(9))}", "stands twice"),
        ("prediction_time=0001-01-01T00:00:00%2B14:00", "outside the years 1 to 9999"),
    ],
)
def test_a_parameter_that_would_change_nothing_or_says_two_things_is_refused(
    client: TestClient, query: str, said: str
) -> None:
    answer = client.post(f"{PREDICT}?{query}", json=bundle())
    assert (answer.status_code, said in answer.json()["error"]) == (422, True)


@pytest.mark.parametrize("time", ["2150-03-02", "yesterday", "2150-03-02T08:00:00"])
def test_a_time_without_hour_or_offset_is_refused(client: TestClient, time: str) -> None:
    answer = client.post(f"{PREDICT}?prediction_time={time}", json=bundle())
    assert (answer.status_code, "with an offset" in answer.json()["error"]) == (422, True)


def hook(prefetch: dict[str, Any] | None = None, patient: str = SECRET, **changed: Any) -> dict[str, Any]:
    return {
        "hook": "patient-view",
        "hookInstance": "d1577c69-dfbe-44ad-ba6d-3e05e953b2ea",
        "context": {"userId": "Practitioner/1", "patientId": patient},
        **({"prefetch": prefetch} if prefetch else {}),
        **changed,
    }


def test_an_ehr_finds_the_service_and_gets_cards_with_reasons_and_a_link(
    client: TestClient, settings: Settings
) -> None:
    (service,) = client.get("/cds-services").json()["services"]
    assert (service["hook"], set(service["prefetch"])) == (
        "patient-view",
        {"patient", "encounters", "observations"},
    )
    searchset = {"resourceType": "Bundle", "type": "searchset"}
    prefetch = {
        "patient": PATIENT,
        "encounters": {**searchset, "entry": [{"resource": ENCOUNTER}]},
        "observations": {**searchset, "entry": [{"resource": one} for one in OBSERVATIONS]},
    }
    by_prefetch, by_lake = (
        client.post(f"/cds-services/{service['id']}", json=hook(given)).json()["cards"]
        for given in (prefetch, None)
    )
    assert [card["summary"] for card in by_prefetch] == [card["summary"] for card in by_lake]
    for card in by_prefetch:
        assert len(card["summary"]) <= 140
        assert card["indicator"] in ("info", "warning")
        assert "- " in card["detail"]
        assert "clinical judgement" in card["detail"]
        assert "less certain" in card["detail"]  # of a few observations
        assert "_" not in card["detail"]
        assert re.search(r"- .* \([\d.]+ ?\S*\) (raises|lowers) it", card["detail"]), (
            "a factor with its value"
        )
        assert "plausible range alone" in card["detail"]  # the models of the tests have no usual ranges
    link = by_prefetch[0]["links"][0]["url"]
    assert client.get(link).status_code == 404
    model, version = urlsplit(link).path.split("/")[-3:-1]
    file = Path(registry.card_page(settings, model, int(version)))
    file.parent.mkdir()
    file.write_text("<header></header><p>What it is for.</p>")
    page = client.get(link).text
    assert page.endswith("</header><p>What it is for.</p>")
    assert "this server answers with it, as production since " in page  # which a file does not notice
    assert client.get("/models/..%2F..%2Fsecret/1/card").status_code == 404


def test_a_card_that_is_removed_while_it_is_asked_for_is_not_there(
    client: TestClient, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    service: Any = client.app.state.service  # type: ignore[attr-defined]
    [version] = service.predictors.loaded[:1]
    file = Path(registry.card_page(settings, version.model.name, version.model.version))
    file.parent.mkdir()
    file.write_text("<header></header>")
    read = service.read

    async def removed_first(reading: Any) -> Any:
        file.unlink()
        return await read(reading)

    monkeypatch.setattr(service, "read", removed_first)
    answer = client.get(f"/models/{version.model.name}/{version.model.version}/card")
    assert (answer.status_code, "No model card" in answer.json()["error"]) == (404, True)


def searches() -> dict[str, Any]:
    """What an EHR prefetches."""
    searchset = {"resourceType": "Bundle", "type": "searchset"}
    return {
        "patient": PATIENT,
        "encounters": {**searchset, "entry": [{"resource": ENCOUNTER}]},
        "observations": {**searchset, "entry": [{"resource": one} for one in OBSERVATIONS]},
    }


@pytest.mark.parametrize("content", [None, "x", {"resourceType": "OperationOutcome", "issue": []}, ...])
@pytest.mark.parametrize("name", ["encounters", "observations"])
def test_what_was_not_sent_is_not_taken_for_what_was_not_measured(
    client: TestClient, name: str, content: Any
) -> None:
    prefetch = {key: one for key, one in (searches() | {name: content}).items() if one is not ...}
    (card,) = client.post(HOOK, json=hook(prefetch)).json()["cards"]
    assert card["summary"].startswith("No risk was predicted")
    assert f"no result of the prefetch {name}" in card["detail"]
    found_nothing = {"resourceType": "Bundle", "type": "searchset", "total": 0}
    cards = client.post(HOOK, json=hook(searches() | {"observations": found_nothing})).json()["cards"]
    assert not any("prefetch" in card["detail"] for card in cards), "a search that finds nothing was answered"


def test_a_card_says_of_which_moment_it_is(client: TestClient) -> None:
    """It may be days ago: the newest moment of which the record tells."""
    cards = client.post(HOOK, json=hook(searches())).json()["cards"]
    assert cards
    assert all("As of 2150-" in card["detail"] for card in cards)


def test_a_record_that_was_merged_into_another_is_refused(client: TestClient) -> None:
    link = [{"other": {"reference": "Patient/kept"}, "type": "replaced-by"}]
    resources = [{**PATIENT, "link": link}, ENCOUNTER, *OBSERVATIONS]
    content = {"resourceType": "Bundle", "entry": [{"resource": one} for one in resources]}
    answer = client.post(at(hours(24)), json=content)
    assert (answer.status_code, "merged into another one" in answer.text) == (422, True)
    resources[0] = {**PATIENT, "link": [{**link[0], "type": "replaces"}]}
    assert client.post(
        at(hours(24)), json={**content, "entry": [{"resource": one} for one in resources]}
    ).is_success


def test_a_search_that_counts_more_than_it_holds_is_said() -> None:
    n = len(bundle()["entry"])
    said = "1 further pages of resources, which were not sent"
    assert said in fhir_bundle.read(bundle() | {"type": "searchset", "total": n + 1}).unused
    assert fhir_bundle.read(bundle() | {"type": "searchset", "total": n}).unused == ()


@given(
    st.sampled_from([("2160-0", "umol/L", 88), ("2160-0", "mg/dL", 1), ("6690-2", "10*9/L", 8), ("9187-6", "mL", 50),
                     ("2823-3", "mmol/L", 4), ("8480-6", "mm[Hg]", 120), ("1920-8", "U/L", 30)]),
    st.data(),
)  # fmt: skip
def test_a_unit_is_the_same_in_every_spelling_of_micro_and_litre(
    measured: tuple[str, str, float], data: st.DataObject
) -> None:
    code, unit, value = measured
    spelt = unit.replace("L", data.draw(st.sampled_from("Ll"))).replace(
        "u", data.draw(st.sampled_from("uµμ"))
    )
    read = [
        fhir_bundle.read(
            bundle({**observation(code, value, "", hours(3)), "valueQuantity": {"value": value, name: one}})
        )
        for one in (unit, spelt)
        for name in ("code", "unit")
    ]
    assert all(one.unused == () for one in read), spelt
    assert len({tuple(one.events["numeric_value"].to_pylist()) for one in read}) == 1


def test_a_search_that_goes_on_elsewhere_is_said(client: TestClient) -> None:
    """An EHR prefetches the first page alone; the values on the others are none that were not measured."""
    more = {"link": [{"relation": "self", "url": "urn:1"}, {"relation": "next", "url": "urn:2"}]}
    said = "1 further pages of resources, which were not sent"
    assert said in fhir_bundle.read(bundle() | more).unused
    searchset = {"resourceType": "Bundle", "type": "searchset"}
    prefetch = {
        "patient": PATIENT,
        "encounters": {**searchset, "entry": [{"resource": ENCOUNTER}]},
        "observations": {**searchset, **more, "entry": [{"resource": one} for one in OBSERVATIONS]},
    }
    cards = client.post(HOOK, json=hook(prefetch)).json()["cards"]
    assert cards
    assert all(said in card["detail"] for card in cards)


def test_a_patient_without_a_risk_gets_a_card_that_says_why(client: TestClient) -> None:
    child = {**searches(), "patient": {**PATIENT, "birthDate": "2140"}}
    for content, said in ((hook(child), "younger"), (hook(patient="nobody"), "does not know this patient")):
        (card,) = client.post(HOOK, json=content).json()["cards"]
        assert (card["indicator"], said in card["detail"]) == ("info", True)


@pytest.mark.parametrize(
    "content", [hook(hook="order-sign"), hook(context={}), hook({"patient": {**PATIENT, "id": "another"}})]
)
def test_another_hook_or_patient_is_refused(client: TestClient, content: dict[str, Any]) -> None:
    assert client.post(HOOK, json=content).status_code == 422


def test_each_answer_is_in_the_log_with_its_time(client: TestClient, settings: Settings) -> None:
    answer = client.post(at(hours(24)), json=bundle()).json()
    client.post(HOOK, json=hook())
    by_bundle, *of_lake = (row for row in logged(client, settings) if row["task"] == "mortality")
    name = answer["entry"][0]["resource"]["identifier"][0]["value"]
    assert (by_bundle["prediction_id"], by_bundle["prediction_time"]) == (name, hours(24))
    assert by_bundle["events_version"] is None, "the lake did not hold what it was computed from"
    assert all(row["subject_id"] == 1 for row in (by_bundle, *of_lake))


def known_as(name: str, **more: Any) -> dict[str, Any]:
    content = copy.deepcopy(bundle())
    content["entry"][0]["resource"].update(id=name, **more)
    for entry in content["entry"][1:]:
        entry["resource"]["subject"] = {"reference": f"Patient/{name}"}
    return content


RECORD_NUMBER = {"type": {"coding": [{"code": "MR"}]}, "value": f" {SECRET}"}
UNKNOWN_NUMBER = {**RECORD_NUMBER, "value": "patient-0"}
OTHER_NUMBER = {"system": "urn:insurance", "value": "patient-4713"}


@pytest.mark.parametrize(
    ("source", "name", "identifiers", "subject_id"),
    [
        ("", SECRET, [], 1),
        ("", "ehr-9", [OTHER_NUMBER, RECORD_NUMBER], 1),
        ("", "patient-4712", [RECORD_NUMBER], 1),  # the EHR's ids are not the lake's numbers
        ("", "patient-4712", [UNKNOWN_NUMBER, OTHER_NUMBER], None),  # a patient whom the lake does not know
        ("", "ehr-9", [{"value": SECRET}], 1),
        ("", "ehr-9", [{"value": "another"}, {"value": None}, None], None),
        ("", "ehr-9", SECRET, None),
        ("fhir", "patient-4712", [RECORD_NUMBER], 2),
        ("fhir", "ehr-9", [RECORD_NUMBER], None),
        ("of-another-home", "ehr-9", [RECORD_NUMBER], 1),
    ],
)
def test_an_answer_to_a_bundle_is_logged_under_the_patient_whom_the_lake_knows(
    client: TestClient, settings: Settings, source: str, name: str, identifiers: Any, subject_id: int | None
) -> None:
    """By the number that the lake's source reads: a source of tables has the hospital's number of a record."""
    if source:
        with stream_record.writing(settings, "synthetic", source):
            pass
    assert client.post(at(hours(24)), json=known_as(name, identifier=identifiers)).is_success
    rows = logged(client, settings)
    assert {row["subject_id"] for row in rows} == {subject_id}
    assert SECRET not in str(rows)
    assert client.get("/health").json()["problems"] == []


@pytest.mark.parametrize("lake_is", ["gone", "damaged", "hanging"])
def test_a_bundle_is_answered_without_the_lake_and_logged_under_no_patient(
    client: TestClient, settings: Settings, lake_is: str
) -> None:
    subjects = Path(settings.table_uri("synthetic", "subjects"))
    [file] = subjects.glob("*.parquet")
    before = client.post(at(hours(24)), json=bundle()).json()
    if lake_is == "gone":
        subjects.rename(subjects.with_name("elsewhere"))
    elif lake_is == "damaged":
        file.write_bytes(b"PAR1")
    else:
        file.unlink()
        os.mkfifo(file)  # a file whose disk never answers
    try:
        answers = [client.post(at(hours(24)), json=bundle()) for _ in range(2)]
        health = client.get("/health").json()
    finally:
        if lake_is == "hanging":
            os.close(os.open(file, os.O_WRONLY))  # lets the thread go that reads it
    assert [risks(answer.json()) for answer in answers] == [risks(before)] * 2
    assert (health["status"], len(health["problems"])) == ("degraded", 1), "an auditor has to know"
    rows = [row for row in logged(client, settings) if row["task"] == "mortality"]
    assert [row["subject_id"] for row in rows] == [1, None, None]


def test_many_bundles_at_once_are_all_logged_under_their_patient(
    client: TestClient, settings: Settings
) -> None:
    with ThreadPoolExecutor(50) as clients:
        answers = list(
            clients.map(lambda _: client.post(at(hours(24)), json=bundle()).status_code, range(50))
        )
    assert set(answers) == {200}
    assert {row["subject_id"] for row in logged(client, settings)} == {1}


def test_a_resource_without_a_type_is_counted() -> None:
    content = bundle()
    content["entry"].append({"resource": {"id": "x"}})
    assert "1 unnamed resources, which no model reads here" in fhir_bundle.read(content).unused


def test_thousands_of_kinds_of_resources_are_few_reasons() -> None:
    """An answer repeats them for each risk, and is written while nobody else is answered."""
    content, letters = bundle(), "abcdefghijklmnopqrstuvwxyz"
    kinds = ["".join(each) for each in itertools.product(letters, letters, "xyz")]
    content["entry"] += [{"resource": {"resourceType": kind}} for kind in kinds]
    unused = fhir_bundle.read(content).unused
    assert len(unused) < 2 * fhir_bundle.MOST_REASONS
    assert sum(int(each.split()[0]) for each in unused if "which no model reads" in each) == len(kinds)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.floats(allow_nan=False)
    | st.text(max_size=8)
    | st.sampled_from(["Patient", "IMP"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


def places(node: Any, before: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Ways to everything inside a document."""
    inside = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for name, part in inside:
        yield (*before, name)
        yield from places(part, (*before, name))


@given(data=st.data())
@settings_of_test(max_examples=300, deadline=None)
def test_a_bundle_with_anything_anywhere_is_read_or_refused(data: st.DataObject) -> None:
    content = copy.deepcopy(bundle())
    *way, last = data.draw(st.sampled_from(list(places(content))))
    holder: Any = content
    for name in way:
        holder = holder[name]
    if data.draw(st.booleans()):
        holder[last] = data.draw(JSON)
    else:
        del holder[last]
    with suppress(InputError):
        assert fhir_bundle.read(content).events.num_rows >= 0
