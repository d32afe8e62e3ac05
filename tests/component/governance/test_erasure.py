"""An erased patient is in no byte of home and lake, stays out, and leaves the others in every version."""

import asyncio
import gzip
import json
import re
import shutil
import sqlite3
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from component.governance.conftest import ASKED, DATASET, OTHER, PATIENT, VISIT, WORD, Hospital
from deltalake import write_deltalake

from mediscale.cli import main
from mediscale.core.errors import NotFoundError, StorageError, UsageError
from mediscale.core.settings import Settings
from mediscale.governance import erasure, integrity, recorded_rows
from mediscale.storage import calls, exclusions, history, lake, locks, redaction, registry, signing
from mediscale.storage.history_entries import Erasure
from serving.log.logged_answers import Prediction, Requester
from serving.log.prediction_log import PredictionLog

ERASE = ["erase", PATIENT, "--dataset", DATASET, "--reason", "asked for it"]


def decoded(path: Path) -> str:
    """What a file says, however it is packed."""
    content = path.read_bytes()
    if content[:4] == b"PAR1" == content[-4:]:
        file = pq.ParquetFile(path)
        statistics = [str(file.metadata.row_group(i).to_dict()) for i in range(file.num_row_groups)]
        return json.dumps(file.read().to_pydict(), default=str) + "".join(statistics)
    if content[:15] == b"SQLite format 3":
        with sqlite3.connect(path) as connection:
            return "\n".join(connection.iterdump()) + content.decode("latin-1")
    if content[:2] == b"\x1f\x8b":
        return gzip.decompress(content).decode("latin-1")
    return content.decode("latin-1")


def naming(settings: Settings, words: list[str]) -> dict[str, str]:
    """The files of the home in which one of the words stands, with that word."""
    pattern = re.compile("|".join(rf"(?<![0-9a-z]){re.escape(word)}(?![0-9a-z])" for word in words))
    files = (path for path in settings.home.rglob("*") if path.is_file())
    matches = ((path, pattern.search(decoded(path))) for path in files)
    return {str(path.relative_to(settings.home)): match[0] for path, match in matches if match}


def identifiers(hospital: Any) -> list[str]:
    """All that names the patient: the hospital's numbers, their pseudonyms, and the word of a note."""
    subject = hospital.subject(PATIENT)
    mine = pc.field("subject_id") == subject
    events = lake.dataset(hospital.settings, lake.latest(hospital.settings, DATASET, "events"))
    notes = lake.dataset(hospital.settings, lake.latest(hospital.settings, DATASET, "notes"))
    visits = events.to_table(columns=["visit_id"], filter=mine)["visit_id"].drop_null().unique().to_pylist()
    note_ids = notes.to_table(columns=["note_id"], filter=mine)["note_id"].to_pylist()
    assert visits
    assert note_ids
    return [PATIENT, VISIT, WORD, *map(str, (subject, *visits, *note_ids))]


def tables(settings: Settings) -> dict[tuple[str, int], pa.Table]:
    """The rows of each version of each table."""
    read = {}
    for name in lake.tables(settings, DATASET):
        newest = lake.latest(settings, DATASET, name)
        for version in range(newest.version + 1):
            read[name, version] = lake.read(settings, newest.model_copy(update={"version": version}))
    return read


def of_others(table: pa.Table, names: list[str]) -> list[str]:
    """The rows that are not the patient's, in an order of their own."""
    kept = []
    for row in table.to_pylist():
        named = (row.get(key) for key in ("subject_id", "source_subject", "hadm_id", "visit_id"))
        at = row.get("reason") and (row["file"], row["line"])
        if at not in QUARANTINED and not any(str(name).removesuffix(".0") in names for name in named):
            kept.append(json.dumps(row, default=str, sort_keys=True))
    return sorted(kept)


QUARANTINED = {("hosp/labevents.csv.gz", line) for line in (6, 7)} | {("note/discharge.csv.gz", 4)}
"""Where the patient's rows stand that can't be used."""


@pytest.fixture
def unflushed(hospital: Any) -> None:
    """An answer about the patient that is not yet in the lake, as a server that was killed leaves it."""
    answer = Prediction("left-1", datetime(2026, 1, 2), "mortality", "synthetic-mortality", 1, 0.5, np.zeros(3),
                        subject_id=hospital.subject(PATIENT), prediction_time=ASKED, events_version=0)  # fmt: skip
    log = PredictionLog(hospital.settings, DATASET, "left")
    asyncio.run(log.append([answer], Requester("somebody", "treatment")))
    log.close()


