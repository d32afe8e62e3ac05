"""The stage: notes from bronze to NOTES, by Spark; what can't be used is in quarantine with its place."""

import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import write_deltalake

from data_pipeline.ingest import source
from data_pipeline.notes.deidentification import deidentify, pseudonym_secret
from mediscale.core.errors import QualityError, StorageError
from mediscale.core.refs import TableRef
from mediscale.core.settings import Settings
from mediscale.storage import lake

COLUMNS = ("note_id", "subject_id", "hadm_id", "note_type", "charttime", "storetime", "text")
SUMMARIES = next(
    name for name, table in source.load("mimic-iv").tables.items() if table.file == "note/discharge"
)
LONG = "The abdomen is soft and not tender. " * 30_000
GOOD = (
    "HPI: Mr. Quillfeather is a 93 year old man, MRN 7654321, seen 2150-01-02 by Dr. Ottoline Quillfeather."
)


def bronze(
    settings: Settings, table: str, columns: Sequence[str], rows: Sequence[Sequence[str | None]]
) -> TableRef:
    drawn: dict[str, pa.Array] = {
        name: pa.array([row[i] for row in rows], pa.string()) for i, name in enumerate(columns)
    }
    drawn["file"] = pa.array([f"note/{table}.csv.gz"] * len(rows))
    drawn["line"] = pa.array(range(2, len(rows) + 2), pa.int64())
    write_deltalake(settings.table_uri("h", f"bronze_{table}"), pa.table(drawn))
    return lake.latest(settings, "h", f"bronze_{table}")


def note(name: str | None, text: str | None, time: str | None = "2150-01-07 08:00:00", stored: str | None = None,
         subject: str = "1", visit: str | None = "11") -> list[str | None]:  # fmt: skip
    return [name, subject, visit, "DS", time, stored or time, text]


VISIT = {
    "subject_id": "1",
    "hadm_id": "11",
    "admittime": "2150-01-01 10:00:00",
    "dischtime": "2150-01-05 15:00:00",
}


def patients_and_visit(settings: Settings, name: str) -> dict[str, TableRef]:
    columns, of_patients = (list(source.load(name).tables[t].columns) for t in ("admissions", "patients"))
    patients = [[number if column == "subject_id" else None for column in of_patients] for number in "12"]
    return {
        "patients": bronze(settings, "patients", of_patients, patients),
        "admissions": bronze(settings, "admissions", columns, [[VISIT.get(column) for column in columns]]),
    }


def params(
    settings: Settings, notes: list[list[str | None]], share: float = 1.0, table: str = SUMMARIES
) -> deidentify.Params:
    return deidentify.Params(
        source="mimic-iv",
        dataset="h",
        bronze={**patients_and_visit(settings, "mimic-iv"), table: bronze(settings, table, COLUMNS, notes)},
        pseudonym_secret=pseudonym_secret.PUBLISHED,
        deidentifier="rules",
        max_quarantine_share=share,
        misdated_after=datetime(2160, 1, 1),
    )


def test_every_note_is_cleaned_or_in_quarantine_with_its_reason(settings: Settings) -> None:
    notes = [
        note("a", GOOD),
        note("b", "Same minute, stable.", stored="2150-01-07 09:30:00"),
        note("c", ""),
        note("d", "  \n -- "),
        note("e", LONG),
        note("f", "M\ufffdller was seen"),
        note("g", "\x00\x01PK\x03\x04 rubbish"),
        note("h", "dated after it was stored", "2150-03-01 00:00:00", "2150-01-02 00:00:00"),
        note("i", "dated after the extract's end", "2199-01-01 00:00:00"),
        note("j", "nobody's", subject="99", visit=None),
        note("k", "no time", None),
        note("a", GOOD),
        note(None, "without an id"),
        note(None, "nor this one, of the same minute"),
        note("l", "dated when no hospital was: 12/28", "9999-12-31 00:00:00"),
        note("m", "dated when no calendar is", "+12024-01-02 00:00:00"),
        note("n", "known when no hospital will be", stored="9999-12-31 00:00:00"),
        note("o", "of another patient's visit", subject="2"),
    ]
    result = deidentify.run(params(settings, notes), settings, "key")
    assert result.notes is not None
    kept = lake.read(settings, result.notes).sort_by("available_time").to_pylist()
    assert [(row["line"], row["note_type"]) for row in kept] == [(2, SUMMARIES), (3, SUMMARIES)]
    assert kept[0]["time"] == kept[1]["time"]
    assert kept[1]["available_time"] == datetime(2150, 1, 7, 9, 30)
    assert kept[0]["replaced"] == 6
    assert result.reasons == {
        "not_blank": 2,
        "text_size": 1,
        "text_readable": 2,
        "not_future": 2,
        "time_present,time_readable": 2,
        "time_readable": 1,
        "note_id_present": 2,
        "subject_listed": 1,
        "visit_listed": 1,
        "time_present": 1,
        "not_repeated": 1,
    }
    assert result.note_quarantine is not None
    lines = lake.read(settings, result.note_quarantine)["line"].to_pylist()
    assert sorted([*lines, 2, 3]) == list(range(2, 20))
    assert (result.note_count, result.notes_quarantined) == (2, 16)


