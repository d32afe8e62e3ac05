"""What a source makes of an extract, said before anything is landed."""

import re
from pathlib import Path

import pytest

from data_pipeline import source_check
from data_pipeline.ingest import source as sources
from mediscale.cli.main import main
from mediscale.core.errors import InputError, UsageError
from mediscale.core.settings import Settings

WARD = """
description: a ward
zone: UTC
subjects: {table: people, id: person}
visits: {table: stays, id: stay, started: began, admitted: began, ended: ended}
concepts:
  creatinine: [{items: [CREA], units: {mg/dl: value}}]
  heart_rate: [{items: [HR, PULSE], units: {/min: value}}]
tables:
  people:
    file: people
    columns: {person: identifier, born: date}
    available: born
    facts: {birth: {event: person, code: "'MEDS_BIRTH'", time: born}}
  stays:
    file: stays
    columns: {person: identifier, stay: identifier, began: timestamp, ended: timestamp}
    available: began
    facts:
      admission: {event: stay, code: "'HOSPITAL_ADMISSION//EMERGENCY'", time: began}
      discharge: {event: stay, code: "'HOSPITAL_DISCHARGE//HOME'", time: ended, available: ended}
  labs:
    file: labs
    provides: laboratory
    columns: {person: identifier, stay: identifier, test: word, taken: timestamp, result: double, measured: string}
    available: taken
    facts:
      lab:
        event: concat_ws('|', stay, test, taken)
        concept_of: test
        value: result
        unit: measured
        time: taken
"""


@pytest.fixture
def ward(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Forty patients of one stay each; the ward's pulse is charted per two minutes in one of its items."""
    monkeypatch.setenv("MEDISCALE_HOME", str(tmp_path / "home"))
    folder = tmp_path / "extract"
    folder.mkdir()
    people, stays, labs = (
        ["person,born"],
        ["person,stay,began,ended,ward"],
        ["person,stay,test,taken,result,measured"],
    )
    for i in range(1, 41):
        people.append(f"{i},1950-01-01")
        stays.append(f"{i},{i}00,2020-01-01 08:00,2020-01-09 08:00,B")
        for hour in range(9, 20):
            labs.append(f"{i},{i}00,CREA,2020-01-01 {hour:02}:00,{1 + i / 100},mg/dL")
            labs.append(f"{i},{i}00,HR,2020-01-01 {hour:02}:00,{60 + i},/min")
            labs.append(f"{i},{i}00,PULSE,2020-01-01 {hour:02}:30,{160 + i},/min")
        labs.append(f"{i},{i}00,CREA,2020-01-01 20:00,7777,mg/dL")
        labs.append(f"{i},{i}00,CREA,2020-01-01 21:00,1,mmol")
        labs.append(f"{i},{i}00,NOISE,2020-01-01 21:00,1,dB")
    for name, lines in {"people": people, "stays": stays, "labs": labs}.items():
        (folder / f"{name}.csv").write_text("\n".join(lines) + "\n")
    (folder / "notes.csv").write_text("a\n1\n")
    (tmp_path / "ward.yaml").write_text(WARD)
    return tmp_path


def checked(ward: Path, text: str = WARD) -> source_check.SourceCheck:
    source = sources.parse("ward", text)
    return source_check.check(
        Settings(home=ward / "scratch"), source, ward / "extract", ("mortality", "readmission")
    )


def test_everything_that_a_run_would_make_of_the_extract_is_said(ward: Path) -> None:
    found = checked(ward)
    assert {table.name: (table.rows, table.unread_columns) for table in found.tables} == {
        "people": (40, ()),
        "stays": (40, ("ward",)),
        "labs": (1440, ()),
    }
    assert [name for name, _ in found.unread_files] == ["notes.csv"]
    lab = next(fact for fact in found.facts if fact.fact == "lab")
    assert (lab.rows, lab.candidates, lab.usable) == (1440, 1400, 1320), (
        "an item that nobody lists is no fact"
    )
    assert dict(lab.broken) == {"value_plausible": 40, "unit_known": 40}
    birth = next(fact for fact in found.facts if fact.fact == "birth")
    assert (birth.usable, birth.at_midnight) == (40, 1.0)
    creatinine = next(one for one in found.concepts if one.concept == "creatinine")
    assert (creatinine.n, creatinine.patients) == (440, 40)
    assert creatinine.percentiles == pytest.approx((1.01, 1.2, 1.4))
    assert [(low.item, high.item) for low, high in found.apart] == [("HR", "PULSE")]
    mortality, readmission = found.tasks
    assert (mortality.flow["visits"], mortality.flow["certain"]) == (40, 40)
    assert mortality.outcomes["died_in_hospital"] == 0
    assert mortality.filled > 5
    assert readmission.flow["followed_up"] == 40
    assert not (ward / "home").exists(), "nothing is written"


def test_the_command_prints_it_and_fails_where_a_table_yields_nothing(
    ward: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(ward / "extract")
    assert main(["source", "check", str(ward / "ward.yaml"), "--path", path, "--task", "mortality"]) == 0
    printed = capsys.readouterr().out
    assert "columns not read: ward" in printed
    assert "files that nothing reads: notes.csv" in printed
    assert re.search(r"\.birth .* 40  100% at midnight\n", printed)
    assert (
        "ALARM heart_rate: the median is 80 /min in item HR of labs and 180 in item PULSE of labs" in printed
    )
    assert "visits 40 → inpatient 40" in printed
    (ward / "ward.yaml").write_text(WARD.replace("[CREA]", "[KREA]").replace("[HR, PULSE]", "[HF]"))
    assert main(["source", "check", str(ward / "ward.yaml"), "--path", path, "--task", "mortality"]) == 4
    assert "ALARM labs has rows and yields no usable fact" in capsys.readouterr().out


def test_an_expression_that_spark_refuses_is_named_by_its_fact(ward: Path) -> None:
    with pytest.raises(UsageError, match=r"tables\.stays\.facts\.discharge: .*`endet`") as refused:
        checked(ward, WARD.replace("time: ended, available: ended", "time: endet, available: ended"))
    assert "\n" not in str(refused.value)
    assert "Project" not in str(refused.value)


def test_the_problems_of_all_headers_are_said_at_once(ward: Path) -> None:
    text = WARD.replace("born: date}", "born: date, sex: word}").replace(
        "measured: string}", "measured: word, lot: word}"
    )
    with pytest.raises(
        InputError, match=r"2 of the files .* people\.csv has no column sex; labs\.csv has no column lot"
    ):
        checked(ward, text)
