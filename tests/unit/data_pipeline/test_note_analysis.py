"""Typed fields of a note: negation, family, history, drugs with their use, vital signs, urgency, and their places."""

import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from data_pipeline.notes.analysis import analyze

NOTE = (
    "CHIEF COMPLAINT:, Shortness of breath.,HISTORY OF PRESENT ILLNESS:, This is an 81-year-old man who "
    "came to the emergency room with shortness of breath and cough. He denies chest pain, fever or "
    "chills.,PAST MEDICAL HISTORY:, Hypertension, type 2 diabetes and atrial fibrillation.,FAMILY "
    "HISTORY:, Mother had breast cancer.,ALLERGIES:, Penicillin.,MEDICATIONS:, 1. Metoprolol 25 mg p.o. "
    "b.i.d.,2. Coumadin 5 mg daily.,3. Lasix 40 mg IV.,4. Fish oil 1000 mg daily.,VITAL SIGNS:, "
    "Temperature 98.9, pulse 88, respirations 22, blood pressure 150/92, oxygen saturation 93% on room "
    "air, weight 82 kg.,ASSESSMENT:, Congestive heart failure.,PLAN:, Start furosemide. Follow up with "
    "cardiology in one week."
)


def test_findings_know_negation_family_and_history() -> None:
    analysis = analyze(NOTE)
    findings = {f.name: (f.status, f.is_history) for f in (*analysis.symptoms, *analysis.conditions)}
    assert findings["shortness of breath"] == ("present", False)
    assert findings["cough"][0] == "present"
    assert {findings[name][0] for name in ("chest pain", "fever", "chills")} == {"absent"}
    assert (
        findings["hypertension"]
        == findings["diabetes"]
        == findings["atrial fibrillation"]
        == ("present", True)
    )
    assert findings["breast cancer"][0] == "family"
    assert findings["congestive heart failure"] == ("present", False)


def test_a_note_may_be_in_british_english() -> None:
    note = (
        "She has haemoptysis, ankle oedema and dyspnoea. She denies diarrhoea, haematuria and faecal incontinence. "
        "Past history: anaemia, leukaemia and ischaemic heart disease."
    )
    analysis = analyze(note)
    found = {f.name: f.status for f in (*analysis.symptoms, *analysis.conditions)}
    assert {found[name] for name in ("hemoptysis", "edema", "shortness of breath")} == {"present"}
    assert {found[name] for name in ("diarrhea", "hematuria", "bowel incontinence")} == {"absent"}
    assert {"anemia", "leukemia", "coronary artery disease"} <= found.keys()
    (oedema,) = (f for f in analysis.symptoms if f.name == "edema")
    assert note[oedema.start : oedema.end] == "oedema", "as it is written"


def test_drugs_have_their_use_and_an_allergy_is_no_drug() -> None:
    drugs = {m.name: (m.drugs, m.dose, m.route, m.frequency) for m in analyze(NOTE).medications}
    assert drugs["metoprolol"] == (("metoprolol",), "25 mg", "p.o", "b.i.d")
    assert drugs["coumadin"] == (("warfarin",), "5 mg", "", "daily")
    assert drugs["lasix"][1:3] == ("40 mg", "iv")
    assert drugs["fish oil"] == ((), "1000 mg", "", "daily")
    assert "penicillin" not in drugs


def test_vital_signs_are_read_as_they_are_written() -> None:
    assert {vital.kind: vital.value for vital in analyze(NOTE).vitals} == {
        "temperature": "98.9",
        "heart rate": "88",
        "respiratory rate": "22",
        "blood pressure": "150/92",
        "oxygen saturation": "93",
        "weight": "82",
    }


@pytest.mark.parametrize(
    ("note", "values"),
    [
        ("HR 200/min, RR 30/min, BP 120/80.", ["200", "30", "120/80"]),
        ("BP 110-130/60-80, HR 80-90s, RR 16-20, T 36.5-37.2", []),
        ("HR 80 - 90. BP 120/80-130/90", []),
        ("BP 1200/80", []),
        ("P 88, R 16, T 98.6", ["88", "16", "98.6"]),
    ],
)
def test_a_range_is_no_vital_sign_and_none_is_made_of_its_ends(note: str, values: list[str]) -> None:
    assert [vital.value for vital in analyze(note).vitals] == values


