"""What nothing needs is reclaimed and the rest still answers; a lost home comes back, and the erased stay away."""

import os
import shutil
import time
from pathlib import Path

from component.governance.conftest import DATASET, OTHER, PATIENT
from component.governance.test_erasure import ERASE, identifiers, naming
from deltalake import write_deltalake

from mediscale.cli import main
from mediscale.storage import history, lake, last_calls, locks


def used(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def overwrite(hospital, table: str) -> None:
    """As a night does that left all as it was."""
    rows = lake.read(hospital.settings, lake.latest(hospital.settings, DATASET, table))
    partitions = ["shard"] if table == "events" else []
    write_deltalake(
        hospital.settings.table_uri(DATASET, table), rows, mode="overwrite", partition_by=partitions
    )


def test_what_a_version_an_answer_or_the_next_night_needs_survives(hospital, capsys) -> None:
    settings = hospital.settings
    for table in ("events", "notes", "features_x", "training_set_mortality"):
        if table == "features_x":
            write_deltalake(
                settings.table_uri(DATASET, table),
                lake.read(settings, lake.latest(settings, DATASET, "notes")),
            )
        overwrite(hospital, table)
        overwrite(hospital, table)
    orphan = Path(settings.lake) / DATASET / "notes" / "part-orphan.parquet"
    young = orphan.with_name("part-young.parquet")
    for file in (orphan, young):
        file.write_bytes(b"x" * 1000)
    os.utime(orphan, (time.time() - 2 * 24 * 3600,) * 2)
    before = used(settings.home)
    assert main.main(["clean"]) == 0
    assert "nothing was deleted" in capsys.readouterr().out
    assert used(settings.home) == before
    assert main.main(["clean", "--yes"]) == 0
    said = capsys.readouterr().out
    assert used(settings.home) < before
    assert (orphan.exists(), young.exists()) == (False, True)
    assert "files of tables that no version has" in said
    readable = {
        table: [
            v for v in range(newest.version + 1) if _reads(settings, newest.model_copy(update={"version": v}))
        ]
        for table in ("events", "notes", "features_x", "training_set_mortality")
        for newest in [lake.latest(settings, DATASET, table)]
    }
    assert readable == {
        "events": [0, 2],  # answered from
        "notes": [0, 2],  # read by the newest call of note_tokens
        "features_x": [2],
        "training_set_mortality": [0, 3],  # trained on
    }
    assert main.main(["who-scored", PATIENT, "--dataset", DATASET]) == 0
    assert main.main(["lineage", "synthetic-mortality/1"]) == 0
    capsys.readouterr()
    assert main.main(["clean"]) == 0
    assert "Nothing to reclaim" in capsys.readouterr().out


def _reads(settings, ref) -> bool:
    try:
        lake.read(settings, ref)
    except FileNotFoundError:
        return False
    return True


def test_nothing_is_deleted_while_a_stage_works(hospital, capsys) -> None:
    with locks.exclusive(hospital.settings, f"silver-{DATASET}", "Stage silver"):
        assert main.main(["clean", "--yes"]) == 5
    assert "Stage silver is already running here" in capsys.readouterr().err


def test_a_lost_home_comes_back_and_who_was_erased_since_stays_erased(hospital, tmp_path, capsys) -> None:
    settings, names = hospital.settings, identifiers(hospital)
    entries = history.entries(settings, DATASET)
    assert main.main(["backup", str(tmp_path / "backup")]) == 0
    assert "no private key" in capsys.readouterr().out
    note = last_calls.read(f"{last_calls.folder(settings, DATASET)}/backup.json")
    assert note
    assert not note.failed
    keys = [
        path
        for path in (tmp_path / "backup").rglob("*")
        if path.is_file() and b"PRIVATE KEY" in path.read_bytes()
    ]
    assert keys == []
    assert list((tmp_path / "backup" / "trust").rglob("*.pem")), "the public ones"
    assert main.main(["erase", OTHER, *ERASE[2:]]) == 0
    assert main.main(ERASE) == 0
    shutil.rmtree(settings.home)
    capsys.readouterr()
    assert main.main(["restore", str(tmp_path / "backup")]) == 0
    said = capsys.readouterr().out
    newest = entries[-1]
    ended = f"ends at entry {newest.sequence} of {newest.at:%Y-%m-%d %H:%M} UTC, and entry {newest.sequence + 2} was"
    assert ended in said
    assert "Erased again in synthetic, because of erasures after the backup: 2 patients." in said
    assert naming(settings, names) == {}
    assert [e.kind for e in history.entries(settings, DATASET)][-2:] == ["erasure", "erasure"]
    assert main.main(["lineage", "71000033", "--dataset", DATASET]) == 0
    assert main.main(["restore", str(tmp_path / "backup")]) == 2, "there is a home"


def test_a_backup_that_is_restored_at_a_new_place_says_where_its_history_ends(
    hospital, tmp_path, capsys, monkeypatch
) -> None:
    """As the page of alerts asks of a broken history: nothing was accepted of a lake there before."""
    newest = history.entries(hospital.settings, DATASET)[-1]
    assert main.main(["backup", str(tmp_path / "backup")]) == 0
    monkeypatch.setenv("MEDISCALE_HOME", str(tmp_path / "elsewhere"))
    capsys.readouterr()
    assert main.main(["restore", str(tmp_path / "backup")]) == 0
    ended = f"The history of {DATASET} ends at entry {newest.sequence} of {newest.at:%Y-%m-%d %H:%M} UTC: what was"
    assert ended in capsys.readouterr().out


def test_half_a_backup_or_a_changed_one_is_not_restored(hospital, tmp_path, capsys) -> None:
    folder = tmp_path / "backup"
    assert main.main(["backup", str(hospital.settings.home / "within")]) == 2
    assert main.main(["backup", str(folder)]) == 0
    assert main.main(["backup", str(folder)]) == 2
    shutil.rmtree(hospital.settings.home)
    (folder / "home" / "lake" / DATASET / "subjects" / "_delta_log" / f"{0:020}.json").write_text("{}")
    assert main.main(["restore", str(folder)]) == 6
    assert "1 of the" in capsys.readouterr().err
    assert not hospital.settings.home.exists()
    (folder / "backup.json").unlink()
    assert main.main(["restore", str(folder)]) == 7
