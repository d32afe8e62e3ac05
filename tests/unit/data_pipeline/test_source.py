"""The grammar of a source's YAML, and finding an extract's files."""

import re
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_pipeline.ingest import extract_files, parsing, shared_mappings, source, timestamps
from mediscale.core.errors import InputError, UsageError

MINIMAL = """
description: a clinic
subjects: {table: people, id: person}
visits: {table: stays, id: stay, started: began, admitted: began, ended: ended}
tables:
  people: {file: people, required: true, columns: {person: string}, available: date'2000-01-01'}
  stays: {file: stays, required: true, columns: {person: string, stay: string}, available: began}
"""


def test_every_shipped_source_follows_the_grammar_and_declares_when_its_rows_are_known() -> None:
    assert source.names() == ("fhir", "meds", "mimic-iii", "mimic-iv", "omop", "synthea", "uci-diabetes-130")
    for name in source.names():
        loaded = source.load(name)
        assert all(table.available for table in loaded.tables.values())
        assert all(assumption.because.endswith(".") for assumption in loaded.assumptions.values())
        whens = [
            when
            for table in loaded.tables.values()
            for when in (table.available, *(f.available for f in table.facts.values()))
        ]
        assert set(re.findall(r"\{(\w+)\}", " ".join(whens))) == loaded.assumptions.keys()


@pytest.mark.parametrize("name", ["fhir", "omop", "synthea"])
def test_a_source_with_shared_mappings_is_the_source_with_their_text_in_it(name: str) -> None:
    text = (source.FOLDER / f"{name}.yaml").read_text()
    written = "".join((shared_mappings.FOLDER / f"{n}.yaml").read_text() for n in ("loinc", "drug_names"))
    copied, found = re.subn(r"(?m)^extends: \[loinc, drug_names\].*\n", lambda _: written, text)
    assert found == 1
    assert source.parse(name, copied).model_dump_json() == source.load(name).model_dump_json()


def test_what_a_source_lists_itself_stands_in_place_of_the_shared_entry() -> None:
    own = "extends: [loinc]\nconcepts: {creatinine: [{items: [KREA], units: {umol/l: value / 88.42}}], lactate: []}"
    loaded = source.parse("clinic", f"{own}\n{MINIMAL}")
    assert [measure.items for measure in loaded.concepts["creatinine"]] == [("KREA",)]
    assert loaded.concepts["lactate"] == ()
    assert loaded.concepts["sodium"] == shared_mappings.load("loinc").concepts["sodium"]
    assert loaded.treatments == {}