@pytest.mark.parametrize(
    ("note", "vitals"),
    [
        ("T 101.2F, wt 154 lb", [("101.2", "°F"), ("154", "lb")]),
        ("T 38.4 °C. Weighs 70 kg", [("38.4", "°C"), ("70", "kg")]),
        ("Temp 99 degrees Fahrenheit; temp 38", [("99", "°F"), ("38", "")]),
        ("HR <40", [("<40", "")]),
        ("HR over 100, RR less than 8", [(">100", ""), ("<8", "")]),
        ("Keep O2 sat > 92%", [(">92", "")]),
        ("BP was 120 over 80", [("120/80", "")]),
        ("BP dropped below 90/60", [("<90/60", "")]),
        ("BP 80/120", []),  # one of them is the other's
    ],
)
def test_a_vital_sign_has_its_sign_and_its_unit(note: str, vitals: list[tuple[str, str]]) -> None:
    assert [(vital.value, vital.unit) for vital in analyze(note).vitals] == vitals


@given(st.integers(60, 250), st.sampled_from(["lb", "lbs", "pounds", "kg", "kilograms", ""]))
def test_a_weight_is_never_without_the_unit_that_the_note_says(value: int, unit: str) -> None:
    [vital] = analyze(f"Weight {value} {unit}.".replace(" .", ".")).vitals
    assert (vital.value, vital.unit) == (str(value), {"l": "lb", "p": "lb", "k": "kg", "": ""}[unit[:1]])


@given(st.sampled_from([("HR", 20, 180), ("RR", 5, 45), ("SpO2", 71, 99)]), st.data())
def test_a_bound_raises_no_alarm_that_a_value_within_it_would_not_raise(
    sign: tuple[str, int, int], data: st.DataObject
) -> None:
    name, low, high = sign
    bound = data.draw(st.integers(low, high))
    within = data.draw(st.integers(bound + 1, high + 1))
    percent = "%" if name == "SpO2" else ""
    if name == "SpO2" and within > 100:
        return
    order = ["routine", "urgent", "emergency"]
    of_bound = analyze(f"{name} > {bound}{percent}").urgency
    assert order.index(of_bound) <= order.index(analyze(f"{name} {within}{percent}").urgency)


@pytest.mark.parametrize(
    ("note", "drugs", "conditions"),
    [
        ("MS 2 mg IV given.", [("ms", "2 mg")], []),  # morphine or magnesium: nobody can say
        ("Gave 2 mg of MS.", [("ms", "2 mg")], []),
        ("History of MS. MS 4 mg IV.", [("ms", "4 mg")], ["multiple sclerosis"]),
        ("MS, 2 mg lorazepam.", [("lorazepam", "2 mg")], ["multiple sclerosis"]),
        ("Insulin 10U sc, heparin 5000U.", [("insulin", "10u"), ("heparin", "5000u")], []),
        ("Gave 10 units of insulin.", [("insulin", "10 units")], []),
        ("10 units insulin glargine.", [("insulin glargine", "10 units")], []),
        ("Insulin dependent diabetes.", [], ["diabetes"]),
        ("Digoxin 125 µg daily.", [("digoxin", "125 µg")], []),
    ],
)
def test_a_word_that_may_be_a_drug_is_one_beside_a_dose_and_is_not_expanded(
    note: str, drugs: list[tuple[str, str]], conditions: list[str]
) -> None:
    analysis = analyze(note)
    assert sorted((drug.name, drug.dose) for drug in analysis.medications) == sorted(drugs)
    assert [condition.name for condition in analysis.conditions] == conditions
    assert all(drug.drugs == () for drug in analysis.medications if drug.name in ("ms", "insulin"))


@given(
    st.integers(1, 90),
    st.sampled_from(["mg", "g", "mcg", "units", "U", "ml"]),
    st.sampled_from(["{} {} {}", "{}, {} {}", "{}: {}{}", "{1} {2} of {0}", "{1}{2} {0}"]),
)
def test_ms_beside_a_dose_is_no_disease(count: int, unit: str, form: str) -> None:
    names = [one.name for one in analyze("Given: " + form.format("MS", count, unit) + ".").conditions]
    assert ("multiple sclerosis" in names) == (form.startswith("{},"))


def test_a_heart_rate_with_its_unit_is_judged() -> None:
    assert analyze("HR 200/min.").urgency == "emergency"


