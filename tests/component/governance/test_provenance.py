"""From an answer back to the lines of the extract, from a patient forward to the answers; answers given again."""

import io
from datetime import datetime

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from component.governance.conftest import ASKED, DATASET, OTHER, PATIENT, VISIT
from deltalake import write_deltalake

from mediscale.cli import main
from mediscale.governance import patient, provenance
from mediscale.storage import lake


def answers(hospital, number: str = PATIENT) -> list[provenance.Prediction]:
    return provenance.scored(hospital.settings, patient.find(hospital.settings, DATASET, number), None)


def test_a_prediction_leads_back_to_the_lines_that_were_known_then(hospital, capsys) -> None:
    (answer,) = answers(hospital)
    assert main.main(["lineage", answer.prediction_id]) == 0
    said = capsys.readouterr().out
    assert f"prediction {answer.prediction_id}" in said
    assert "risk_model rrrrrrrrrrrr of 2026-01-01 00:00: synthetic-mortality/1" in said
    assert "its inputs: events v0 of synthetic, as known at 2160-01-02 12:00:00" in said
    lines = {line.partition(": ")[0].strip(): line.partition(": ")[2] for line in said.splitlines()}
    assert lines["LOINC//2160-0 (creatinine)"] == "hosp/labevents.csv.gz line 2", (
        "not the creatinine of the day after"
    )
    assert lines["LOINC//2951-2 (sodium)"] == "hosp/labevents.csv.gz line 3"
    assert lines["MEDS_BIRTH"] == "hosp/patients.csv.gz line 2"
    assert "ICD10CM" not in said, "coded after the stay"


@pytest.mark.usefixtures("hospital")
def test_a_version_leads_back_to_its_extract(capsys) -> None:
    assert main.main(["lineage", "synthetic-mortality@1"]) == 0
    assert "risk_model" in capsys.readouterr().out
    assert main.main(["lineage", "synthetic-mortality/9"]) == 7
    assert "No record of this home registered synthetic-mortality/9" in capsys.readouterr().err
    assert main.main(["lineage", "w-1-1000"]) == 7


@pytest.mark.usefixtures("hospital")
def test_a_patient_leads_to_every_table_version_and_answer(monkeypatch, capsys) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{PATIENT}\n"))
    assert main.main(["lineage", "-", "--dataset", DATASET]) == 0
    said = capsys.readouterr().out
    for rows in ("bronze_labevents@v0: 5", "bronze_patients@v0: 1", "subjects@v0: 1", "note_tokens@v0: 1"):
        assert f"  {rows}\n" in said
    assert "synthetic-mortality/1: trained on the patient\n" in said
    assert "1 prediction in the lake's log" in said
    assert PATIENT not in said
    assert VISIT not in said
    assert main.main(["lineage", OTHER, "--dataset", DATASET]) == 0
    assert "synthetic-mortality/1: judged on the patient\n" in capsys.readouterr().out
    assert main.main(["lineage", "12345678", "--dataset", DATASET]) == 7
    assert "12345678" not in capsys.readouterr().err


def test_an_answer_is_given_again_to_the_bit_and_by_the_version_that_gave_it(hospital, capsys) -> None:
    (answer,) = answers(hospital)
    after, before = answer.predicted_at.isoformat(), "2020-01-01T00:00:00+01:00"
    assert main.main(["who-scored", PATIENT, "--dataset", DATASET, "--at", after]) == 0
    said = capsys.readouterr().out
    assert f"prediction {answer.prediction_id}" in said
    assert said.strip().endswith("scored again from events v0 with that version: the same to the bit")
    assert main.main(["who-scored", PATIENT, "--dataset", DATASET, "--at", before]) == 7
    assert "up to 2019-12-31 23:00:00 UTC" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("column", "said"),
    [
        ("risk", "the risk is not the one"),
        ("features", "of the"),
        ("events_version", "can't be scored again"),
    ],
)
def test_an_answer_that_was_changed_in_the_log_is_not_given_again(hospital, column, said, capsys) -> None:
    ref = lake.latest(hospital.settings, DATASET, "predictions")
    log = lake.read(hospital.settings, ref)
    changed = {
        "risk": pc.add(log["risk"], 0.01),
        "features": pa.array([[1.0] * len(row) for row in log["features"].to_pylist()], log["features"].type),
        "events_version": pa.array([7] * len(log), pa.int64()),
    }[column]
    write_deltalake(
        hospital.settings.table_uri(DATASET, "predictions"),
        log.set_column(log.schema.get_field_index(column), column, changed),
        mode="overwrite",
    )
    assert main.main(["who-scored", PATIENT, "--dataset", DATASET]) == 6
    assert said in capsys.readouterr().out


def test_an_answer_that_read_notes_leads_back_to_their_lines(hospital, capsys) -> None:
    """Those that were known at the prediction time, also where the notes were tokenized anew since the answer."""
    (answer,) = answers(hospital)
    written, discharge = hospital.settings.table_uri(DATASET, "predictions"), datetime(2160, 1, 5, 12)
    log = lake.read(hospital.settings, lake.latest(hospital.settings, DATASET, "predictions"))
    log = log.set_column(log.schema.get_field_index("note_margin"), "note_margin", pa.array([0.5] * len(log)))
    write_deltalake(written, log, mode="overwrite")
    assert main.main(["lineage", answer.prediction_id]) == 0
    assert "note:" not in capsys.readouterr().out, "the letter was written at the discharge"
    moments = pa.array([discharge] * len(log), pa.timestamp("us"))
    log = log.set_column(log.schema.get_field_index("prediction_time"), "prediction_time", moments)
    write_deltalake(written, log, mode="overwrite")
    tokens = lake.read(hospital.settings, lake.latest(hospital.settings, DATASET, "note_tokens"))
    write_deltalake(hospital.settings.table_uri(DATASET, "note_tokens"), tokens.slice(0, 0), mode="overwrite")
    assert main.main(["lineage", answer.prediction_id]) == 0
    said = [line.strip() for line in capsys.readouterr().out.splitlines() if "note:" in line]
    assert said == ["note: note/discharge.csv.gz line 2, known since 2160-01-05 12:00:00"]


def test_an_answer_whose_inputs_came_with_a_bundle_is_found_and_given_again(hospital, capsys) -> None:
    """It is logged under the patient, with no version of the lake's events."""
    (answer,) = answers(hospital)
    log = lake.read(hospital.settings, lake.latest(hospital.settings, DATASET, "predictions"))
    column = log.schema.get_field_index("events_version")
    write_deltalake(
        hospital.settings.table_uri(DATASET, "predictions"),
        log.set_column(column, "events_version", pa.nulls(len(log), pa.int64())),
        mode="overwrite",
    )
    assert main.main(["lineage", answer.prediction_id]) == 0
    assert "its inputs came with the request" in capsys.readouterr().out
    assert main.main(["who-scored", PATIENT, "--dataset", DATASET]) == 0
    said = capsys.readouterr().out.strip()
    assert said.endswith("from the inputs that came with the request, with that version: the same to the bit")


def test_events_that_came_later_change_no_earlier_answer(hospital, capsys) -> None:
    events = lake.read(hospital.settings, lake.latest(hospital.settings, DATASET, "events"))
    write_deltalake(
        hospital.settings.table_uri(DATASET, "events"),
        events.slice(0, 3),
        mode="overwrite",
        partition_by=["shard"],
    )
    assert main.main(["who-scored", PATIENT, "--dataset", DATASET]) == 0
    assert f"{ASKED:%Y-%m-%d}" not in capsys.readouterr().out
