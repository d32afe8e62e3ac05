"""A second extract is appended: nothing is lost, nothing is there twice, nothing is rewritten."""

import os
import random
from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from fixtures.drawn_hospitals import write_extract
from fixtures.wards import BEDS, DATASET, HOSPITAL, INGEST, Ward, night, with_own_yaml, without_data_docs
from pyarrow import parquet

from data_pipeline import shards
from data_pipeline.cohort import bitemporal
from data_pipeline.ingest import landing
from mediscale.cli import main
from mediscale.core import declaration_files
from mediscale.core.errors import InputError
from mediscale.core.refs import TableRef
from mediscale.core.settings import Settings
from mediscale.governance import provenance
from mediscale.storage import calls, duckdb_tables, lake, table_files


@pytest.fixture(autouse=True)
def _without_data_docs(monkeypatch: pytest.MonkeyPatch) -> None:
    without_data_docs(monkeypatch)


@pytest.fixture
def ward(tmp_path: Path) -> Ward:
    ward = Ward(tmp_path)
    ward.ingest(night(2))
    return ward


def test_the_same_extract_again_writes_nothing(ward: Ward) -> None:
    before = ward.versions()
    assert ward.ingest(None) == dict.fromkeys(INGEST, True)
    assert ward.versions() == before
    (ward.folder / "extract").rename(ward.folder / "copy")
    ward.extract = "copy"
    ward.ingest(night(3))  # from another folder it is another call, of the same files
    assert ward.results["bronze"].n_files_read == 0
    assert ward.versions() == before


def test_a_corrected_a_late_a_new_and_a_withdrawn_row_are_appended(ward: Ward) -> None:
    first = ward.as_of(night(2))
    ward.replace("hosp/labevents", "12:00:00,1.2,1.2,", "12:00:00,1.4,1.4,")
    ward.replace("hosp/labevents", "3,2,21,50983", "7,2,21,50983")
    ward.replace("hosp/labevents", "12:00:00,1.9,1.9,", "12:00:00,900,900,")
    late = "8,1,11,50983,2026-01-01 11:00:00,2026-01-01 12:00:00,138,138,mEq/L"
    new = "9,1,11,50912,2026-01-02 11:00:00,2026-01-02 12:00:00,1.6,1.6,mg/dL"
    ward.tables["hosp/labevents"] += f"\n        {late}\n        {new}"
    ward.replace(
        "hosp/admissions", "1,11,2026-01-01 10:00:00,,", "1,11,2026-01-01 10:00:00,2026-01-02 20:00:00,"
    )
    before = ward.versions()
    ward.ingest(night(3))
    silver = ward.results["silver"]
    assert ward.as_of(night(2)) == first
    assert ward.versions()["events"] == before["events"] + 1
    rows = lake.read(ward.settings, silver.events).to_pylist()
    appended = [row for row in rows if row["available_time"] > night(2)]
    assert len(appended) == silver.appended
    times = {(row["code"], row["numeric_value"]): row["available_time"] for row in appended}
    creatinine, sodium = "LOINC//2160-0", "LOINC//2951-2"
    assert times[creatinine, 1.4] == times[sodium, 138.0] == night(3), (
        "the extract before could have had them"
    )
    assert times[creatinine, 1.6] == datetime(2026, 1, 2, 12), "its own time is after the extract before"
    assert silver.retracted == 1, "of the row that is there and can't be used any more"
    visible = bitemporal.latest_as_of(lake.read(ward.settings, silver.events), None)
    facts = lake.read(ward.settings, ward.results["validate"].facts)
    lines = provenance.facts_of(
        visible.select(["event_id", "available_time", "code", "numeric_value"]),
        facts.select(["event_id", "available_time", "file", "line"]),
    ).to_pylist()
    for call in calls.all_calls(ward.settings):
        for output in call.outputs:  # of a table that was appended to, found from the version before
            assert (output.rows, output.digest) == duckdb_tables.digest(ward.settings, output.ref)
    assert {row["line"] for row in lines if (row["code"], row["numeric_value"]) == (creatinine, 1.4)} == {2}
    assert len({row["event_id"] for row in lines}) == len(visible), "each event leads back to a line"
    sodiums = [row for row in ward.as_of(None) if row[:2] == (_subject(ward, "2"), sodium)]
    assert len(sodiums) == 2, (
        "a row that is gone stays where the source does not say that its extracts are complete"
    )