@pytest.mark.parametrize(
    ("note", "statuses"),
    [
        ("Warfarin was stopped. Continue metoprolol 25 mg.", {"warfarin": "stopped", "metoprolol": "taken"}),
        ("Stop heparin, start apixaban 5 mg bid.", {"heparin": "stopped", "apixaban": "taken"}),
        ("Aspirin and Plavix were stopped.", {"aspirin": "stopped", "plavix": "stopped"}),
        ("Continue metoprolol, warfarin was stopped.", {"metoprolol": "taken", "warfarin": "stopped"}),
        ("Change from enalapril to losartan 50 mg.", {"enalapril": "stopped", "losartan": "taken"}),
        ("Vancomycin was switched to linezolid.", {"vancomycin": "stopped", "linezolid": "taken"}),
        ("d/c'd vancomycin; d/c home on cephalexin", {"vancomycin": "stopped", "cephalexin": "taken"}),
        ("STOPPED: atenolol 50 mg, aspirin 81 mg.", {"atenolol": "stopped", "aspirin": "stopped"}),
        ("He was on prednisone years ago.", {"prednisone": "stopped"}),
        ("He started lisinopril 3 months ago.", {"lisinopril": "taken"}),
        ("Heparin off since 0600.", {"heparin": "stopped"}),
        ("Lisinopril 10 mg daily. Hold lisinopril for AKI.", {"lisinopril": "held"}),
        ("Metformin (held), lisinopril 10 mg daily", {"metformin": "held", "lisinopril": "taken"}),
        ("Lisinopril was held and then resumed.", {"lisinopril": "taken"}),
        ("Considered amiodarone. Started amiodarone 400 mg.", {"amiodarone": "taken"}),
        ("Consider starting amiodarone.", {"amiodarone": "considered"}),
        ("Patient declined warfarin.", {"warfarin": "considered"}),
        # What stopped is not the drug, or the stop is denied.
        ("Pain stopped after morphine 2 mg IV.", {"morphine": "taken"}),
        ("He stopped smoking and takes metoprolol.", {"metoprolol": "taken"}),
        ("Do not stop metoprolol.", {"metoprolol": "taken"}),
        ("Metoprolol should not be stopped.", {"metoprolol": "taken"}),
    ],
)
def test_a_drug_says_whether_it_is_taken(note: str, statuses: dict[str, str]) -> None:
    assert {drug.name: drug.status for drug in analyze(note).medications} == statuses


DRUGS = st.lists(
    st.sampled_from(["warfarin", "metoprolol", "lisinopril", "aspirin", "digoxin"]), min_size=1, unique=True
)


@given(
    DRUGS,
    st.sampled_from(
        [
            ("Stop", "stopped"), ("Discontinued", "stopped"), ("Patient no longer takes", "stopped"),
            ("Hold", "held"), ("Holding home", "held"), ("Consider", "considered"), ("Avoid", "considered"),
            ("Continue", "taken"), ("Do not stop", "taken"), ("Restarted", "taken"),
        ]
    ),
    st.sampled_from(["", " 5 mg", " 25 mg po daily"]),
)  # fmt: skip
def test_every_drug_of_a_list_has_the_status_of_its_verb(
    drugs: list[str], verb: tuple[str, str], use: str
) -> None:
    words, status = verb
    note = f"{words} {', '.join(drug + use for drug in drugs)}."
    assert {drug.name: drug.status for drug in analyze(note).medications} == dict.fromkeys(drugs, status)


def test_a_dose_may_begin_with_its_point() -> None:
    [drug] = analyze("Morphine .5 mg IV").medications
    assert (drug.dose, drug.route) == (".5 mg", "iv")


def test_a_decimal_comma_is_a_point_and_the_lowest_pressure_of_several_counts() -> None:
    analysis = analyze(
        "T 38,5C, weight 70,5 kg. BP 118/76 -> 90/50 -> 70/40 after induction. NPH 70/30 at night."
    )
    assert [vital.value for vital in analysis.vitals] == ["38.5", "70.5", "118/76", "90/50", "70/40"]
    assert analysis.urgency == "emergency"


@pytest.mark.parametrize(
    ("note", "level"),
    [
        ("Patient wants to kill herself; has a plan.", "emergency"),
        ("He is planning to end his life tonight.", "emergency"),
        ("Actively suicidal on arrival.", "emergency"),
        ("Denies suicidal ideation. Does not want to die.", "routine"),
        ("CHEST PAIN, DIAPHORETIC, ST ELEVATION V1-V4", "emergency"),
        ("Chest pain, no ST elevation.", "routine"),
    ],
)
def test_what_nobody_may_leave_for_later_is_an_emergency(note: str, level: str) -> None:
    assert analyze(note).urgency == level


