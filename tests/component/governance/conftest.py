"""A small hospital whose records went through the real stages, whose model answered about a patient of it."""

import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import write_deltalake
from fastapi.testclient import TestClient
from fixtures.drawn_hospitals import write_extract
from fixtures.promoted_models import promoter

from data_pipeline.features import kernel
from data_pipeline.ingest.extract_files import digest_of
from data_pipeline.notes import encoders
from mediscale.core.refs import TableRef
from mediscale.core.settings import Settings
from mediscale.pipeline import call
from mediscale.storage import calls, lake
from serving.app import create_app
from serving.log.prediction_log import PredictionLog
from serving.risk.models import Predictors

DATASET, RUN = "synthetic", "cli-test"
PATIENT, OTHER = "71000017", "71000025"
VISIT = "81000018"
WORD = "quillfeather"
"""Stands in a note of the patient and nowhere else."""
ASKED = datetime(2160, 1, 2, 12)

WARD = "EW EMER.,EMERGENCY ROOM,HOME,0,WHITE"
LAST = "hospital_expire_flag,race,edregtime"
EXTRACT = {
    "hosp/patients": f"""
        subject_id,gender,anchor_age,anchor_year,dod
        {PATIENT},F,60,2160,
        {OTHER},M,71,2160,
        71000033,F,82,2160,""",
    "hosp/admissions": f"""
        subject_id,hadm_id,admittime,dischtime,deathtime,admission_type,admission_location,discharge_location,{LAST}
        {PATIENT},{VISIT},2160-01-01 10:00:00,2160-01-05 12:00:00,,{WARD},2160-01-01 06:00:00
        {OTHER},81000026,2160-02-01 00:00:00,2160-02-04 00:00:00,,EW EMER.,EMERGENCY ROOM,HOME,0,ASIAN,
        71000033,81000034,2160-03-01 00:00:00,2160-03-04 00:00:00,,EW EMER.,EMERGENCY ROOM,HOME,0,ASIAN,""",
    "hosp/labevents": f"""
        labevent_id,subject_id,hadm_id,itemid,charttime,storetime,value,valuenum,valueuom
        1,{PATIENT},{VISIT},50912,2160-01-01 13:00:00,2160-01-01 14:00:00,1.2,1.2,mg/dL
        2,{PATIENT}.0,{VISIT},50983,2160-01-02 07:00:00,2160-01-02 08:00:00,140,140,mEq/L
        3,{OTHER},81000026,50983,2160-02-02 07:00:00,2160-02-02 08:00:00,139,139,mEq/L
        4,{PATIENT},{VISIT},50912,2160-01-03 07:00:00,2160-01-03 08:00:00,1.9,1.9,mg/dL
        5,{PATIENT},{VISIT},50983,2160-01-02 09:00:00,2160-01-02 10:00:00,HEMOLYZED,,furlong
        6,,{VISIT},50983,2160-01-02 09:00:00,2160-01-02 10:00:00,141,141,mEq/L
        7,{OTHER},81000026,50983,2160-02-02 09:00:00,2160-02-02 10:00:00,TORN,,furlong""",
    "hosp/omr": f"""
        subject_id,chartdate,seq_num,result_name,result_value
        {PATIENT},2159-12-01,1,Weight (Lbs),220
        {OTHER},2159-12-01,1,Weight (Lbs),190""",
    "hosp/diagnoses_icd": f"""
        subject_id,hadm_id,seq_num,icd_code,icd_version
        {PATIENT},{VISIT},1,I50.9,10
        {OTHER},81000026,1,I50.9,10""",
    "note/discharge": f"""
        note_id,subject_id,hadm_id,charttime,storetime,text
        n1,{PATIENT},{VISIT},2160-01-02 09:00:00,2160-01-02 09:30:00,Comfortable with a {WORD} rash
        n2,{OTHER},81000026,2160-02-02 13:00:00,2160-02-02 13:30:00,Comfortable
        n3,{PATIENT},{VISIT},2160-01-02 10:00:00,2160-01-02 10:30:00,...""",
}  # fmt: skip