@pytest.mark.usefixtures("unflushed")
def test_no_byte_of_the_home_names_the_patient_and_every_version_has_the_others(hospital, capsys) -> None:
    settings, names = hospital.settings, identifiers(hospital)
    before = tables(settings)
    assert len(naming(settings, names)) > 15
    files = {path: path.read_bytes() for path in Path(settings.lake).rglob("*") if path.is_file()}
    assert main.main([*ERASE, "--dry-run"]) == 0
    would, waiting = capsys.readouterr()
    assert waiting.startswith("Every table is looked through")
    assert {path: path.read_bytes() for path in files} == files
    assert main.main(ERASE) == 0
    said = capsys.readouterr().out
    assert re.findall(r"  \S.*: \d+", said) == re.findall(r"  \S.*: \d+", would)
    assert "  quarantine: 2\n" in said
    assert "  predictions that were not yet in the lake: 1\n" in said
    assert "Versions trained on the patient: synthetic-mortality/1." in said
    assert naming(settings, names) == {}
    after = tables(settings)
    for key, table in before.items():
        expected = of_others(table, names)
        assert of_others(after[key], names) == expected, key
        assert after[key].num_rows == len(expected), key
    assert not any(number in said + would for number in names)


def test_spark_reads_every_version_as_well_and_ingest_leaves_the_patient_out(hospital, spark) -> None:
    settings, names, subject = hospital.settings, identifiers(hospital), hospital.subject(PATIENT)
    assert main.main(ERASE) == 0
    events = lake.latest(settings, DATASET, "events")
    rows = spark.read.format("delta").option("versionAsOf", 0).load(settings.table_uri(DATASET, "events"))
    assert rows.count() == lake.read(settings, events).num_rows > 0
    assert rows.where(f"subject_id = {subject}").count() == 0
    rows.write.format("delta").mode("append").save(settings.table_uri(DATASET, "events"))
    assert lake.latest(settings, DATASET, "events").version == 1
    hospital.land(exclusions.fingerprint(settings, DATASET))
    assert naming(settings, names) == {}
    labevents = lake.read(settings, lake.latest(settings, DATASET, "bronze_labevents"))
    assert labevents["line"].to_pylist() == [4, 8], "the line of the extract, whatever was left out before it"


def test_what_stays_can_t_be_joined_to_the_person_and_the_versions_say_so(hospital, capsys) -> None:
    settings = hospital.settings
    assert main.main(ERASE) == 0
    (body,) = erasures(settings)
    assert body.trained == ("synthetic-mortality/1",)
    listed = exclusions.load(settings, DATASET)
    assert listed is not None
    assert body.pseudonym not in listed.digests
    assert listed.digest(PATIENT) in listed.digests
    assert list((settings.home / "erasing").iterdir()) == []
    capsys.readouterr()
    assert main.main(["reproduce", "synthetic-mortality/1"]) == 4
    assert "a patient on whom it was trained was erased on" in capsys.readouterr().err
    assert main.main(ERASE) == 7
    assert "was erased from synthetic before" in capsys.readouterr().err
    assert main.main(["erase", OTHER, *ERASE[2:]]) == 0
    _, second = erasures(settings)
    assert second.trained == ()
    assert second.judged == ("synthetic-mortality/1",)


def test_without_the_list_of_the_erased_nothing_is_landed(hospital, tmp_path) -> None:
    assert main.main(ERASE) == 0
    with pytest.raises(StorageError, match="is not the one that this call was made for"):
        hospital.land("another list")
    exclusions.file(hospital.settings, DATASET).unlink()
    tomorrow = Hospital(hospital.settings, Path(shutil.copytree(hospital.extract, tmp_path / "tomorrow")))
    with pytest.raises(StorageError, match=r"1 patients of synthetic were erased, and .* lists 0"):
        tomorrow.land("")


def erasures(settings: Settings) -> list[Erasure]:
    """What the verified history says of erasures."""
    return [body for _, body in history.bodies(history.entries(settings, DATASET), Erasure)]


class Killed(BaseException):
    pass


@pytest.mark.parametrize("after", [0, 3, 11])
def test_an_erasure_that_was_killed_goes_on(hospital, monkeypatch, after: int) -> None:
    settings, names = hospital.settings, identifiers(hospital)
    original, left = redaction.redact, iter(range(after))

    def killed(*arguments: Any) -> int:
        if next(left, None) is None:
            raise Killed
        return original(*arguments)

    monkeypatch.setattr(redaction, "redact", killed)
    with pytest.raises(Killed):
        main.main(ERASE)
    monkeypatch.setattr(redaction, "redact", original)
    (journal,) = erasure.unfinished(settings)
    assert journal.number == PATIENT
    assert main.main(ERASE) == 0
    assert naming(settings, names) == {}
    assert len(erasures(settings)) == 1


