"""Two hand-drawn hospitals with the oddities of the real ones, taken from files to events once for all tests."""

import gzip
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from data_pipeline.ingest import bronze, silver
from data_pipeline.ingest import validate as quality
from data_pipeline.ingest.source import digest_of
from mediscale.core.refs import TableRef
from mediscale.core.settings import Settings
from mediscale.storage import lake

MIMIC_III = {
    # Upper case, as the original files are; 1 is an outpatient too, 2 is older than 89, 3 dies in hospital.
    "PATIENTS": """
        SUBJECT_ID,GENDER,DOB,DOD,NOT_NAMED_IN_THE_YAML
        1,F,2100-03-04 00:00:00,2160-05-03 00:00:00,x
        2,M,1860-02-01 00:00:00,,x
        3,M,2090-01-01 00:00:00,2160-04-03 00:00:00,x""",
    "ADMISSIONS": """
        SUBJECT_ID,HADM_ID,ADMITTIME,DISCHTIME,DEATHTIME,ADMISSION_TYPE,ADMISSION_LOCATION,DISCHARGE_LOCATION,ETHNICITY,EDREGTIME
        1,11,2160-01-01 10:00:00,2160-01-05 12:00:00,,EMERGENCY,EMERGENCY ROOM ADMIT,SNF,WHITE,2160-01-01 06:00:00
        1,12,2160-03-02 10:00:00,2160-03-01 10:00:00,,ELECTIVE,CLINIC REFERRAL,HOME,WHITE,
        2,21,2160-02-01 00:00:00,2160-02-04 00:00:00,,URGENT,CLINIC REFERRAL,HOSPICE-HOME,ASIAN,
        3,31,2160-04-01 08:00:00,2160-04-03 09:30:00,2160-04-03 09:30:00,EMERGENCY,CLINIC,DEAD/EXPIRED,WHITE,""",
    "LABEVENTS": """
        ROW_ID,SUBJECT_ID,HADM_ID,ITEMID,CHARTTIME,VALUE,VALUENUM,VALUEUOM
        101,1,,50912,2160-01-01 07:00:00,1.2,1.2,mg/dL
        102,1,11,50912,2160-01-02 07:00:00,88.42,88.42,umol/L
        103,1,11,51003,2160-01-02 07:00:00,<0.01,,ng/ml
        104,1,11,50912,2160-01-02 08:00:00,HEMOLYZED,,mg/dL
        105,1,11,50931,2160-01-02 08:00:00,100,100,furlong
        106,1,11,51249,2160-01-02 08:00:00,33,33,%
        107,1,11,50971,2160-01-02 08:00:00,99,99,mEq/L
        108,9,,50971,2160-01-02 08:00:00,4,4,mEq/L
        109,1,,50971,2159-06-01 08:00:00,4,4,mEq/L
        110,1,11,51486,2160-01-02 08:00:00,NEG,,
        111,1,11,50889,2160-01-02 08:00:00,2,2,mg/dL
        112,1,11,50983,not a time,140,140,mEq/L
        113,1,11,50983,2160-01-02 08:00:00,NaN,NaN,mEq/L
        ,1,11,50983,2160-01-02 08:00:00,140,140,mEq/L""",
    "CHARTEVENTS": """
        ROW_ID,SUBJECT_ID,HADM_ID,ITEMID,CHARTTIME,STORETIME,VALUENUM,VALUEUOM,ERROR
        201,1,11,211,2160-01-01 12:00:00,2159-01-01 12:00:00,80,BPM,0
        202,1,11,211,2160-01-01 13:00:00,2160-01-01 13:30:00,0,BPM,0
        203,1,11,678,2160-01-01 13:00:00,2160-01-01 13:10:00,98.6,Deg. F,0
        204,1,11,677,2160-01-01 13:00:00,2160-01-01 13:10:00,37,Deg. C,0
        205,1,11,211,2160-01-01 14:00:00,2160-01-01 14:10:00,85,BPM,1
        206,1,11,190,2160-01-01 14:00:00,2160-01-01 14:10:00,0.5,torr,0
        207,1,11,223835,2160-01-01 15:00:00,2160-01-01 15:10:00,40,,0
        208,1,11,646,2160-01-01 15:00:00,,97,%,0
        209,1,11,128,2160-01-01 15:00:00,2160-01-01 15:10:00,1,,0
        210,1,12,211,2160-03-02 11:00:00,2160-03-02 11:10:00,90,BPM,0""",
    "INPUTEVENTS_MV": """
        ROW_ID,SUBJECT_ID,HADM_ID,ITEMID,STARTTIME,ENDTIME,AMOUNT,AMOUNTUOM,STORETIME,STATUSDESCRIPTION
        301,1,11,221906,2160-01-01 12:00:00,2160-01-01 20:00:00,8,mg,2160-01-01 12:05:00,FinishedRunning
        302,1,11,221906,2160-01-01 12:00:00,2160-01-01 13:00:00,1,mg,2160-01-01 12:05:00,Rewritten""",
    "PRESCRIPTIONS": """
        ROW_ID,SUBJECT_ID,HADM_ID,STARTDATE,DRUG_TYPE,DRUG
        401,1,11,2160-01-02 00:00:00,MAIN,Vancomycin
        402,1,11,2160-01-02 00:00:00,BASE,NS""",
    "DIAGNOSES_ICD": """
        ROW_ID,SUBJECT_ID,HADM_ID,ICD9_CODE
        501,1,11,0389""",
    "ICUSTAYS": """
        SUBJECT_ID,HADM_ID,ICUSTAY_ID,FIRST_CAREUNIT,INTIME,OUTTIME,LOS
        1,11,61,MICU,2160-01-01 11:00:00,2160-01-03 11:00:00,2.0""",
}  # fmt: skip