def test_files_of_a_night_are_added_and_those_before_are_not_read_again(ward: Ward) -> None:
    header, *_ = (line.strip() for line in HOSPITAL["hosp/labevents"].strip().splitlines())
    before = ward.versions()
    (ward.folder / "extract" / "hosp" / "labevents.csv.gz").rename(ward.folder / "labevents.csv.gz")
    ward.tables = {"hosp/labevents/a": HOSPITAL["hosp/labevents"], **HOSPITAL}
    del ward.tables["hosp/labevents"]
    ward.ingest(night(3))
    assert ward.results["bronze"].n_files_read == 1, (
        "its rows are those of the file that was there, and stay twice"
    )
    assert ward.quarantine()[-1][2].endswith("not_repeated")
    for day in (4, 5):
        row = (
            f"{day},1,11,50912,2026-01-0{day - 1} 11:00:00,2026-01-0{day - 1} 12:00:00,1.{day},1.{day},mg/dL"
        )
        ward.tables[f"hosp/labevents/night-{day}"] = f"{header}\n{row}"
        ward.ingest(night(day))
        assert ward.results["bronze"].n_files_read == 1
        assert ward.results["silver"].appended == 1
    assert ward.versions()["bronze_patients"] == before["bronze_patients"]


def test_a_night_of_new_rows_and_compaction_leave_the_cells_of_a_rebuild(ward: Ward) -> None:
    for number, value in ((8, 1.6), (9, 1.7)):
        ward.tables["hosp/labevents"] += (
            f"\n{number},1,11,50912,2026-01-02 1{number}:00:00,2026-01-02 2{number - 7}:00:00,{value},{value},mg/dL"
        )
    ward.replace(
        "hosp/admissions", "1,11,2026-01-01 10:00:00,,", "1,11,2026-01-01 10:00:00,2026-01-02 20:00:00,"
    )
    ward.ingest(night(3))
    assert ward.results["silver"].appended >= 4, "two results, a discharge and its flag"
    assert shards.compact(ward.settings, DATASET, "subject_id")[0] == 1, "the one shard that was appended to"
    anew = ward.anew()
    for table in ("events", "subjects", "quarantine"):
        appended, rebuilt = (
            duckdb_tables.digest(home.settings, lake.latest(home.settings, DATASET, table))
            for home in (ward, anew)
        )
        assert appended == rebuilt, table