def test_the_same_patients_names_and_dates_change_alike(settings: Settings) -> None:
    notes = [
        note("a", "Seen 2150-01-02 by Dr. Ottoline Quillfeather.", "2150-01-02 08:00:00"),
        note("b", "Quillfeather called on 2150-01-16.", "2150-01-16 08:00:00"),
        note(
            "c",
            "Seen 2150-01-02 by Dr. Ottoline Quillfeather.",
            "2150-01-02 08:00:00",
            subject="2",
            visit=None,
        ),
    ]
    result = deidentify.run(params(settings, notes), settings, "key")
    assert result.notes is not None
    rows = lake.read(settings, result.notes).sort_by("line").to_pylist()
    first, second, other = (row["text"] for row in rows)
    surname = first.split()[-1].rstrip(".")
    assert second.startswith(f"{surname} called on ")
    days = [datetime.fromisoformat(text.split(word)[1].split()[0].rstrip(".")) for text, word in
            ((first, "Seen "), (second, " on "))]  # fmt: skip
    assert (days[1] - days[0]).days == 14
    assert days[0] != datetime(2150, 1, 2)
    assert first != other


NURSE, SUMMARY, REPORT = "Nursing", "Discharge summary", "Radiology"


def noteevent(row: int, category: str, day: str, time: str | None = None, stored: str | None = None,
              error: str | None = None) -> list[str | None]:  # fmt: skip
    return [
        str(row),
        "1",
        "11",
        f"{day} 00:00:00",
        time,
        stored,
        category,
        f"Note {row} of Mr. Quillfeather.",
        error,
    ]


def known(settings: Settings, asked: deidentify.Params) -> list[tuple[int, datetime]]:
    """When the notes that can be used were known, by their line."""
    result = deidentify.run(asked, settings, "key")
    assert result.notes is not None
    return [
        (row["line"], row["available_time"])
        for row in lake.read(settings, result.notes).sort_by("line").to_pylist()
    ]


def test_a_mimic_iii_note_is_known_when_it_was_stored_or_its_report_assumed_and_a_summary_not_before_discharge(
    settings: Settings,
) -> None:
    columns = [
        "row_id",
        "subject_id",
        "hadm_id",
        "chartdate",
        "charttime",
        "storetime",
        "category",
        "text",
        "iserror",
    ]
    rows = [
        noteevent(2, NURSE, "2150-01-02", "2150-01-02 08:00:00", "2150-01-02 08:20:00"),
        noteevent(3, NURSE, "2150-01-02", "2150-01-02 08:00:00", "2150-01-02 07:00:00"),
        noteevent(4, REPORT, "2150-01-02"),
        noteevent(5, SUMMARY, "2150-01-02"),
        noteevent(6, SUMMARY, "2150-01-09"),
        noteevent(7, NURSE, "2150-01-02", "2150-01-02 09:00:00", "2150-01-02 09:10:00", error="1"),
        noteevent(8, REPORT, "2150-01-02", "2150-01-02 08:00:00"),
    ]
    asked = deidentify.Params(
        source="mimic-iii",
        dataset="h",
        bronze={
            **patients_and_visit(settings, "mimic-iii"),
            "noteevents": bronze(settings, "noteevents", columns, rows),
        },
        pseudonym_secret=pseudonym_secret.PUBLISHED,
        deidentifier="rules",
        max_quarantine_share=1.0,
    )
    assert known(settings, asked) == [
        (2, datetime(2150, 1, 2, 8, 20)),
        (3, datetime(2150, 1, 2, 8)),
        (4, datetime(2150, 1, 3, 12)),
        (5, datetime(2150, 1, 5, 15)),
        (6, datetime(2150, 1, 10, 12)),
        (8, datetime(2150, 1, 2, 20)),
    ]
    assert deidentify.run(asked, settings, "key").reasons == {"not_error": 1}