def test_recommendations_urgency_and_risk_name_their_grounds() -> None:
    analysis = analyze(NOTE)
    assert [statement.text for statement in analysis.recommendations] == [
        "Start furosemide",
        "Follow up with cardiology in one week",
    ]
    assert analysis.urgency == "urgent"
    assert "emergency room" in {factor.name for factor in analysis.urgency_factors}
    assert {"congestive heart failure", "diabetes", "age of 75 or more"} <= {
        f.name for f in analysis.risk.factors
    }
    assert analyze("Well child, no complaints.").urgency == "routine"
    assert analyze("The patient was intubated for respiratory failure.").urgency == "emergency"
    assert analyze("He was never intubated.").urgency == "routine"


@pytest.mark.parametrize(
    ("note", "urgency"),
    [
        ("BP 118/70, heart rate 78, respiratory rate 16.", "routine"),
        ("BP 92/50, heart rate 118.", "routine"),  # four points of the score
        ("BP 92/50, heart rate 118, respiratory rate 22.", "urgent"),  # six
        ("BP 92/50, heart rate 118, respiratory rate 26.", "emergency"),  # seven
        ("BP 88/50, heart rate 78.", "urgent"),  # one sign with three points
        ("BP 92/50, heart rate 118, temperature 37.9.", "routine"),  # four
        ("BP 92/50, heart rate 118, temperature 38.9.", "urgent"),  # five
        ("BP 92/50, heart rate 118, temperature 102.1 F.", "urgent"),
        ("BP 120/70, heart rate 118, temperature 100.2 F.", "routine"),
        ("Temperature 34.8.", "urgent"),
        ("Chest pain since this morning. BP 120/70.", "urgent"),
        ("Chest pressure radiating to the left arm. BP 130/80.", "urgent"),
        ("No chest pain since the operation. BP 120/70.", "routine"),
        ("Treadmill: heart rate 135, BP 180/80.", "routine"),
    ],
)
def test_vital_signs_are_judged_by_the_early_warning_score(note: str, urgency: str) -> None:
    assert analyze(note).urgency == urgency


def test_every_field_has_the_place_that_supports_it() -> None:
    analysis = analyze(NOTE)
    fields = (
        *analysis.symptoms,
        *analysis.conditions,
        *analysis.medications,
        *analysis.vitals,
        *analysis.summary,
    )
    assert all(0 <= field.start < field.end <= len(NOTE) for field in fields)
    assert all(NOTE[statement.start : statement.end] == statement.text for statement in analysis.summary)
    [finding] = [f for f in analysis.conditions if f.name == "diabetes"]
    assert NOTE[finding.start : finding.end] == "type 2 diabetes"


def test_nothing_is_read_from_nothing() -> None:
    analysis = analyze("  ")
    assert (analysis.symptoms, analysis.conditions, analysis.medications, analysis.vitals) == ((), (), (), ())
    assert (analysis.urgency, analysis.risk.level) == ("routine", "low")


@pytest.mark.parametrize(
    ("text", "use"),
    [
        ("He got 40 mg IV pantoprazole.", ("40 mg", "iv", "")),
        ("Oral prednisone 10 mg daily was begun.", ("10 mg", "oral", "daily")),
        ("She took 325 mg of aspirin daily.", ("325 mg", "", "daily")),
        ("Metoprolol 25 mg b.i.d., 40 mg IV furosemide.", ("25 mg", "", "b.i.d")),
        ("He takes lisinopril. IV fluids were given.", ("", "", "")),
    ],
)
def test_dose_and_route_before_a_drug_are_its_own_and_those_behind_its_sentence_are_not(
    text: str, use: tuple[str, str, str]
) -> None:
    drug = analyze(text).medications[0]
    assert (drug.dose, drug.route, drug.frequency) == use
    assert all(part in text[drug.start : drug.end].lower() for part in (drug.name, *use))


def test_a_part_of_the_body_that_hurts_is_a_complaint_and_what_an_examiner_sees_is_none() -> None:
    note = (
        "HISTORY OF PRESENT ILLNESS:, She has severe ear pain, pain in the left arm and difficulty chewing. "
        "EXTREMITIES:, Edema of both legs. No cyanosis."
    )
    symptoms = {finding.name: finding.status for finding in analyze(note).symptoms}
    assert symptoms == {
        "ear pain": "present",
        "arm pain": "present",
        "difficulty chewing": "present",
        "cyanosis": "absent",
    }


