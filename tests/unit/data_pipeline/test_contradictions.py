"""Two columns, two rows or a date that stands for nothing: what can't be told is in quarantine, never guessed."""

from typing import Any

import pytest

from data_pipeline.cohort import labels
from mediscale.storage import lake

PATIENTS = """
    subject_id,gender,anchor_age,anchor_year,dod
    1,F,60,2160,1900-01-01
    2,M,70,2160,
    3,F,999,2160,
    4,M,60,60,"""
ADMISSIONS = """
    subject_id,hadm_id,admittime,dischtime,deathtime,admission_type,admission_location,discharge_location,hospital_expire_flag,race,edregtime
    1,11,2160-01-01 10:00:00,2160-01-05 12:00:00,1900-01-01 00:00:00,EW EMER.,ER,HOME,0,n.a.,
    2,21,2160-02-01 00:00:00,2999-12-31 00:00:00,,URGENT,ER,,0,\u2014,
    2,22,2160-03-01 00:00:00,2160-03-05 00:00:00,,URGENT,ER,HOME WITH HOSPICE,0,#N/A,1900-01-01 00:00:00
    3,31,2160-02-01 00:00:00,2160-02-05 00:00:00,,URGENT,ER,HOME HOSPICE CARE,0,ASIAN,"""
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
]
LABS = (
    "labevent_id,subject_id,hadm_id,itemid,charttime,storetime,value,valuenum,valueuom\n"
    + "\n".join(
        f'{i},1,11,50971,2160-01-02 {i:02}:00:00,2160-01-02 {i:02}:30:00,"{text}",{number},mEq/L'
        for i, (text, number, _) in enumerate(RESULTS)
    )
    + "\n99,1,11,50912,2160-01-02 07:00:00,2160-01-02 08:00:00,88.42,88.42,\u00b5mol/L"
)


@pytest.fixture
def hospital(take_in: Any) -> Any:
    return take_in(
        "mimic-iv", {"hosp/patients": PATIENTS, "hosp/admissions": ADMISSIONS, "hosp/labevents": LABS}
    )


def test_what_contradicts_itself_is_in_quarantine_and_decides_nothing(hospital: Any) -> None:
    values = {row["time"].hour: row["numeric_value"] for row in hospital.events("LOINC//2823-3")}
    assert [values.get(i) for i in range(len(RESULTS))] == pytest.approx(
        [right for _, _, right in RESULTS], nan_ok=True
    )
    (creatinine,) = hospital.events("LOINC//2160-0")
    assert creatinine["numeric_value"] == pytest.approx(1)
    reasons = {(r["line"], r["code"]): r["reason"] for r in hospital.rows(hospital.quality.quarantine)}
    assert reasons[2, "MEDS_DEATH"] == "measured", "a date before the birth, a time before the admission"
    assert {reasons[3, "HOSPITAL_DISCHARGE//OTHER"], reasons[3, "HOSPITAL_ADMISSION//URGENT"]} == {
        "visit_ordered"
    }
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
        for row in labels.cohort(events, "mortality", None, 0).to_pylist()
        if row["outcome"]
    ] == [("left_alive", False)]