def test_a_compaction_is_compressed_and_the_next_night_goes_on_from_the_digest_before_it(
    ward: Ward, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first night after a compaction had hashed all rows of all tables anew."""
    header, *_ = (line.strip() for line in HOSPITAL["hosp/labevents"].strip().splitlines())
    ward.tables["hosp/labevents/all"] = ward.tables.pop("hosp/labevents")

    def bring(day: int) -> None:
        row = (
            f"{day},1,11,50912,2026-01-0{day - 1} 11:00:00,2026-01-0{day - 1} 12:00:00,1.{day},1.{day},mg/dL"
        )
        ward.tables[f"hosp/labevents/night-{day}"] = f"{header}\n{row}"
        ward.ingest(night(day))

    (ward.folder / "extract" / "hosp" / "labevents.csv.gz").unlink()
    bring(3)
    assert shards.compact(ward.settings, DATASET, "subject_id")[1] > 0
    compacted = lake.latest(ward.settings, DATASET, "bronze_labevents")
    (file,) = lake.files(ward.settings, compacted)
    assert parquet.read_metadata(file).row_group(0).column(0).compression == "SNAPPY"
    earlier: dict[str, calls.Output | None] = {}
    whole = duckdb_tables.digest

    def digest(settings: Settings, ref: TableRef, before: calls.Output | None = None) -> tuple[int, str]:
        earlier[ref.table] = before
        assert whole(settings, ref, before) == whole(settings, ref)
        return whole(settings, ref, before)

    monkeypatch.setattr(duckdb_tables, "digest", digest)
    bring(4)
    before = earlier["bronze_labevents"]
    assert before is not None
    assert before.ref == compacted
    assert (before.rows, before.digest) == whole(ward.settings, compacted)


def test_a_visit_of_two_patients_is_of_nobody_when_a_row_of_one_of_them_comes_later(tmp_path: Path) -> None:
    ward = Ward(tmp_path)
    ward.tables["hosp/admissions"] += """
        1,21,2026-01-01 10:00:00,,,EW EMER.,EMERGENCY ROOM,,0,WHITE,
        3,11,2026-01-01 10:00:00,,,EW EMER.,EMERGENCY ROOM,,0,WHITE,"""
    ward.ingest(night(2))
    ward.tables["hosp/labevents"] += (
        "\n        8,2,21,50983,2026-01-01 13:00:00,2026-01-02 12:00:00,138,138,mEq/L"
    )
    ward.ingest(night(3))
    anew = ward.anew()
    assert ward.quarantine() == anew.quarantine()
    assert ward.as_of(None) == anew.as_of(None)


BEDS_EXTRACT = {
    "people": "person\n1\n2",
    "stays": "person,stay,began,ended\n1,11,2026-01-01 08:00:00,\n2,21,2026-01-01 08:00:00,",
    "beds": "person,bed\n1,7\n2,7\n1,8",
    "alarms": "bed,rung\n7,2026-01-01 09:00:00\n8,2026-01-01 09:30:00",
}  # fmt: skip


def test_a_key_of_two_patients_is_of_nobody_when_a_row_of_one_of_them_comes_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ward = Ward(tmp_path, dict(BEDS_EXTRACT), source="beds")
    monkeypatch.setenv("MEDISCALE_HOME", str(ward.settings.home))
    declaration_files.save_copy("source", ward.source, BEDS)
    ward.ingest(night(2))
    ward.tables["alarms"] += "\n8,2026-01-01 10:00:00"
    ward.ingest(night(3))
    anew = ward.anew()
    assert ward.quarantine() == anew.quarantine()
    assert ward.as_of(None) == anew.as_of(None)
    assert sum(code == "ALARM" for _, code, *_ in ward.as_of(None)) == 2


def test_a_table_that_lost_most_of_its_rows_is_refused_as_cut_off(ward: Ward) -> None:
    header, first, *_ = (line.strip() for line in HOSPITAL["hosp/labevents"].strip().splitlines())
    many = [f"{number},{first.partition(',')[2]}" for number in range(100)]
    ward.tables["hosp/labevents"] = "\n".join([header, *many])
    ward.ingest(night(3))
    before = ward.versions()
    ward.tables["hosp/labevents"] = "\n".join([header, *many[:70]])
    said = (
        r"The table labevents has 70 rows in this extract and had 100 in the one before; nothing was landed\."
    )
    with pytest.raises(InputError, match=said):
        ward.ingest(night(4))
    assert ward.versions() == before
    ward.ingest(night(4), bronze={"min_rows_share": 0.5})
    assert ward.results["bronze"].rows == 76


def test_a_file_with_another_header_leaves_the_rows_of_others_as_they_are(ward: Ward) -> None:
    _, first, *_ = (line.strip() for line in HOSPITAL["hosp/labevents"].strip().splitlines())
    header = "labevent_id,subject_id,hadm_id,itemid,charttime,storetime,value,valuenum,valueuom,analyser"
    ward.tables["hosp/labevents/night"] = f"{header}\n{first.replace('1,1,11', '77,1,11')},A7"
    del ward.tables["hosp/labevents"]
    (ward.folder / "extract" / "hosp" / "labevents.csv.gz").unlink()
    first_night = ward.as_of(night(2))
    ward.ingest(night(3))
    rows = lake.read(ward.settings, ward.results["bronze"].bronze["labevents"]).to_pylist()
    assert sorted(str(row["analyser"]) for row in rows) == ["A7", *["None"] * 5]
    assert ward.as_of(night(2)) == first_night


class Died(BaseException):
    """In the place of a process that is killed: nothing of the program catches it."""


@pytest.mark.parametrize("commits", [2, 7])
def test_a_run_that_dies_between_two_commits_leaves_what_can_be_read_and_the_next_goes_on(
    ward: Ward, commits: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = ward.as_of(night(2))
    ward.replace("hosp/labevents", "12:00:00,1.2,1.2,", "12:00:00,1.4,1.4,")
    ward.replace("hosp/labevents", "12:00:00,1.9,1.9,", "12:00:00,900,900,")
    ward.replace(
        "hosp/admissions", "1,11,2026-01-01 10:00:00,,", "1,11,2026-01-01 10:00:00,2026-01-02 20:00:00,"
    )
    commit, done = table_files._commit, []

    def dying(*arguments: Any) -> None:
        commit(*arguments)
        done.append(arguments)
        if len(done) == commits:
            raise Died

    monkeypatch.setattr(table_files, "_commit", dying)
    with pytest.raises(Died):
        ward.ingest(night(3))
    monkeypatch.setattr(table_files, "_commit", commit)
    newest = lake.read(ward.settings, lake.latest(ward.settings, DATASET, "events"))
    assert ward.said(newest, night(2)) == first
    ward.ingest(night(3))
    silver, before = ward.results["silver"], calls.of_stage(ward.settings, "silver")[0].result["event_count"]
    assert silver.appended == silver.event_count - before > 0, "what was committed before it died is counted"
    assert silver.retracted == 1
    events = lake.read(ward.settings, ward.results["silver"].events)
    assert len(events) == len({(row["event_id"], row["available_time"]) for row in events.to_pylist()})
    anew = ward.anew()
    assert ward.as_of(None) == anew.as_of(None)
    assert ward.quarantine() == anew.quarantine()


def _subject(ward: Ward, number: str) -> int:
    listed = lake.read(ward.settings, ward.results["silver"].subjects).to_pylist()
    return next(row["subject_id"] for row in listed if row["source_subject"] == number)


@pytest.fixture
def complete(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ward:
    """A hospital whose extracts have every row."""
    return with_own_yaml(tmp_path, monkeypatch, "\ncomplete: true\n")


def test_of_complete_extracts_what_is_gone_or_cannot_be_used_any_more_is_retracted(complete: Ward) -> None:
    ward = complete
    assert ward.quarantine() == [
        ("hosp/labevents.csv.gz", 5, "value_plausible"),
        ("hosp/labevents.csv.gz", 6, "unit_known"),
    ]
    first = ward.as_of(night(2))
    gone = "2,2,21,50912,2026-01-01 11:00:00,2026-01-01 12:00:00,1.9,1.9,mg/dL"
    ward.replace("hosp/labevents", f"        {gone}\n", "")
    ward.replace("hosp/labevents", "12:00:00,1.2,1.2,", "12:00:00,900,900,")
    ward.ingest(night(3))
    assert (ward.results["silver"].appended, ward.results["silver"].retracted) == (2, 2)
    assert ward.as_of(night(2)) == first
    assert ward.as_of(night(3)) == ward.anew().as_of(None)
    assert ward.quarantine() == [
        ("hosp/labevents.csv.gz", 2, "value_plausible"),
        ("hosp/labevents.csv.gz", 4, "value_plausible"),
        ("hosp/labevents.csv.gz", 5, "unit_known"),
    ], "rows of others moved up by a line"
    ward.replace("hosp/labevents", "12:00:00,900,900,", "12:00:00,1.2,1.2,")
    ward.ingest(night(4))
    assert ward.as_of(None) == ward.anew().as_of(None), "what was retracted is asserted again"


def test_what_a_mended_yaml_or_file_makes_usable_is_taken_in_and_the_rest_stays(
    complete: Ward, capsys: pytest.CaptureFixture[str]
) -> None:
    ward = complete
    before = lake.read(ward.settings, ward.results["silver"].events)
    mended = ward.folder / f"{ward.source}.yaml"
    text = (declaration_files.home_folder("source") / mended.name).read_text()
    assert text.count("mg/dl: value, umol/l: value / 88.42") == 1
    mended.write_text(text.replace("mg/dl: value, umol/l", "furlong: value, mg/dl: value, umol/l"))
    assert main.main(["quarantine", "--dataset", DATASET, "--replay", "--source", str(mended)]) == 0
    said = capsys.readouterr().out
    assert "1 fact left the quarantine of ward; new in it: 0." in said
    assert "value_plausible" in said, "what it does not mend stays with its reason"
    ref = lake.latest(ward.settings, DATASET, "events")
    after = lake.read(ward.settings, ref)
    (new,) = shards.except_all(after, before).to_pylist()
    assert not shards.except_all(before, after).num_rows, "nothing was rewritten"
    assert (new["numeric_value"], new["available_time"]) == (1.0, datetime(2026, 1, 1, 12)), (
        "known when it was"
    )
    ward.replace("hosp/labevents", "12:00:00,99,99,", "12:00:00,4.0,4.0,")
    write_extract(ward.folder / ward.extract, ward.tables)
    assert main.main(["quarantine", "--dataset", DATASET, "--replay"]) == 0
    assert "1 fact left the quarantine of ward; new in it: 0.\nNothing of ward" in capsys.readouterr().out
    assert lake.latest(ward.settings, DATASET, "events").version == ref.version + 1


class Nights:
    """Nights that correct, add, date back, mar and withdraw rows of labs and visits at random."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.number = 100

    def edit(self, ward: Ward, day: int) -> None:
        for table in ("hosp/labevents", "hosp/admissions", "hosp/patients"):
            header, *rows = (line.strip() for line in ward.tables[table].strip().splitlines())
            for _ in range(self.rng.randint(0, 2)):
                rows = self._edited(table, rows, day)
            ward.tables[table] = "\n".join([header, *rows])

    def _edited(self, table: str, rows: list[str], day: int) -> list[str]:
        place = self.rng.randrange(len(rows))
        cells = rows[place].split(",")
        if table == "hosp/patients":
            cells[2] = str(self.rng.randint(30, 80))
        elif table == "hosp/admissions":
            cells[3] = self.rng.choice(["", f"2026-01-0{self.rng.randint(1, day)} 18:00:00"])
        elif (choice := self.rng.randrange(4)) == 0 and len(rows) > 3:
            return rows[:place] + rows[place + 1 :]
        elif choice == 1:
            self.number += 1
            cells[0], hour = str(self.number), self.rng.randint(10, 23)
            cells[4], cells[5] = (f"2026-01-0{self.rng.randint(1, day)} {h}:00:00" for h in (hour - 1, hour))
            return [*rows[:place], ",".join(cells), *rows[place:]]
        else:
            cells[6] = cells[7] = self.rng.choice(["1.3", "2.1", "5.5", "?", "900"])
            cells[5] = self.rng.choice([cells[5], f"2026-01-0{day} 00:30:00"])
        return [*rows[:place], ",".join(cells), *rows[place + 1 :]]


def test_random_nights_leave_what_was_known_as_it_was_and_end_where_a_rebuild_does(complete: Ward) -> None:
    ward, nights = complete, Nights(seed=int(os.environ.get("MEDISCALE_SEED", "5")))
    for day in range(3, 3 + int(os.environ.get("MEDISCALE_NIGHTS", "3"))):
        known = {moment: ward.as_of(moment) for moment in (datetime(2026, 1, 1, 12), night(day - 1))}
        nights.edit(ward, day)
        ward.ingest(night(day))
        assert {moment: ward.as_of(moment) for moment in known} == known
    anew = ward.anew()
    assert ward.as_of(None) == anew.as_of(None)
    assert ward.quarantine() == anew.quarantine()
    for counted in ("judged", "quarantined", "reasons"):
        assert getattr(ward.results["validate"], counted) == getattr(anew.results["validate"], counted)


def test_rows_of_two_lists_are_compared_one_by_one() -> None:
    """Each row has one counterpart at most, null is null, and of equal rows none is new where as many were there.

    The list's own column is called as the rows' number is.
    """
    drawn = random.Random(3)
    for _ in range(30):
        was, here = (
            [
                {"file": drawn.choice("ab"), "row_number": drawn.choice(["x", "", None])}
                for _ in range(drawn.randrange(9))
            ]
            for _ in range(2)
        )
        added, gone, moved = landing._compare(numbered(was), numbered(here))
        rows = (Counter((row["file"], row["row_number"]) for row in each) for each in (was, here))
        before, now = rows
        assert (
            Counter(zip(*(added[name].to_pylist() for name in ("file", "row_number")), strict=True))
            == now - before
        )
        assert (
            Counter(zip(*(gone[name].to_pylist() for name in ("file", "row_number")), strict=True))
            == before - now
        )
        for row in moved.to_pylist():
            assert was[row["line"]] == here[row["new_line"]]
            assert row["line"] != row["new_line"]
        there = {*range(len(here))} - {*added["line"].to_pylist()} - {*moved["new_line"].to_pylist()}
        assert all(was[line] == here[line] for line in there)


def numbered(rows: list[dict[str, str | None]]) -> pa.Table:
    schema = pa.schema([("file", pa.string()), ("line", pa.int64()), ("row_number", pa.string())])
    return pa.Table.from_pylist([{**row, "line": line} for line, row in enumerate(rows)], schema)
