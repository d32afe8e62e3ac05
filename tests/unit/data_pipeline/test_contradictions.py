"""Two columns, two rows or a date that stands for nothing: what can't be told is in quarantine, never guessed."""

import pytest
from fixtures import drawn_hospitals

from data_pipeline.cohort import cohort_flow
from mediscale.storage import lake

PATIENTS = """
    subject_id,gender,anchor_age,anchor_year,dod
    1,F,60,2160,1900-01-01
    2,M,70,2160,
    3,F,999,2160,
    4,M,60,60,
    5,F,60,2160,
    5,M,60,2160,
    6,M,70,2160,
    6,M,50,2160,
    7,F,60,2160,
    7,F,60,2160,
    1.23E+11,F,60,2160,
    8,M,-5,2160,"""
ADMISSIONS = """
    subject_id,hadm_id,admittime,dischtime,deathtime,admission_type,admission_location,discharge_location,hospital_expire_flag,race,edregtime
    1,11,2160-01-01 10:00:00,2160-01-05 12:00:00,1900-01-01 00:00:00,EW EMER.,ER,HOME,0,n.a.,
    2,21,2160-02-01 00:00:00,2999-12-31 00:00:00,,URGENT,ER,,0,\u2014,
    2,22,2160-03-01 00:00:00,2160-03-05 00:00:00,,URGENT,ER,HOME WITH HOSPICE,0,#N/A,1900-01-01 00:00:00
    3,31,2160-02-01 00:00:00,2160-02-05 00:00:00,,URGENT,ER,HOME HOSPICE CARE,0,ASIAN,
    7,71,2160-02-01 00:00:00,2160-02-05 00:00:00,,URGENT,ER,HOME,2,ASIAN,
    7,71,2160-02-01 00:00:00,2160-02-05 00:00:00,,URGENT,ER,DIED,-1,ASIAN,
    7,72,2160-04-01 00:00:00,2160-04-05 00:00:00,,URGENT,ER,HOME,,ASIAN,
    7,72,2160-04-01 00:00:00,2160-04-09 00:00:00,,URGENT,ER,HOME,,ASIAN,
    8,81,2160-04-01 00:00:00,2160-04-09 00:00:00,,URGENT,ER,HOME,,ASIAN,"""
RESULTS = [  # text, number, the value that is right
    ("4.1", "4.1", 4.1),
    ("4.1", "4.100000095367432", 4.1),  # the same, by another precision
    ("4.1", "1.4", None),
    ("4.1", "-4.1", None),
    ("4,1", "", None),
    ("4.1\u00b9", "", None),
    ("4.1 (hemolyzed)", "4.1", None),
    ("<2.0", "2.0", 2.0),
    ("", "4.1", 4.1),
    ("<2.0 mEq/L", "", 2.0),
    ("<2.0 mg/dL", "", None),  # beside another unit
    ("&lt;2.0", "", 2.0),
    ("<2.0", "5.0", None),
    (">9.0", "1.0", None),
    ("<2.0", "0", 2.0),
    ("4.1 SPECIMEN HEMOLYSED", "4.1", None),
    ("4.1 (not hemolyzed)", "4.1", 4.1),
]
AFTER = len(RESULTS) + 2
"""The line that follows them."""
LABS = (
    "labevent_id,subject_id,hadm_id,itemid,charttime,storetime,value,valuenum,valueuom\n"
    + "\n".join(
        f'{i},1,11,50971,2160-01-02 {i:02}:00:00,2160-01-02 {i:02}:30:00,"{text}",{number},mEq/L'
        for i, (text, number, _) in enumerate(RESULTS)
    )
    + "\n98,1,1.23E+11,50971,2160-01-02 22:00:00,2160-01-02 23:00:00,4.1,4.1,mEq/L"
    + "\n97,1,11,50971,2160-01-02 23:00:00,2160-01-02 23:30:00,4.1,4.1,mEq/L"
    + "\n97,1,11,50971,2160-01-02 23:00:00,2160-01-02 23:30:00,4.7,4.7,mEq/L"
    + "\n94,1,11,50971,2160-01-02 21:00:00,1900-01-01 00:00:00,4.1,4.1,mEq/L"
    + "\n95,1,11,50971,2703-01-02 23:00:00,2703-01-02 23:30:00,4.1,4.1,mEq/L"
    + "\n96,1,11,50971,1580-01-02 23:00:00,1580-01-02 23:30:00,4.1,4.1,mEq/L"
    + "\n90,1,11,50971,2159-01-05 23:00:00,2160-01-02 23:30:00,4.1,4.1,mEq/L"
    + "\n91,1,11,50971,2158-12-30 23:00:00,2160-01-02 23:30:00,4.1,4.1,mEq/L"
    + "\n92,1,11,50971,2210-01-02 23:00:00,2210-01-02 23:30:00,4.1,4.1,mEq/L"
    + "\n99,1,11,50912,2160-01-02 07:00:00,2160-01-02 08:00:00,88.42,88.42,\u00b5mol/L"
)
OUTPATIENT = """
    subject_id,chartdate,seq_num,result_name,result_value
    1,2159-12-01,1,Blood Pressure,120/70
    1,2159-12-02,2,Blood Pressure,70/120"""
