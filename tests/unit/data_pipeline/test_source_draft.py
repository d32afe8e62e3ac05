"""Drafts of sources: what is seen in an extract that nobody has mapped, and what never gets into a draft."""

import gzip
import json
import random
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from benchmarks import source_draft as benchmark
from data_pipeline import source_check, source_draft, synthetic
from data_pipeline.ingest import engine, shared_mappings
from data_pipeline.ingest import source as sources
from data_pipeline.ingest.source import Source
from data_pipeline.source_draft import knowledge, profiles
from mediscale.cli import main
from mediscale.core.errors import InputError
from mediscale.core.settings import Settings

PATIENTS = 40
ADMITTED = datetime(2024, 1, 1, 8, 30)
CANARY = "Zurbriggen-Xaver"


@pytest.fixture
def drafted(settings: Settings) -> Callable[[Path], tuple[Source, str]]:
    """Drafts the source of a folder and reads what was drafted."""

    def draft(root: Path) -> tuple[Source, str]:
        text = source_draft.draft(settings, root)
        return sources.parse("drafted", text), text

    return draft


def write(
    folder: Path, name: str, header: Sequence[str], rows: Sequence[Sequence[object]], delimiter: str = ","
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    lines = [delimiter.join(header), *(delimiter.join(map(str, row)) for row in rows)]
    (folder / name).write_bytes(("\n".join(lines) + "\n").encode("latin-1" if delimiter == ";" else "utf-8"))


def swiss_hospital(folder: Path, creatinine: str = "Kreatinin", sodium: str = "Natrium") -> None:
    """Semicolons, Latin-1, dates, commas and headers as in Switzerland; results name a stay and no patient."""
    draw = random.Random(5)
    patients, stays, labs = [], [], []
    for i in range(PATIENTS):
        number, stay = 70_001_000 + i, 8_500_000 + 3 * i
        born = datetime(1940, 1, 1) + timedelta(days=300 * i)
        patients.append(
            (number, f"{born:%d.%m.%Y}", "W" if i % 2 else "M", CANARY if i == 7 else f"Müller{i}")
        )
        begin = ADMITTED + timedelta(days=i)
        left = "verstorben" if i == 3 else "nach Hause"
        stays.append(
            (stay, number, f"{begin:%d.%m.%Y %H:%M}", f"{begin + timedelta(days=5):%d.%m.%Y %H:%M}", left)
        )
        for hour in range(4, 40, 6):
            taken = f"{begin + timedelta(hours=hour):%d.%m.%Y %H:%M}"
            labs += [
                (stay, taken, creatinine, f"{draw.uniform(60, 140):.1f}".replace(".", ","), "umol/l"),
                (stay, taken, sodium, round(draw.uniform(132, 146)), "mmol/l"),
            ]
    write(folder, "patienten.csv", ("Patienten-Nr", "Geburtsdatum", "Geschlecht", "Name"), patients, ";")
    write(
        folder,
        "stays.csv",
        ("Stay_Nr", "Patienten-Nr", "Eintrittsdatum", "Austrittsdatum", "Discharge_Disposition"),
        stays,
        ";",
    )
    write(folder, "lab.csv", ("Stay_Nr", "Abnahmezeit", "Analyt", "Wert", "Einheit"), labs, ";")


def test_decimal_commas_are_seen_at_the_end_of_lines_as_windows_writes_them(tmp_path: Path) -> None:
    lines = [b"fall;zeit;wert", *(b"%d;2024-01-01 10:00;%d,5" % (i, i) for i in range(50))]
    (tmp_path / "lab.csv").write_bytes(b"\r\n".join(lines) + b"\r\n")
    with engine.connection(Settings()) as database:
        [table] = profiles.read(database, tmp_path)
    assert table.csv.decimal == ","
    assert table.columns["wert"].kind == "number"


@pytest.mark.parametrize(("n_batches", "whole"), [(2, True), (3, False)])
def test_a_table_is_whole_only_where_no_row_was_left_out(
    n_batches: int, whole: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(profiles, "MAX_ROWS", 4)
    batch = pa.record_batch({"a": ["1", "2"]})
    limited = profiles._Limited(iter([batch] * n_batches), ["a"])
    assert sum(part.num_rows for part in limited) == 4
    assert limited.cut is not whole


def vital_signs(folder: Path) -> None:
    """A wide table with short names; each row has one measurement, and -99 for the others."""
    rows = []
    for i in range(PATIENTS):
        for hour, column in enumerate((0, 1, 2, 3) * 2):
            values = [-99] * 4
            values[column] = (70, 120, 75, 16)[column] + (i + hour) % 9
            taken = ADMITTED + timedelta(days=i, hours=hour + 1)
            rows.append((8_500_000 + 3 * i, f"{taken:%d.%m.%Y %H:%M}", *values))
    write(folder, "vitalwerte.csv", ("Stay_Nr", "Messzeit", "HF", "RR_sys", "RR_dia", "AF"), rows, ";")


@pytest.mark.parametrize(
    ("label", "concept"),
    [
        ("Hämoglobin", "hemoglobin"),
        ("Hämatokrit", "hematocrit"),
        ("Leukozyten", "white_blood_cells"),
        ("Thrombozyten", "platelets"),
        ("Harnstoff-N", "urea_nitrogen"),
        ("Glukose", "glucose"),
        ("Laktat", "lactate"),
        ("Chlorid", "chloride"),
        ("Kalzium", "calcium"),
        ("Gesamt-Bilirubin", "bilirubin"),
        ("GOT", "ast"),
        ("GPT", "alt"),
        ("Körpertemperatur", "temperature"),
        ("C-reaktives Protein", "crp"),
        ("Glukose im Urin", None),
        ("Laktat (Liquor)", None),
    ],
)
def test_german_labels_are_names_of_concepts(label: str, concept: str | None) -> None:
    assert [one.name for one in knowledge.concepts_called(label.lower())] == [concept] * bool(concept)


def test_outpatients_and_urgency_may_be_told_by_two_columns_and_white_cells_be_in_giga_per_litre(
    tmp_path: Path, drafted: Callable[[Path], tuple[Source, str]]
) -> None:
    cases, labs = [], []
    for i in range(60):
        begin = ADMITTED + timedelta(days=i)
        urgency, setting = ("Notfall", "Angemeldet")[i % 2], ("stationär", "ambulant")[i % 3 == 0]
        stay = [f"{begin + timedelta(days=d):%d.%m.%Y %H:%M}" for d in (0, 5)]
        cases.append((900_001 + i, 100_001 + i // 2, *stay, urgency, setting))
        taken, stored = (f"{begin + timedelta(hours=h):%d.%m.%Y %H:%M}" for h in (2, 3))
        labs += [
            (900_001 + i, "Leukozyten", taken, stored, f"{6 + i % 7},5", "G/l"),
            (900_001 + i, "Hämoglobin", taken, stored, f"{120 + i % 30},5", "g/l"),
        ]
    patients = [(100_001 + i, f"{1 + i % 28:02}.03.1950") for i in range(30)]
    write(tmp_path, "Patienten.csv", ("Patientennummer", "Geburtsdatum"), patients, ";")
    header = ("Fallnummer", "Patientennummer", "Eintritt", "Austritt", "Eintrittsart", "Fallart")
    write(tmp_path, "Faelle.csv", header, cases, ";")
    header = ("Fallnummer", "Analyse", "Entnahmezeit", "Validierungszeit", "Resultat", "Einheit")
    write(tmp_path, "Laborwerte.csv", header, labs, ";")
    source, text = drafted(tmp_path)
    assert "Not read" not in text
    assert source.concepts["white_blood_cells"][0].units == {"g/l": "value"}
    assert source.concepts["hemoglobin"][0].units == {"g/l": "value / 10"}
    assert source.tables["laborwerte"].available.startswith("coalesce(validierungszeit, ")
    assert source.visits.when == "fallart_category not in ('OUTPATIENT', 'OTHER')"
    assert source.tables["faelle"].vocabularies["eintrittsart"].keys() == {"EMERGENCY", "ELECTIVE"}
    admission = source.tables["faelle"].facts["admission"]
    assert "eintrittsart_category" in str(admission.code)
    assert "fallart_category" in str(admission.when)


def test_another_hospital_s_layout_is_recognised_and_checks(
    tmp_path: Path, settings: Settings, drafted: Callable[[Path], tuple[Source, str]]
) -> None:
    swiss_hospital(tmp_path / "extract")
    vital_signs(tmp_path / "extract")
    source, text = drafted(tmp_path / "extract")
    assert f"of {PATIENTS} visits" in text  # a result names a stay and no patient
    assert (source.subjects.table, source.visits.table) == ("patienten", "stays")
    assert (source.csv.delimiter, source.csv.encoding) == (";", "utf-8")
    written = source.tables["patienten"].csv
    assert written is not None
    assert written.encoding == "iso8859-1"
    through = source.tables["lab"].patient_through
    assert through is not None
    assert (through.table, through.key) == ("stays", "stay_nr")
    assert source.tables["lab"].formats == {"abnahmezeit": "dd.MM.yyyy HH:mm"}
    assert (source.tables["lab"].csv or source.csv).decimal == ","
    assert source.concepts["creatinine"][0].units == {"umol/l": "value / 88.42"}
    columns = {
        "heart_rate": "hf",
        "systolic_blood_pressure": "rr_sys",
        "diastolic_blood_pressure": "rr_dia",
        "respiratory_rate": "af",
    }
    assert {name: source.concepts[name][0].items[0] for name in columns} == columns
    assert set(source.concepts) == {"creatinine", "sodium", *columns}
    assert source.tables["vitalwerte"].sentinels == dict.fromkeys(columns.values(), ("-99",))
    found = source_check.check(settings, source, tmp_path / "extract", ["mortality"])
    usable = {f"{fact.table}.{fact.fact}": fact.usable for fact in found.facts}
    assert usable["patienten.birth"] == usable["stays.discharge"] == PATIENTS
    assert usable["lab.result"] == PATIENTS * 12
    assert usable["vitalwerte.measured"] == PATIENTS * 8
    assert "TODO: which zone" in text


def test_loinc_codes_are_taken_from_the_shared_mapping(
    tmp_path: Path, drafted: Callable[[Path], tuple[Source, str]]
) -> None:
    swiss_hospital(tmp_path / "extract", creatinine="2160-0", sodium="2951-2")
    source, text = drafted(tmp_path / "extract")
    assert source.concepts == shared_mappings.load("loinc").concepts
    assert "\n  # creatinine: 2160-0, its code; n 240 of 40 visits" in text
    assert "\nconcepts:" not in text, "nothing is listed that the shared mapping has"


def test_nothing_of_a_patient_is_in_a_draft(
    tmp_path: Path, drafted: Callable[[Path], tuple[Source, str]]
) -> None:
    """Neither numbers, nor names, nor words of fewer patients than may be told of."""
    swiss_hospital(tmp_path / "extract")
    labs = tmp_path / "extract" / "lab.csv"
    labs.write_bytes(labs.read_bytes().replace(b"umol/l", CANARY.encode("latin-1"), 6))  # of one stay
    source, text = drafted(tmp_path / "extract")
    assert CANARY.casefold() not in text.casefold()
    assert "units of few patients are not listed" in text
    assert set(source.concepts["creatinine"][0].units) == {"umol/l"}
    assert "VERSTORBEN" not in text.upper()
    assert "70001007" not in text
    assert "8500021" not in text
    assert source.tables["stays"].vocabularies == {"discharge_disposition": {"HOME": ("NACH HAUSE",)}}
    assert any("discharge_disposition" in question for _, question in source_draft.todos(text))


def test_hours_from_admission_are_no_calendar(
    tmp_path: Path, drafted: Callable[[Path], tuple[Source, str]]
) -> None:
    """A wide table of offsets: a column for each measurement, hours since the beginning."""
    draw = random.Random(3)
    stays = [(100_000 + i, 40 + i % 50, "Male" if i % 3 else "Female", 70 + i) for i in range(PATIENTS)]
    hours = [
        (
            100_000 + i,
            hour,
            round(draw.uniform(60, 110)),
            round(draw.uniform(36, 38.5), 1),
            -999 if hour == 4 else round(draw.uniform(90, 150)),
            "",
        )
        for i in range(PATIENTS)
        for hour in range(6)
    ]
    write(tmp_path / "extract", "stays.csv", ("stay_id", "age", "sex", "weight"), stays)
    write(tmp_path / "extract", "hourly.csv", ("stay_id", "time", "hr", "temp", "sbp", "crp"), hours)
    source, text = drafted(tmp_path / "extract")
    assert source.clock == "relative"
    assert source.tables["hourly"].facts["measured"].unpivot == ("hr", "temp", "sbp")
    assert set(source.concepts) >= {"heart_rate", "temperature", "systolic_blood_pressure"}
    assert source.tables["hourly"].sentinels == {"sbp": ("-999",)}
    assert "and not of a stay" in text


def test_a_row_per_encounter_of_patients_who_come_again(
    tmp_path: Path, drafted: Callable[[Path], tuple[Source, str]]
) -> None:
    """What is left of the columns is known at the end of the visit, but for names, numbers and codes of something."""
    rows = [
        (
            50_000 + i,
            900 + i % 25,
            "Female" if i % 2 else "Male",
            3 + i % 5,
            i % 4,
            "Yes" if i % 3 else "No",
            f"428.{i % 9}",
        )
        for i in range(60)
    ]
    write(
        tmp_path / "extract",
        "encounters.csv",
        ("encounter_id", "patient_nbr", "gender", "time_in_hospital", "orders", "insulin", "diag_1"),
        rows,
    )
    source, _ = drafted(tmp_path / "extract")
    assert (source.subjects.id, source.visits.id) == ("patient_nbr", "encounter_id")
    facts = source.tables["encounters"].facts
    assert {"admission", "discharge", "sex"} <= set(facts)
    assert (facts["numbers"].unpivot, facts["words"].unpivot) == (("orders",), ("insulin",))
    assert facts["words"].available == source.visits.ended


def test_files_whose_names_differ_by_a_number_are_parts_but_years_beside_other_tables_are_not(
    tmp_path: Path,
) -> None:
    names = [
        "labs_1.csv", "labs_2.csv", "2019.csv", "2020.csv", "patients.csv", "notes/7.csv", "notes/8.csv",
        "d_icd9_codes.csv", "d_icd10_codes.csv", "x/part-00000-a1.parquet", "x/part-00001-b2.parquet",
    ]  # fmt: skip
    grouped = profiles.grouped({name: tmp_path / name for name in names}, lambda _: True)
    assert sorted((one.file, len(one.paths)) for one in grouped) == [
        ("2019", 1), ("2020", 1), ("d_icd10_codes", 1), ("d_icd9_codes", 1), ("labs_*", 2), ("notes", 2),
        ("patients", 1), ("x/part-*", 2),
    ]  # fmt: skip


def test_a_column_that_says_two_things_of_a_visit_is_commented_on_once(
    tmp_path: Path, drafted: Callable[[Path], tuple[Source, str]]
) -> None:
    """How urgent an admission was, and which visits are none in the hospital."""
    write(tmp_path, "patients.csv", ("patient_id", "birth_date", "sex"),
          [(i, f"19{i:02}-02-03", "MF"[i % 2]) for i in range(40, 90)])  # fmt: skip
    kinds = ["emergency", "outpatient"] * 25 + ["seldom"]
    write(tmp_path, "visits.csv", ("visit_id", "patient_id", "admission_type", "admit_time", "discharge_time"),
          [(900 + i, 40 + i % 50, kind, "2024-01-02 10:00", "2024-01-05 11:00") for i, kind in enumerate(kinds)],
          )  # fmt: skip
    _, text = drafted(tmp_path)
    assert text.count("admission_type tells hospital visits from others") == 1
    assert text.count("admission_type: words of few patients are not listed") == 1


def test_files_that_share_few_columns_are_tables_of_their_own_whatever_their_names(tmp_path: Path) -> None:
    """A workbook's sheets: read as parts of one table, the second had none of the first one's columns."""
    write(tmp_path, "sheet1.csv", ("patient", "born"), [("1", "1950-01-01"), ("2", "1951-01-01")])
    write(
        tmp_path, "sheet2.csv", ("stay", "patient", "begin", "end"), [("7", "1", "2024-01-01", "2024-01-02")]
    )
    write(tmp_path, "sheet3.csv", ("code", "text"), [("a", "x")], ";")
    write(tmp_path, "labs1.csv", ("patient", "item", "value"), [("1", "K", "4.1")])
    write(tmp_path, "labs2.csv", ("patient", "item", "value", "unit"), [("2", "K", "4.2", "mmol/l")])
    with engine.connection(Settings()) as database:
        tables = profiles.read(database, tmp_path)
    assert {table.name: table.rows for table in tables} == {"labs": 2, "sheet1": 2, "sheet2": 1, "sheet3": 1}
    assert next(table for table in tables if table.name == "sheet3").csv.delimiter == ";"


def test_parts_of_parquet_and_nested_records_are_tables(
    tmp_path: Path, drafted: Callable[[Path], tuple[Source, str]]
) -> None:
    folder = tmp_path / "extract" / "people"
    folder.mkdir(parents=True)
    for part in range(2):
        numbers = [f"patient-{part}-{i:06}" for i in range(20)]
        table = pa.table(
            {"patient_id": numbers, "birth_date": ["1950-02-03"] * 20, "gender": ["F", "M"] * 10}
        )
        parquet.write_table(table, folder / f"{part}.parquet")
    with gzip.open(tmp_path / "extract" / "encounters.ndjson.gz", "wt") as lines:
        for i in range(20):
            period = {"start": f"2024-03-{i + 1:02}T08:00:00Z", "end": f"2024-03-{i + 1:02}T18:00:00Z"}
            record = {
                "id": f"e-{i:08}",
                "subject": {"reference": f"Patient/patient-0-{i:06}"},
                "period": period,
            }
            lines.write(json.dumps(record) + "\n")
    source, _ = drafted(tmp_path / "extract")
    assert source.tables[source.subjects.table].file == "people"
    visits = source.tables["encounters"]
    assert visits.paths[source.subjects.id] == "subject.reference"
    assert {visits.paths["period_start"], visits.paths["period_end"]} == {"period.start", "period.end"}


def test_the_layout_of_mimic_iv_is_drafted_without_having_seen_its_source(settings: Settings) -> None:
    """On the synthetic hospital; benchmarks/source_draft.py prints the same of real extracts."""
    made = synthetic.run(synthetic.Params(size="tiny", patients=60, notes=False), settings, "key")
    found = benchmark.compare(settings, "mimic-iv", settings.home / made.path, ("mimic-iv", "mimic-iii"))
    assert len(found.recovered) >= 0.6 * len(found.facts)
    assert {"labevents.result", "chartevents.observation", "admissions.death"} <= set(found.recovered)
    assert found.unshared < 0.05


def test_a_shipped_layout_is_recognised_by_its_headers() -> None:
    tables = sources.load("mimic-iv").tables
    headers = {table.file: set(table.columns) for table in tables.values()}
    assert knowledge.recognised(headers)["mimic-iv"] == {}
    headers["hosp/labevents"].remove("storetime")
    assert knowledge.recognised(headers)["mimic-iv"] == {"labevents": ("storetime",)}
    assert "mimic-iv" not in knowledge.recognised(headers, ("mimic-iv",))


def test_the_commands(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEDISCALE_HOME", str(tmp_path / "home"))
    swiss_hospital(tmp_path / "extract")
    path, file = str(tmp_path / "extract"), tmp_path / "swiss.yaml"
    assert main.main(["source", "draft", "--path", path, "--output", str(file)]) == 0
    questions = source_draft.todos(file.read_text())
    assert f"{len(questions)} open questions" in capsys.readouterr().out
    assert main.main(["source", "check", str(file), "--path", path, "--task", "mortality"]) == 0
    shown = capsys.readouterr().out
    assert all(f"line {line}: {question}" in shown for line, question in questions)
    assert main.main(["source", "draft", "--path", path, "--output", str(file)]) == 2
    assert main.main(["source", "check", "--path", path]) == 2


@pytest.mark.parametrize(
    ("files", "sentence"),
    [({}, "hold no files of data"), ({"a.csv": ("x", [(1,), (1,)])}, "nobody can say whose a row is")],
)
def test_what_can_t_be_drafted(
    tmp_path: Path, settings: Settings, files: Mapping[str, tuple[str, list[tuple[int]]]], sentence: str
) -> None:
    (tmp_path / "extract").mkdir()
    for name, (header, rows) in files.items():
        write(tmp_path / "extract", name, (header,), rows)
    with pytest.raises(InputError, match=sentence):
        source_draft.draft(settings, tmp_path / "extract")