def test_an_unknown_source_is_refused_with_those_that_exist() -> None:
    with pytest.raises(InputError, match=r"no source 'mimic-v'; the sources are .*mimic-iii, mimic-iv"):
        source.load("mimic-v")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (("available: began}", "}"), "tables.stays.available: is missing"),
        (("subjects: {table: people", "subjects: {table: persons"), "no such table here: persons"),
        *(
            (
                ("available: began}", f'available: "{made}"}}\nzone: Europe/Zurich'),
                "which would be one in UTC and not in Europe/Zurich; let the extract write date and time in one",
            )
            for made in (
                "to_timestamp(concat(day, ' ', clock))",
                "cast(concat(day, ' ', clock) as TIMESTAMP)",
                "make_timestamp_ntz(2024, 1, 1, 0, 0, 0)",
            )
        ),
        (("description: a clinic", "description: a clinic\nconcepts: {mood: []}"), "concepts.py: mood"),
        (("description: a clinic", "description: a clinic\ntreatments: {leeches: {}}"), "group: leeches"),
        (("available: began}", "available: began, lookups: [ward]}"), "lookups that are not declared: ward"),
        (
            ("available: began}", "available: began, facts: {x: {event: stay, time: began}}}"),
            "exactly one of code, concept_of and treatment_of",
        ),
        (
            (
                "available: began}",
                "available: began, facts: {x: {event: stay, time: began, code: c, value: stay}}}",
            ),
            "columns that are not double: stay",
        ),
        (
            (
                "stay: string}, available: began}",
                "stay: string, unit: string}, available: began, facts: {x: {event: stay, time: began, code: c}}}",
            ),
            "columns whose names are taken: unit",
        ),
        (("description: a clinic", "description: [a"), "breaks the grammar"),
        (
            ("description: a clinic", "description: a clinic\nzone: Europe/Zuerich"),
            "no time zone is called Europe/Zuerich",
        ),
        (
            (
                "description: a clinic",
                "description: a clinic\nassumptions: {x: {interval: 99999999999 days, because: x}}",
            ),
            "assumptions.x.interval: must match pattern",
        ),
        (
            (
                "description: a clinic",
                "description: a clinic\nassumptions: {x: {interval: 2 days, because: ''}}",
            ),
            "assumptions.x.because: must have at least 1 character",
        ),
        (
            (
                "description: a clinic",
                "description: a clinic\nconcepts: {sodium: [{items: [S1], units: {mmol/l: value}}],"
                " potassium: [{items: [' s1'], units: {mmol/l: value}}]}",
            ),
            "the item  s1 of potassium is listed before, under sodium",
        ),
        (
            (
                "description: a clinic",
                "description: a clinic\nconcepts: {sodium: [{items: [Na], units: {mmol/l: value}}]}",
            ),
            "the item Na of sodium is a word for nothing, so that no row would have it",
        ),
        (
            (
                "description: a clinic",
                "description: a clinic\nconcepts: {sodium: [{items: [S1], units: {mmol/l: value, mmol/L: value}}]}",
            ),
            "sodium has two conversions of one unit, whatever the case",
        ),
        (
            (
                "description: a clinic",
                "description: a clinic\nconcepts: {sodium: [{items: [S1], units: {mmol/l: value * RAND()}}]}",
            ),
            "an expression uses RAND, which says something else each time",
        ),
        (("available: began}", "available: now()}"), "an expression uses now, which says something else"),
        (
            ("description: a clinic", "description: a clinic\nextends: [loink]"),
            "line 3, extends.0: loink is none of the files in mappings/; did you mean loinc?",
        ),
        (
            ("description: a clinic", "description: a clinic\nzone: Mars/Base"),
            "no time zone is called Mars/Base",
        ),
        (
            ("available: began}", "available: began, vocabularies: {stay: {X: [x]}}}"),
            "vocabularies needs columns of type word: stay",
        ),
        (
            ("available: began}", "available: began, intervals: {stay: person}}"),
            "intervals needs columns of type date or timestamp: stay, person",
        ),
        (
            ("available: began}", "available: began, icd: {code: stay, version: kind, kind: diagnosis}}"),
            "icd.version needs columns of type identifier: kind",
        ),
    ],
)
def test_a_source_that_breaks_the_grammar_is_refused_in_one_sentence(
    change: tuple[str, str], sentence: str
) -> None:
    with pytest.raises(UsageError) as refused:
        source.parse("clinic", MINIMAL.replace(*change))
    assert sentence in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_missing_directory_and_a_missing_table_are_named(extract: Callable[..., Path]) -> None:
    with pytest.raises(InputError, match="no directory"):
        extract_files.locate(source.load("mimic-iii"), Path("nowhere"))
    folder = extract(ADMISSIONS=None)
    with pytest.raises(InputError, match=r"lacks admissions\.csv\.gz, which the source mimic-iii requires"):
        extract_files.locate(source.load("mimic-iii"), folder)


def test_files_are_found_whatever_their_case(extract: Callable[..., Path]) -> None:
    found = extract_files.locate(source.load("mimic-iii"), extract())
    assert [file.name for file in found["labevents"]] == ["LABEVENTS.csv.gz"]


def test_a_source_says_what_an_extract_lacks_for_a_need() -> None:
    loaded = source.load("mimic-iv")
    present = {"patients", "admissions", "diagnoses_icd"}
    assert loaded.lacks(present, "laboratory", "vital_signs") == ("hosp/labevents", "icu/chartevents")
    assert loaded.lacks(present, "diagnoses") == ()
    assert loaded.lacks(loaded.tables) == ()