BEDSIDE = """
    subject_id,hadm_id,itemid,charttime,storetime,value,valuenum,valueuom
    1,11,220739,2160-01-02 07:00:00,2160-01-02 08:00:00,2.5,2.5,
    1,11,220739,2160-01-02 08:00:00,2160-01-02 09:00:00,2,2,"""


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> drawn_hospitals.Hospital:
    return drawn_hospitals.through(
        tmp_path_factory.mktemp("contradictions"),
        "mimic-iv",
        {
            "hosp/patients": PATIENTS,
            "hosp/admissions": ADMISSIONS,
            "hosp/labevents": LABS,
            "icu/chartevents": BEDSIDE,
            "hosp/omr": OUTPATIENT,
        },
    )


def test_what_contradicts_itself_is_in_quarantine_and_decides_nothing(
    hospital: drawn_hospitals.Hospital,
) -> None:
    values = {row["time"].hour: row["numeric_value"] for row in hospital.events("LOINC//2823-3")}
    assert [values.get(i) for i in range(len(RESULTS))] == pytest.approx(
        [right for _, _, right in RESULTS], nan_ok=True
    )
    (creatinine,) = hospital.events("LOINC//2160-0")
    assert creatinine["numeric_value"] == pytest.approx(1)
    quarantine = hospital.rows(hospital.quality.quarantine)
    reasons = {(r["line"], r["code"]): r["reason"] for r in quarantine if r["line"] < 6}
    assert reasons[2, "MEDS_DEATH"] == "measured,in_lifetime", (
        "a date before the birth, a time before the admission"
    )
    assert reasons[3, "HOSPITAL_ADMISSION//URGENT"] == "visit_ordered"
    assert reasons[3, "HOSPITAL_DISCHARGE//OTHER"] == "visit_ordered,in_lifetime"
    assert reasons[4, "HOSPITAL_ADMISSION//URGENT"] == "interval_ordered,visit_ordered"
    assert {reasons[line, "MEDS_BIRTH"] for line in (4, 5)} == {"time_present,available_time_present"}
    codes = {row["code"] for row in hospital.rows(hospital.silver.events)}
    assert {code for code in codes if code.startswith(("RACE", "MEDS_DEATH", "HOSPITAL_DISCHARGE"))} == {
        "RACE//ASIAN",
        "HOSPITAL_DISCHARGE//HOME",
        "HOSPITAL_DISCHARGE//HOSPICE",
    }
    events = lake.read(hospital.settings, hospital.silver.events)
    assert [
        (row["outcome"], row["contradiction"])
        for row in cohort_flow.cohort(events, "mortality", None, 0).to_pylist()
        if row["outcome"]
    ] == [("left_alive", False)]


def test_two_rows_that_tell_one_fact_differently_are_counted(hospital: drawn_hospitals.Hospital) -> None:
    quarantine = hospital.rows(hospital.quality.quarantine)
    reasons = {(r["source"], r["line"], r["code"].partition("//")[0]): r["reason"] for r in quarantine}
    contradicted = {where for where, reason in reasons.items() if reason == "not_contradicted"}
    assert contradicted == {
        *(("patients", line, "GENDER") for line in (6, 7)),
        *(("patients", line, "MEDS_BIRTH") for line in (8, 9)),
        *(("admissions", line, "HOSPITAL_DISCHARGE") for line in (6, 7, 8, 9)),
        ("labevents", AFTER + 2, "LOINC"),  # of two results of one moment the first counts
    }
    assert reasons["patients", 11, "GENDER"] == "not_repeated", "it is the same twice"
    assert all("value_whole" in reasons["admissions", line, "HOSPITAL_EXPIRE_FLAG"] for line in (6, 7))
    assert reasons["chartevents", 2, "LOINC"] == "value_whole", "a coma score is whole"
    assert reasons["patients", 12, "MEDS_BIRTH"] == "subject_listed,identifier_whole", (
        "a spreadsheet shortened it"
    )
    assert reasons["labevents", AFTER, "LOINC"] == "visit_listed,identifier_whole"
    assert reasons["labevents", AFTER + 3, "LOINC"] == "available_time_present", "stored in 1900: never known"
    assert [row["numeric_value"] for row in hospital.events("LOINC//8480-6")] == [120]
    assert reasons["omr", 3, "LOINC"] == "measured", "the systolic is below the diastolic"
    assert hospital.quality.reasons["not_contradicted"] == len(contradicted) + 1, "one breaks two rules"


def lab_line(number: int) -> int:
    return next(i for i, text in enumerate(LABS.splitlines(), start=1) if text.startswith(f"{number},"))


def test_what_is_measured_years_from_its_visit_is_in_quarantine(hospital: drawn_hospitals.Hospital) -> None:
    """A year before the visit it may be, and not half a century after it; the visit of none is asked about births."""
    reasons = {
        r["line"]: r["reason"]
        for r in hospital.rows(hospital.quality.quarantine)
        if r["source"] == "labevents"
    }
    assert lab_line(90) not in reasons
    assert [reasons[lab_line(number)] for number in (91, 92)] == ["near_visit", "near_visit"]


def test_nothing_is_dated_before_the_birth_or_by_another_calendar(hospital: drawn_hospitals.Hospital) -> None:
    """The Thai and an Islamic calendar's years, and a birth after the admission, of which one of both is wrong."""
    quarantine = hospital.rows(hospital.quality.quarantine)
    late = [r for r in quarantine if r["reason"] in ("in_lifetime", "near_visit,in_lifetime")]
    first = lab_line(95)
    assert {r["line"] for r in late if r["source"] == "labevents"} == {first, first + 1}
    visit = {r["code"] for r in late if r["source"] == "admissions"}
    assert visit == {"HOSPITAL_ADMISSION//URGENT", "HOSPITAL_DISCHARGE//HOME", "RACE//ASIAN"}
