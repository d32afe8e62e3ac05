"""Records in the layouts of MIMIC that used to come out wrong in silence, through bronze, validate and silver once."""

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb
import pytest
from fixtures.drawn_hospitals import MIMIC_III, MIMIC_IV, Hospital, through

from mediscale.core.settings import Settings
from mediscale.storage import duckdb_tables, lake, table_files

III = MIMIC_III | {
    "PATIENTS": """
        SUBJECT_ID,GENDER,DOB,DOD,FLAG,flag,Ref Range (low),LINE
        1,F ,2100-03-04 00:00:00,,x,y,z,7
        2.0,female,2100-02-01,,x,y,z,7
        3,X,2100-02,,x,y,z,7""",
    "ADMISSIONS": """
        SUBJECT_ID,HADM_ID,ADMITTIME,DISCHTIME,DEATHTIME,ADMISSION_TYPE,ADMISSION_LOCATION,DISCHARGE_LOCATION,HOSPITAL_EXPIRE_FLAG,ETHNICITY,EDREGTIME
        1,11,2160-01-01 10:00:00,2160-01-05 12:00:00,NULL,EMERGENCY   ,CLINIC,dead/expired ,1.0,NULL,
        2,21.0,2160-02-01 00:00:00,2160-02-04 00:00:00,,Walk-in,CLINIC,HOSPICE-HOME,0,ASIAN,
        2,22,2160-03-01 00:00:00,20160-03-04 00:00:00,,ELECTIVE,CLINIC,HOME,0,ASIAN,
        2,23,2160-05-01 00:00:00,2160-05-04 00:00:00,,ELECTIVE,CLINIC,HOME,0,ASIAN,2160-05-05 00:00:00""",
    "LABEVENTS": """
        ROW_ID,SUBJECT_ID,HADM_ID,ITEMID,CHARTTIME,VALUE,VALUENUM,VALUEUOM
        101,1,21,50912,2160-01-02 07:00:00,9.4,9.4,mg/dL
        102,1,99,50912,2160-01-02 07:00:00,9.4,9.4,mg/dL
        103,1,11.0,50912.0,2160-01-02 07:00:00,1.2,1.2,mg/dL
        104,1,NULL,50912,2160-01-02 08:00:00,1.3,1.3,MG/DL\u00a0
        105,1,11,50971,2160-01-02 08:00:00,<10,,mEq/L
        106,1,11,50971,2160-01-02 09:00:00,LESS THAN 1.5,,mEq/L
        107,1,11,51003,2160-01-02 09:00:00,<0.01,0.01,ng/ml
        108,1,11,50971,2160-01-02 10:00:00,HEMOLYZED,7.9,mEq/L
        109,1,11,50983,2160,140,140,mEq/L
        110,1,11,50983,2160-01-02 11:00:00-05:00,139,NULL,mEq/L
        111,1,11,50983,2160-01-02T16:00:00Z,138,138,mEq/L
        112,1,11,50983,2160-01-02 17:00:00,3-5,,mEq/L
        113,2,22,50983,2160-03-02 17:00:00,141,141,mEq/L
        114,1,11,50931,2160-01-02 08:00:00,>500,,mg/dL
        115,1,11,50931,2160-01-02 09:00:00,>80,80,mg/dL""",
    "CHARTEVENTS": """
        ROW_ID,SUBJECT_ID,HADM_ID,ITEMID,CHARTTIME,STORETIME,VALUE,VALUENUM,VALUEUOM,ERROR
        201,1,11,223900,2160-01-01 12:00:00,2160-01-01 12:10:00,No Response-ETT,1,,0
        202,1,11,723,2160-01-01 13:00:00,2160-01-01 13:10:00,1.0 ET/Trach,1,points,0
        203,1,11,223900,2160-01-01 14:00:00,2160-01-01 14:10:00,No Response,1,,0
        204,1,11,220739,2160-01-01 14:00:00,2160-01-01 14:10:00,None,1,,0
        205,1,11,211,2160-01-01 14:00:00,2160-01-01,80,80,BPM,0
        206,1,11,211,2160-01-01 15:00:00,2160-01-01 15:10:00,85,85,BPM,1.0""",
    "PRESCRIPTIONS": """
        ROW_ID,SUBJECT_ID,HADM_ID,STARTDATE,ENDDATE,DRUG_TYPE,DRUG
        401,1,11,2160-01-02 00:00:00,2160-01-01 00:00:00,MAIN,Vancomycin
        402,1,11,2160-01-03 00:00:00,,main ,Vancomycin
        403,1,11,2160-01,,MAIN,Vancomycin""",
    "DIAGNOSES_ICD": """
        ROW_ID,SUBJECT_ID,HADM_ID,ICD9_CODE
        501,1,11,38.9
        502,1,11,NULL
        503,1,11,I50.9""",
    "ICUSTAYS": """
        SUBJECT_ID,HADM_ID,ICUSTAY_ID,FIRST_CAREUNIT,INTIME,OUTTIME,LOS
        1,11,61,MICU,2160-01-01 12:00:00,2160-01-01 02:00:00,-0.4
        1,11,62,MICU,2160-01-02 12:00:00,2160-01-03 12:00:00,1.0""",
    "INPUTEVENTS_MV": """
        ROW_ID,SUBJECT_ID,HADM_ID,ITEMID,STARTTIME,ENDTIME,AMOUNT,AMOUNTUOM,STORETIME,STATUSDESCRIPTION
        301,1,11,221906,2160-01-01 12:00:00,2160-01-01 11:00:00,8,mg,2160-01-01 12:05:00,FinishedRunning
        302,1,11,221906,2160-01-01 12:00:00,2160-01-01 13:00:00,1,mg,2160-01-01 12:05:00,REWRITTEN """,
}  # fmt: skip

