"""What is in quarantine is listed by the rule that it breaks, with the place where a person mends it."""

import csv
from pathlib import Path

import pyarrow as pa
import pytest

from data_pipeline import quarantine
from mediscale.cli import main
from mediscale.core.errors import NotFoundError, UsageError
from mediscale.core.settings import Settings
from mediscale.core.tables import QUARANTINE
from mediscale.storage import commits

LAB, CHART = "labevents", "chartevents"


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    settings = Settings(home=tmp_path / "home", trust=tmp_path / "trust")
    lines = [
        (LAB, "LABEVENTS.csv", 7, "LOINC//2160-0", "value_plausible"),
        (LAB, "LABEVENTS.csv", 3, "LOINC//2160-0", "value_plausible,unit_known"),
        (LAB, "LABEVENTS.csv", 3, "LOINC//2823-3", "value_plausible"),
        (CHART, "CHARTEVENTS.csv", 9, "LOINC//8867-4", "unit_known"),
    ]
    rows = [dict(zip(("source", "file", "line", "code", "reason"), line, strict=True)) for line in lines]
    table = pa.Table.from_pylist(rows, schema=QUARANTINE.arrow_schema())
    commits.append(settings, QUARANTINE.name, table, "icu", "test", 1)
    monkeypatch.setenv("MEDISCALE_HOME", str(settings.home))
    return settings


def test_rules_are_counted_by_table_and_said_in_words(settings: Settings) -> None:
    found = quarantine.broken_rules(settings, "icu")
    counted = [(one.table, one.rule, one.facts, one.rows, one.files) for one in found]
    assert counted == [
        (LAB, "value_plausible", 3, 2, 1), (CHART, "unit_known", 1, 1, 1), (LAB, "unit_known", 1, 1, 1)
    ]  # fmt: skip
    assert all(one.meaning for one in found)


def test_places_are_in_the_order_of_the_files(settings: Settings) -> None:
    assert [(p.file, p.line) for p in quarantine.places(settings, "icu")] == [
        ("CHARTEVENTS.csv", 9), ("LABEVENTS.csv", 3), ("LABEVENTS.csv", 3), ("LABEVENTS.csv", 7)
    ]  # fmt: skip
    assert [p.line for p in quarantine.places(settings, "icu", rule="unit_known", table=LAB)] == [3]
    with pytest.raises(UsageError, match=r"There is no rule 'unit'; the rules are: .*unit_known"):
        quarantine.places(settings, "icu", rule="unit")
    with pytest.raises(NotFoundError, match="ward was never validated; the lake's datasets are: icu"):
        quarantine.broken_rules(settings, "ward")


def test_a_person_reads_the_rules_and_gets_the_places_as_a_file(
    settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.main(["quarantine", "--dataset", "icu"]) == 0
    said = capsys.readouterr().out
    assert "value_plausible" in said
    assert "within the concept's plausible range" in said
    assert main.main(["quarantine", "--dataset", "icu", "--rule", "unit_known"]) == 0
    assert "LABEVENTS.csv:3  LOINC//2160-0" in capsys.readouterr().out
    places = tmp_path / "places.csv"
    assert main.main(["quarantine", "--dataset", "icu", "--output", str(places)]) == 0
    with places.open() as file:
        assert [row["line"] for row in csv.DictReader(file)] == ["9", "3", "3", "7"]
    assert settings.home.exists()