def test_the_digest_covers_every_file_that_the_source_names(extract: Callable[..., Path]) -> None:
    before = extract_files.digest_of(str(extract()), "mimic-iii")
    assert extract_files.digest_of(str(extract()), "mimic-iii") == before
    folder = extract(DIAGNOSES_ICD="ROW_ID,SUBJECT_ID,HADM_ID,ICD9_CODE\n501,1,11,4280")
    assert extract_files.digest_of(str(folder), "mimic-iii") != before


def test_a_source_that_names_no_zone_is_taken_as_utc_by_a_named_assumption() -> None:
    clinic = source.parse("clinic", MINIMAL)
    assert clinic.wall_clock == "UTC"
    assert any("states no zone" in sentence for sentence in clinic.assumption_sentences)
    stated = source.parse("clinic", MINIMAL.replace("description", "zone: Europe/Zurich\ndescription", 1))
    assert stated.wall_clock == "Europe/Zurich"
    assert not any("zone" in sentence for sentence in stated.assumption_sentences)


def test_in_a_zone_a_time_of_nothing_or_of_a_literal_is_no_time_of_texts() -> None:
    for stated in ("cast(null as timestamp)", "timestamp_ntz'1900-01-01'", "began + interval 1 hour"):
        text = MINIMAL.replace("available: began}", f'available: "{stated}"}}\nzone: Europe/Zurich')
        assert source.parse("clinic", text).wall_clock == "Europe/Zurich"


def test_the_source_of_the_guide_follows_the_grammar() -> None:
    guide = (source.FOLDER.parents[2] / "docs" / "onboarding.md").read_text()
    (text,) = re.findall(r"```yaml\n(.*?)```", guide, re.DOTALL)
    city = source.parse("city-hospital", text)
    assert city.tables["labs"].patient_through is not None
    assert city.wall_clock == "Europe/Zurich"


@pytest.mark.parametrize(
    ("added", "sentence"),
    [
        ("headers: {beds: [x]}", "headers names columns that are not declared: beds"),
        ("optional: [beds]", "optional names columns that are not declared: beds"),
        ("sentinels: {beds: [x]}", "sentinels names columns that are not declared: beds"),
        (
            "formats: {began: dd.mm.yyyy HH:MM}",
            "'dd.mm.yyyy HH:MM' has a part twice, or minutes (mm) that follow no hour: months are MM",
        ),
        ("formats: {began: 'dd.MM.yyyy hh:mm'}", "needs both hh and a, for hours up to 12"),
        ("formats: {began: 'dd.MM.yyyy HH:mm a'}", "or HH without a, for 24"),
        (
            "facts: {x: {event: stay, time: began, code: c, unpivot: [beds]}}",
            "fact x unpivots columns that are not declared: beds",
        ),
        (
            "facts: {x: {event: stay, time: began, code: c, value: column_value}}",
            "a fact whose value is column_value needs unpivot",
        ),
        (
            "patient_through: {table: people, key: stay}",
            "people, which is no table with the columns stay and person",
        ),
        ("patient_through: {table: people, key: person}", "it needs the column person and can't have person"),
    ],
)
def test_what_the_grammar_says_of_columns_and_patients_is_checked(added: str, sentence: str) -> None:
    with pytest.raises(UsageError, match=r"line \d+, ") as refused:
        source.parse("clinic", MINIMAL.replace("available: began}", f"available: began, {added}}}"))
    assert sentence in str(refused.value)


@pytest.mark.parametrize(
    ("csv", "sentence"),
    [
        ("{delimiter: ';;'}", "csv.delimiter: must have at most 1 character"),
        ("{encoding: klingon}", "no encoding is called klingon"),
        ("{encoding: rot13}", "no encoding is called rot13"),
        ("{encoding: undefined}", "no encoding is called undefined"),
        ("""{delimiter: '"'}""", "delimiter and quote are the same sign"),
    ],
)
def test_what_the_grammar_says_of_files_is_checked(csv: str, sentence: str) -> None:
    with pytest.raises(UsageError) as refused:
        source.parse("clinic", f"csv: {csv}\n{MINIMAL}")
    assert sentence in str(refused.value)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-8", "cp1252", "shift_jis"])