def test_a_mimic_iv_summary_is_not_known_before_discharge(settings: Settings) -> None:
    midnight = "2150-01-05 00:00:00"
    rows = [
        note("a", "Never stored.", midnight),
        note("b", "Stored the day before.", midnight, "2150-01-04 21:00:00"),
        note("c", "Stored later.", midnight, "2150-01-06 09:00:00"),
        note("d", "Of no visit.", midnight, visit=None),
    ]
    rows[0][5] = None
    assert known(settings, params(settings, rows)) == [
        (2, datetime(2150, 1, 5, 15)),
        (3, datetime(2150, 1, 5, 15)),
        (4, datetime(2150, 1, 6, 9)),
        (5, datetime(2150, 1, 6)),
    ]


def test_a_mimic_iv_radiology_report_is_known_when_it_was_stored_or_after_the_assumed_delay(
    settings: Settings,
) -> None:
    exam = "2150-01-02 08:00:00"
    rows = [note("a", "Clear.", exam, "2150-01-02 09:40:00"), note("b", "Hazy.", exam)]
    rows[1][5] = None
    assert known(settings, params(settings, rows, table="radiology")) == [
        (2, datetime(2150, 1, 2, 9, 40)),
        (3, datetime(2150, 1, 2, 20)),
    ]


def test_too_many_unusable_notes_stop_the_stage(settings: Settings) -> None:
    with pytest.raises(QualityError, match="fewer than 10 of the fewer than 10 notes of h can't be used"):
        deidentify.run(
            params(settings, [note("a", GOOD), *(note(n, "") for n in "bcd")], 0.05), settings, "key"
        )
    assert not lake.exists(settings, "h", "notes")


def test_an_extract_without_notes_leaves_nothing(settings: Settings) -> None:
    asked = params(settings, [note("a", GOOD)])
    patients_only = {"patients": asked.bronze["patients"]}
    result = deidentify.run(asked.model_copy(update={"bronze": patients_only}), settings, "key")
    assert (result.notes, result.note_count) == (None, 0)
    assert not lake.exists(settings, "h", "notes")


def test_the_secret_is_made_once_and_missed_when_it_is_gone(settings: Settings) -> None:
    fingerprint = pseudonym_secret.home_fingerprint(settings)
    assert pseudonym_secret.home_fingerprint(settings) == fingerprint
    assert (settings.home / pseudonym_secret.FILE).stat().st_mode & 0o077 == 0
    (settings.home / pseudonym_secret.FILE).unlink()
    asked = params(settings, [note("a", GOOD)]).model_copy(update={"pseudonym_secret": fingerprint})
    with pytest.raises(StorageError, match="restore the file"):
        deidentify.run(asked, settings, "key")


@pytest.mark.parametrize("held", [b"", b"f" * 63, b"f" * 64 + b"\n", b"not hexadecimal".ljust(64)])
def test_a_file_that_holds_no_secret_is_refused(settings: Settings, held: bytes) -> None:
    settings.home.mkdir(parents=True)
    (settings.home / pseudonym_secret.FILE).write_bytes(held)
    with pytest.raises(StorageError, match=f"holds {len(held)} bytes that are not the 64 hex digits"):
        pseudonym_secret.home_fingerprint(settings)
    with pytest.raises(StorageError, match="restore the file"):
        pseudonym_secret.load(settings, "0" * 12)


_KILLED_AT_EVERY_STEP = """
import os, sys
from pathlib import Path
from data_pipeline.notes.deidentification import pseudonym_secret
from mediscale.core.settings import Settings

def child(home, last):
    steps = iter(range(last))
    sys.addaudithook(lambda *_: next(steps, None) is None and os._exit(9))
    pseudonym_secret.home_fingerprint(Settings(home=home))
    os._exit(0)

for last in range(10_000):
    home = Path(sys.argv[1]) / str(last)
    home.mkdir()
    if not (pid := os.fork()):
        child(home, last)
    if not os.waitpid(pid, 0)[1]:
        break
"""


def test_a_process_that_dies_while_it_makes_the_secret_leaves_none_or_all_of_it(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", _KILLED_AT_EVERY_STEP, str(tmp_path)], check=True)
    homes = list(tmp_path.iterdir())
    left = {file.read_bytes() for home in homes if (file := home / pseudonym_secret.FILE).exists()}
    assert len(homes) > len(left) > 1
    assert {len(secret) for secret in left} == {64}


def test_those_who_make_the_secret_at_once_agree_on_one(settings: Settings) -> None:
    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(pseudonym_secret.home_fingerprint, [settings] * 32))) == 1
    assert [path.name for path in settings.home.iterdir()] == [pseudonym_secret.FILE]