def test_what_an_erasure_left_can_be_verified(hospital, monkeypatch, capsys) -> None:
    """Also where it was killed before it had signed it."""
    settings = hospital.settings
    (move,) = registry.history(settings, DATASET)
    (silver,) = calls.of_stage(settings, "silver")
    evaluated = silver.model_copy(
        update={
            "stage": "evaluate",
            "key": "e" * 32,
            "started_at": datetime.now(UTC),
            "inputs": silver.produced,
            "produced": (),
            "outputs": (),
            "result": {"evidence": "evidence.json", "evidence_digest": move.evidence_digest},
        }
    )
    calls.write(settings, evaluated)
    before = integrity.verify_rows(settings, DATASET)
    assert (before.tables > 5, before.incomparable, before.findings) == (True, 0, ())
    with monkeypatch.context() as killing:
        killing.setattr(recorded_rows, "attest", lambda *_: (_ for _ in ()).throw(Killed))
        with pytest.raises(Killed):
            main.main(ERASE)
    assert integrity.verify_rows(settings, DATASET).incomparable > 5
    for number in (PATIENT, OTHER):
        assert main.main(["erase", number, *ERASE[2:]]) == 0
        assert integrity.verify_rows(settings, DATASET) == before
    assert [entry.kind for entry in history.entries(settings, DATASET)][-2:] == ["erasure", "row_attestation"]
    assert PATIENT not in capsys.readouterr().out


@pytest.mark.parametrize(
    "reason",
    [
        f"Patient {PATIENT} asked",
        "SSN 078-05-1120",
        "file 078-05-1120",
        "case no. 441276 of the other clinic",
        "write to a.b@clinic.example",
    ],
)
def test_a_reason_that_would_keep_an_identifier_for_ever_is_refused(hospital, capsys, reason: str) -> None:
    before = lake.latest(hospital.settings, DATASET, "subjects")
    for dry in ([], ["--dry-run"]):
        assert main.main([*ERASE, "--reason", reason, *dry]) == 2
        assert "stays in the signed history for ever" in capsys.readouterr().err
    assert lake.read(hospital.settings, before).num_rows == 3
    assert erasures(hospital.settings) == []


@pytest.mark.parametrize("reason", ["asked in writing, 11 days ago", "court order 21/B", "DSR/2026/00412"])
def test_a_reason_may_have_a_number_in_which_the_patients_is_a_part(hospital, reason: str) -> None:
    with pytest.raises(NotFoundError):  # and no refusal of the reason
        erasure.erase(hospital.settings, DATASET, "1", reason, "ana", datetime(2026, 11, 30))


def test_where_nothing_can_be_signed_nothing_is_begun(hospital, monkeypatch, capsys) -> None:
    before = lake.latest(hospital.settings, DATASET, "subjects")
    monkeypatch.setenv("MEDISCALE_ACTOR", "somebody else")
    monkeypatch.setattr(signing, "signer", refuse)
    assert main.main(ERASE) == 2
    assert "no key" in capsys.readouterr().err
    assert lake.read(hospital.settings, before).num_rows == 3
    assert list((hospital.settings.home / "erasing").iterdir()) == []
    assert not exclusions.file(hospital.settings, DATASET).exists()


def refuse(_settings: Settings) -> None:
    raise UsageError("There is no key here.")


def test_nothing_is_erased_while_a_stage_works_on_the_dataset(hospital, capsys) -> None:
    before = lake.latest(hospital.settings, DATASET, "subjects")
    with locks.exclusive(hospital.settings, f"gold-{DATASET}-mortality", "Stage gold"):
        assert main.main(ERASE) == 5
    assert "Stage gold is already running here" in capsys.readouterr().err
    assert lake.read(hospital.settings, before).num_rows == 3


def test_a_patient_whom_the_newest_extract_has_no_longer_leaves_the_old_versions(hospital) -> None:
    settings, names = hospital.settings, identifiers(hospital)
    for table in ("subjects", "bronze_patients", "bronze_admissions", "facts", "events"):
        rows = lake.read(settings, lake.latest(settings, DATASET, table))
        kept = [not any(str(v).removesuffix(".0") in names for v in row.values()) for row in rows.to_pylist()]
        write_deltalake(
            settings.table_uri(DATASET, table),
            rows.filter(pa.array(kept)),
            mode="overwrite",
            partition_by=["shard"] if table == "events" else None,
        )
    assert main.main(ERASE) == 0
    assert naming(settings, names) == {}


def test_copies_are_forgotten(hospital) -> None:
    checkpoint = hospital.settings.home / "checkpoints" / DATASET / "key" / "0001.safetensors"
    other = hospital.settings.home / "checkpoints" / "another" / "key" / "0001.safetensors"
    for path in (checkpoint, other):
        path.parent.mkdir(parents=True)
        path.touch()
    assert main.main(ERASE) == 0
    assert (checkpoint.exists(), other.exists()) == (False, True)