IV = MIMIC_IV | {
    "hosp/diagnoses_icd": """
        subject_id,hadm_id,seq_num,icd_code,icd_version
        1,11,1,428.0,9.0
        1,11,2,i50.9,10
        1,11,3, I509,10
        1,11,4,I50.9,11""",
    "note/discharge": """
        note_id,subject_id,hadm_id,charttime,storetime,text
        n1,1,21,2160-01-05 12:00:00,2160-01-05 12:30:00,Of another patient
        n2,1,,2160-01-05 12:00:00,2160-01-05 12:30:00,Of no visit""",
}  # fmt: skip


def made(folder: Path, source: str, tables: Mapping[str, str]) -> Hospital:
    return through(folder, source, tables, extract="demo [v1.4] {a,b} 100%?*")


@pytest.fixture(scope="module")
def third(tmp_path_factory: pytest.TempPathFactory) -> Hospital:
    return made(tmp_path_factory.mktemp("records iii"), "mimic-iii", III)


@pytest.fixture(scope="module")
def fourth(tmp_path_factory: pytest.TempPathFactory) -> Hospital:
    return made(tmp_path_factory.mktemp("records iv"), "mimic-iv", IV)


def values(hospital: Hospital, code: str) -> list[Any]:
    return [row["numeric_value"] for row in hospital.events(code)]


def test_padded_words_are_what_they_say_and_unlisted_ones_are_counted(third: Hospital) -> None:
    events = third.rows(third.silver.events)
    codes = sorted(row["code"] for row in events if row["source"] == "admissions")
    assert "HOSPITAL_ADMISSION//EMERGENCY" in codes
    assert "HOSPITAL_DISCHARGE//DIED" in codes
    assert "HOSPITAL_ADMISSION//OTHER" in codes
    assert third.bronze.unlisted_words == {"patients.gender": 1, "admissions.admission_type": 1}
    assert len(third.events("GENDER//F")) == 2
    assert len(third.events("TREATMENT//antibiotic")) == 1


def test_a_visit_is_listed_and_the_patient_s_own(third: Hospital) -> None:
    assert {line: r for line, r in third.reasons("labevents").items() if line < 6} == {
        2: "visit_listed",
        3: "visit_listed",
    }
    creatinine = third.events("LOINC//2160-0")
    assert [row["numeric_value"] for row in creatinine] == [1.2, 1.3]
    assert creatinine[0]["visit_id"] == creatinine[1]["visit_id"] is not None