MIMIC_IV = {
    "hosp/patients": """
        subject_id,gender,anchor_age,anchor_year,dod
        1,F,60,2160,
        2,M,91,2160,2161-01-01""",
    "hosp/admissions": """
        subject_id,hadm_id,admittime,dischtime,deathtime,admission_type,admission_location,discharge_location,race,edregtime
        1,11,2160-01-01 10:00:00,2160-01-05 12:00:00,,EW EMER.,EMERGENCY ROOM,HOME,WHITE,2160-01-01 06:00:00
        2,21,2160-02-01 00:00:00,2160-02-02 00:00:00,,EU OBSERVATION,EMERGENCY ROOM,,ASIAN,
        2,22,2160-03-01 00:00:00,2160-03-04 00:00:00,,OBSERVATION ADMIT,EMERGENCY ROOM,HOSPICE,ASIAN,""",
    "hosp/labevents": """
        labevent_id,subject_id,hadm_id,itemid,charttime,storetime,value,valuenum,valueuom
        1,1,,50912,2160-01-01 07:00:00,2160-01-01 08:00:00,1.2,1.2,mg/dL
        2,1,11,50912,2160-01-02 07:00:00,2160-01-02 08:00:00,9.9,9.9,mg/dL
        2,1,11,50912,2160-01-02 07:00:00,2160-01-02 12:00:00,1.9,1.9,mg/dL
        3,1,11,50983,2160-01-02 07:00:00,2160-01-02 08:00:00,140,140,mEq/L
        3,1,11,50983,2160-01-02 07:00:00,2160-01-02 08:00:00,140,140,mEq/L""",
    "hosp/omr": """
        subject_id,chartdate,seq_num,result_name,result_value
        1,2159-12-01,1,Weight (Lbs),220
        1,2159-12-01,1,Blood Pressure,120/70""",
    "hosp/diagnoses_icd": """
        subject_id,hadm_id,seq_num,icd_code,icd_version
        1,11,1,413.9,9
        1,11,2,38.9,9
        1,11,3,V70.7,9
        1,11,4,I50.9,10
        1,11,5,0389,9""",
    "note/discharge": '''
        note_id,subject_id,hadm_id,charttime,storetime,text
        n1,1,11,2160-01-05 12:00:00,2160-01-05 12:30:00,"First line
        second line, ""quoted"""
        n2,1,11,2160-01-05 13:00:00,2160-01-05 13:30:00,Third''',
}  # fmt: skip


def write_extract(folder: Path, tables: Mapping[str, str]) -> Path:
    for name, text in tables.items():
        path = folder / f"{name}.csv.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = [line.strip() for line in text.strip().splitlines()]
        path.write_bytes(gzip.compress("\n".join(lines).encode() + b"\n", mtime=0))
    return folder


@dataclass(frozen=True)
class Hospital:
    """An extract that went through bronze, quality and silver."""

    settings: Settings
    extract: Path
    bronze: bronze.Result
    quality: quality.Result
    silver: silver.Result

    def rows(self, ref: TableRef) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = lake.read(self.settings, ref).to_pylist()
        return rows

    def events(self, code: str) -> list[dict[str, Any]]:
        """Events of a code, in order of time and of being known."""
        found = [row for row in self.rows(self.silver.events) if row["code"] == code]
        return sorted(found, key=lambda row: (row["time"], row["available_time"]))

    def reasons(self, source: str) -> dict[int, str]:
        """Why rows of a table are in quarantine, by their line in the file."""
        return {r["line"]: r["reason"] for r in self.rows(self.quality.quarantine) if r["source"] == source}


def _through(folder: Path, source: str, tables: Mapping[str, str]) -> Hospital:
    settings = Settings(home=folder / "home")
    extract = write_extract(folder / "extract", tables)
    given = {"source": source, "dataset": source, "path": str(extract)}
    landed = bronze.run(
        bronze.Params(**given, extract_digest=digest_of(str(extract), source)), settings, "landed"
    )
    shared: dict[str, Any] = {"source": source, "dataset": source, "bronze": landed.bronze}
    judged = quality.run(quality.Params(**shared, max_quarantine_share=1), settings, "judged")
    laid_out = silver.run(silver.Params(**shared, facts=judged.facts, shards=2), settings, "laid out")
    return Hospital(settings, extract, landed, judged, laid_out)


@pytest.fixture(scope="session")
def iii(spark: object, tmp_path_factory: pytest.TempPathFactory) -> Hospital:
    assert spark, "the session of this test run, before a stage starts one for a home"
    return _through(tmp_path_factory.mktemp("iii"), "mimic-iii", MIMIC_III)


@pytest.fixture(scope="session")
def iv(spark: object, tmp_path_factory: pytest.TempPathFactory) -> Hospital:
    assert spark, "as above"
    return _through(tmp_path_factory.mktemp("iv"), "mimic-iv", MIMIC_IV)


@pytest.fixture
def extract(tmp_path: Path) -> Callable[..., Path]:
    """Writes the MIMIC-III hospital's files, some of them replaced (or, given None, left out)."""

    def write(**replaced: str | None) -> Path:
        tables = {name: text for name, text in (MIMIC_III | replaced).items() if text is not None}
        return write_extract(tmp_path / "extract", tables)

    return write