def test_an_encoding_of_text_may_be_declared(encoding: str) -> None:
    assert source.parse("clinic", f"csv: {{encoding: {encoding}}}\n{MINIMAL}").csv.encoding == encoding


@pytest.mark.parametrize(
    ("file", "refused"),
    [("stays", False), ("note/stays*", False), ("/etc/passwd", True), ("../stays", True), ("''", True)],
)
def test_a_file_lies_within_the_extract(file: str, refused: bool) -> None:
    text = MINIMAL.replace("file: stays", f"file: {file}")
    assert text != MINIMAL or file == "stays"
    if refused:
        with pytest.raises(UsageError, match=r"tables\.stays\.file"):
            source.parse("clinic", text)
    else:
        assert source.parse("clinic", text).tables["stays"].file == file


def test_a_word_has_one_category() -> None:
    words = "vocabularies: {ward: {HOME: [HOME, died], DIED: [DIED]}}"
    text = MINIMAL.replace("available: began}", f"available: began, {words}}}").replace(
        "stay: string", "stay: string, ward: word"
    )
    with pytest.raises(UsageError, match="words of ward are listed under two categories: DIED"):
        source.parse("clinic", text)


LETTERS = ("yyyy", "MM", "dd", "HH", "hh", "mm", "ss", "a")


@given(st.lists(st.sampled_from(LETTERS), min_size=3, max_size=8))
def test_a_format_reads_what_it_writes_or_is_refused(letters: list[str]) -> None:
    moment = datetime(2024, 3, 2, 19, 4, 5)
    codes = dict(zip(LETTERS, ("%Y", "%m", "%d", "%H", "%I", "%M", "%S", "%p"), strict=True))
    try:
        timestamps.time_pattern(" ".join(letters))
    except ValueError:
        return
    written = moment.strftime(" ".join(codes[letter] for letter in letters))
    said = ({"HH", "hh"} & {*letters}, "mm" in letters, "ss" in letters)
    parts = (19 if said[0] else 0, 4 if said[1] else 0, 5 if said[2] else 0)
    [read] = timestamps.as_iso(pa.array([written]), " ".join(letters)).to_pylist()
    assert read == ("2024-03-02" + (" {:02}:{:02}:{:02}".format(*parts) if said[0] else ""))


def test_a_lookup_is_by_its_key_or_by_an_expression() -> None:
    lookups = "lookups: {ward: {table: people, key: person, columns: {n: count(1)}}}\ntables:"
    text = MINIMAL.replace("tables:", lookups)
    for written, by in (("[ward]", ""), ("{ward: lower(stay)}", "lower(stay)")):
        clinic = source.parse(
            "clinic", text.replace("available: began}", f"available: began, lookups: {written}}}")
        )
        assert clinic.tables["stays"].lookups == {"ward": by}


@pytest.mark.parametrize(
    ("name", "table", "column", "written"),
    [
        (
            "synthea",
            "encounters",
            "encounterclass",
            ["ambulatory", "wellness", "outpatient", "virtual", "snf"],
        ),
        ("fhir", "encounters", "class", ["AMB", "VR", "HH", "IMP", "EMER"]),
        ("omop", "visit_occurrence", "visit_concept_id", ["9202", "38004207", "8883", "9201", "8870"]),
        ("omop", "visit_detail", "visit_detail_concept_id", ["38004207", "8870", "581385", "32037"]),
    ],
)
def test_shipped_sources_know_the_words_of_visits_that_are_no_stays(
    name: str, table: str, column: str, written: list[str]
) -> None:
    """Most visits are outpatient ones. Where their words stood in no list, the gate refused every version."""
    words = parsing.words(pa.array(written))
    assert parsing.unlisted(words, source.load(name).tables[table].vocabularies[column]) == 0