@dataclass(frozen=True)
class Hospital:
    """A home, and the extract that it was made from, which lies outside."""

    settings: Settings
    extract: Path

    def land(self, excluded: str = "") -> Any:
        """Bronze, by a recorded call."""
        digest = digest_of(str(self.extract), "mimic-iv")
        path = {"path": str(self.extract), "extract_digest": digest, "excluded": excluded}
        return self.call("bronze", {"source": "mimic-iv", "dataset": DATASET, **path}).bronze

    def ingest(self) -> None:
        """Bronze, validate, silver and both tables of notes."""
        shared: dict[str, Any] = {"source": "mimic-iv", "dataset": DATASET, "bronze": self.land()}
        judged = self.call("validate", {**shared, "max_quarantine_share": 1})
        self.call("silver", {**shared, "facts": judged.facts, "shards": 2})
        clean = {"pseudonym_secret": "published", "deidentifier": "rules", "max_quarantine_share": 1}
        notes = self.call("deidentify", {**shared, **clean}).notes
        self.call("note_tokens", {"dataset": DATASET, "notes": notes, "encoder": encoders.PACKAGED})

    def call(self, stage: str, given: dict[str, Any]) -> Any:
        return call.call(stage, given, self.settings, RUN).result

    def subject(self, number: str) -> int:
        """The pseudonym of a patient."""
        rows = lake.read(self.settings, lake.latest(self.settings, DATASET, "subjects")).to_pylist()
        return next(row["subject_id"] for row in rows if row["source_subject"] == number)


def _training_set(settings: Settings, subjects: dict[str, int]) -> TableRef:
    """Two versions with the same patients, of which a model was trained on the first."""
    n, at = len(subjects), datetime(2160, 1, 2, 10)
    keys = {
        "subject_id": pa.array([*subjects.values()]),
        "stay_id": pa.array(range(n)),
        "admission_time": pa.array([at] * n, pa.timestamp("us")),
        "prediction_time": pa.array([at] * n, pa.timestamp("us")),
        "boolean_value": pa.array([False] * n),
        "split": pa.array(["train", "held_out", "tuning"]),
        **{name: pa.array(["unknown"] * n) for name in ("sex", "age_band", "ethnicity")},
    }
    measured = {name: pa.array([1.0] * n) for name in kernel.names("mortality")}
    for _ in range(2):
        uri = settings.table_uri(DATASET, "training_set_mortality")
        write_deltalake(uri, pa.table(keys | measured), mode="overwrite")
    return lake.latest(settings, DATASET, "training_set_mortality").model_copy(update={"version": 0})


def _register(settings: Settings, trained: dict[Any, Path], training_set: TableRef) -> None:
    folder = settings.home / "artifacts" / "1"
    shutil.copytree(trained["mortality", 1], folder)
    move = promoter(settings, trained)("mortality", 1, folder=folder)
    record = calls.Call(
        stage="risk_model",
        key="r" * 32,
        run_id=RUN,
        params={"dataset": DATASET, "task": "mortality", "training_set": training_set.model_dump()},
        code="c",
        lock="l",
        result={"model": move.version.model_dump()},
        inputs=(f"table:{training_set.table_id}@0",),
        produced=("model:synthetic-mortality/1",),
        outputs=(),
        started_at=datetime(2026, 1, 1, tzinfo=UTC),
        seconds=1,
    )
    calls.write(settings, record)


def _ask(settings: Settings, number: str, asked: datetime) -> None:
    """The real application about a patient of the lake; it moves what it logged into the lake as it ends."""
    log = PredictionLog(settings, DATASET, "w")
    app = create_app(settings, Predictors(settings, DATASET, "production"), log)
    with TestClient(app) as client:
        answer = client.post("/predict", json={"patient": number, "prediction_time": asked.isoformat()})
    assert answer.status_code == 200, answer.text


@pytest.fixture(scope="session")
def _first_hospital(trained: Any, tmp_path_factory: pytest.TempPathFactory) -> Hospital:
    folder = tmp_path_factory.mktemp("governed")
    hospital = Hospital(Settings(home=folder / "home"), write_extract(folder / "extract", EXTRACT))
    hospital.ingest()
    subjects = {number: hospital.subject(number) for number in (PATIENT, OTHER, "71000033")}
    _register(hospital.settings, trained, _training_set(hospital.settings, subjects))
    for number, asked in ((PATIENT, ASKED), (OTHER, datetime(2160, 2, 2, 12))):
        _ask(hospital.settings, number, asked)
    return hospital


@pytest.fixture
def hospital(_first_hospital: Hospital, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hospital:
    """A copy for each test, with a folder of trust of its own; commands find the home."""
    shutil.copytree(_first_hospital.settings.home, tmp_path / "home")
    shutil.copytree(_first_hospital.settings.trust, tmp_path / "trust")
    monkeypatch.setenv("MEDISCALE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MEDISCALE_TRUST", str(tmp_path / "trust"))
    return Hospital(Settings(), _first_hospital.extract)