def test_each_step_of_a_plan_stands_alone_and_what_was_done_or_prescribed_is_none() -> None:
    note = (
        "HOSPITAL COURSE:, The wound did not return to normal. A scan suggested a stone. PLAN:, Repeat the scan in two "
        "weeks and return to clinic if fever recurs. Teaching was completed. Lisinopril 10 mg daily. No heavy lifting "
        "is recommended."
    )
    assert [statement.text for statement in analyze(note).recommendations] == [
        "Repeat the scan in two weeks",
        "return to clinic if fever recurs",
        "No heavy lifting is recommended",
    ]


def test_a_vital_sign_behind_a_list_of_medications_is_no_drug_and_a_heading_begins_a_step() -> None:
    note = (
        "Meds: aspirin 81 mg daily, fish oil 1000 mg, HR 110, BP 150/90; glucose 140 mg/dL, EF 35%. INR 2.3. "
        "Plan: serial troponins, admit to telemetry."
    )
    analysis = analyze(note)
    assert [drug.name for drug in analysis.medications] == ["aspirin", "fish oil"]
    assert [step.text for step in analysis.recommendations] == ["serial troponins", "admit to telemetry"]
    assert analyze("Plan:").recommendations == ()


SENTENCES = yaml.safe_load(
    Path(__file__).with_name("note_development_sentences.yaml").read_text(encoding="utf-8")
)


@pytest.mark.parametrize("case", SENTENCES["symptoms"] + SENTENCES["denied"], ids=lambda case: case["text"])
def test_findings_of_a_sentence(case: dict[str, Any]) -> None:
    analysis = analyze(case["text"])
    findings = (*analysis.symptoms, *analysis.conditions)
    for status in ("present", "absent", "family"):
        if status in case:
            assert {f.name for f in findings if f.status == status} >= set(case[status])
    assert not {f.name for f in findings} & set(case.get("not", []))
    if case.get("present") == []:
        assert not [f.name for f in findings if f.status == "present"]


@pytest.mark.parametrize("case", SENTENCES["use"], ids=lambda case: case["text"])
def test_the_use_of_a_drug(case: dict[str, str]) -> None:
    drugs = {drug.name: drug for drug in analyze(case["text"]).medications}
    drug = drugs[case["name"]]
    assert (drug.dose, drug.route, drug.frequency) == (case["dose"], case["route"], case["frequency"])


@pytest.mark.parametrize("text", SENTENCES["not tolerated"])
def test_a_drug_that_was_not_tolerated_is_none_that_is_taken(text: str) -> None:
    assert analyze(text).medications == ()


@pytest.mark.parametrize("case", SENTENCES["steps"], ids=lambda case: case["text"])
def test_the_steps_of_a_plan(case: dict[str, Any]) -> None:
    assert [step.text for step in analyze(case["text"]).recommendations] == case["steps"]


@pytest.mark.parametrize(
    "text", ["Temperature: afebrile at 97.", "Weight 12-1/2 pounds.", "BP 120 over80, pulse 190."]
)
def test_a_vital_sign_that_is_no_plain_number_stops_nothing(text: str) -> None:
    assert analyze(text).vitals


def test_four_times_the_note_takes_four_times_as_long() -> None:
    """And not sixteen times: no rule goes over all cues, findings or drugs of a note for each of its own."""
    kinds = (
        "No fever, denies cough{}itis.",
        "PLAN: We will recheck {}penia in 2 weeks.",
        "BP 1{}/80, HR 72.",
    )

    def seconds(sentences: int) -> float:
        names = ["".join("abcdefghij"[int(digit)] for digit in f"{n:04}") for n in range(sentences)]
        note = " ".join(kind.format(name) for name in names for kind in kinds)
        began = time.process_time()
        analyze(note)
        return time.process_time() - began

    seconds(10)
    assert min(seconds(1600), seconds(1600)) < 8 * seconds(400)


def test_four_times_a_sentence_of_drugs_takes_four_times_as_long() -> None:
    def seconds(drugs: int) -> float:
        began = time.process_time()
        analyze("not stop aspirin " * drugs)
        return time.process_time() - began

    seconds(10)
    assert min(seconds(1600), seconds(1600)) < 8 * seconds(400)