def test_nothing_spelled_out_is_nothing(third: Hospital) -> None:
    codes = {row["code"] for row in third.rows(third.silver.events)}
    assert not [code for code in codes if "NULL" in code.upper()]
    assert [code for code in codes if code.startswith("RACE//")] == ["RACE//ASIAN"]


def test_a_text_voids_the_number_beside_it(third: Hospital) -> None:
    assert values(third, "LOINC//9270-0") == [1], "only the patient who gave no answer without a tube"
    assert values(third, "LOINC//9267-6") == [1], "the answer None is an answer"
    reasons = third.reasons("chartevents")
    assert (reasons[2], reasons[3]) == ("measured", "measured")
    assert third.reasons("labevents")[9] == "measured"


def test_a_bound_is_a_value_only_where_it_tells_low_from_normal(third: Hospital) -> None:
    potassium, troponin, glucose = (third.events(f"LOINC//{c}") for c in ("2823-3", "6598-7", "2345-7"))
    marked = [(row["numeric_value"], row["text_value"]) for row in (*potassium, *troponin, *glucose)]
    assert marked == [(1.5, "<"), (0.01, "<"), (500, ">")]
    assert (third.reasons("labevents")[6], third.reasons("labevents")[16]) == ("bound_informative",) * 2


def test_one_instant_is_one_time_in_silver_and_a_part_of_a_time_is_none(third: Hospital) -> None:
    sodium = third.events("LOINC//2951-2")
    assert [row["time"] for row in sodium] == [datetime(2160, 1, 2, 16)] * 2
    assert [row["numeric_value"] for row in sodium] == [139, 138]
    assert third.reasons("labevents")[10] == "time_present,available_time_present,time_readable"
    assert third.reasons("labevents")[13] == "value_readable"
    assert third.reasons("chartevents")[6] == "time_readable"
    assert "time_readable" in third.reasons("prescriptions")[4], "although it has no time to stand at"


def test_a_visit_whose_end_can_t_be_read_is_quarantined_with_what_refers_to_it(third: Hospital) -> None:
    assert "time_readable" in third.reasons("admissions")[4]
    assert third.reasons("labevents")[14] == "visit_ordered"


def test_nothing_ends_before_it_begins(third: Hospital) -> None:
    assert third.reasons("icustays") == {2: "interval_ordered"}
    assert third.reasons("inputevents_mv") == {2: "interval_ordered"}
    assert "interval_ordered" in third.reasons("admissions")[5], "registered after the discharge"
    assert third.reasons("prescriptions")[2] == "measured", "an order that ended before it began"
    assert len(third.events("ICU_ADMISSION")) == len(third.events("ICU_DISCHARGE")) == 1


def test_codes_have_one_spelling_and_others_are_quarantined(third: Hospital, fourth: Hospital) -> None:
    assert len(third.events("ICD9CM//0389")) == 1
    assert third.reasons("diagnoses_icd") == {4: "code_present,code_spelled"}
    assert len(fourth.events("ICD9CM//4280")) == 1
    assert len(fourth.events("ICD10CM//I509")) == 2
    assert fourth.reasons("diagnoses_icd") == {5: "code_present,code_spelled"}


def test_columns_that_a_table_can_t_have_are_renamed_and_that_is_said(third: Hospital) -> None:
    assert third.bronze.renamed == ("patients.flag_2", "patients.ref_range_low", "patients.line_2")
    (first, *_) = sorted(third.rows(third.bronze.bronze["patients"]), key=lambda row: row["line"])
    assert (first["flag"], first["flag_2"], first["ref_range_low"], first["line_2"]) == ("x", "y", "z", "7")


def test_a_home_with_a_pattern_in_its_name_is_read(third: Hospital, tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "lake [v1] {x}")
    rows = lake.read(third.settings, third.silver.subjects)
    ref = table_files.write(settings, "hospital", "subjects", "copied", rows.to_batches())
    with duckdb.connect() as database:
        duckdb_tables.view(database, settings, ref, "copied")
        (read,) = database.execute("select count(*) from copied").fetchall()[0]
    assert read == len(lake.read(settings, ref)) == len(rows) > 0
