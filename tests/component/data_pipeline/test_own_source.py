"""A hospital's own layout, by YAML alone: other delimiters, parts, other headers, wide tables, patients by a key."""

import datetime as dt
import gzip
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from data_pipeline.ingest import bronze, silver, validate
from data_pipeline.ingest import source as sources
from data_pipeline.ingest.extract_files import digest_of
from mediscale.core.errors import InputError, UsageError
from mediscale.core.settings import Settings
from mediscale.storage import exclusions, lake

CLINIC = """
description: a clinic that nobody mapped before
csv: {delimiter: ";", encoding: latin-1}
clock: relative
assumptions:
  coding_delay: {interval: 2 days, because: Codes come later.}
subjects: {table: encounters, id: person}
visits:
  table: encounters
  id: encounter
  when: kind_category = 'INPATIENT'
  started: "{origin}"
  admitted: "{origin}"
  ended: "{origin} + make_dt_interval(days)"
lookups:
  named: {table: tests, key: test, columns: {long_name: max(title)}}
tables:
  tests: {file: tests, csv: {delimiter: ","}, columns: {test: word, title: string}, available: "{origin}"}
  encounters:
    file: encounters
    required: true
    columns:
      {person: identifier, encounter: identifier, kind: word, days: double, bmi: double, smoker: word, diag1: string,
       diag2: string}
    headers: {person: ["Patient-Nr."], kind: [Art]}
    optional: [smoker]
    sentinels: {bmi: ["-9"]}
    vocabularies: {kind: {INPATIENT: [stationär], OUTPATIENT: ["*ambulant*"]}}
    available: visit.ended
    icd: {code: [diag1, diag2], version: "9", kind: diagnosis}
    facts:
      admission:
        event: encounter
        code: "'HOSPITAL_ADMISSION//OTHER'"
        time: visit.admitted
        available: visit.admitted
        when: kind_category = 'INPATIENT'
      wide:
        event: concat_ws('|', encounter, column_name)
        code: "concat('CLINIC//', column_name)"
        unpivot: [bmi, days]
        value: column_value
        time: visit.ended
        when: kind_category = 'INPATIENT'
      words:
        event: concat_ws('|', encounter, column_name)
        code: "concat('CLINIC//', column_name, '//', column_text)"
        unpivot: [smoker]
        time: visit.ended
        when: kind_category = 'INPATIENT'
      diagnosis:
        event: concat_ws('|', encounter, column_name)
        code: column_text
        unpivot: [icd_diag1, icd_diag2]
        time: visit.ended
        available: visit.ended + {coding_delay}
        when: kind_category = 'INPATIENT'
  labs: # parts, in another format; a row names its encounter and nobody
    file: labs
    csv: {delimiter: ","}
    columns: {encounter: identifier, test: word, minutes: double, labno: string, result: double}
    headers: {result: [wert, value]}
    patient_through: {table: encounters, key: encounter}
    lookups: [named]
    available: "{origin} + make_dt_interval(0, 0, minutes + 30)"
    facts:
      lab:
        event: labno
        code: concat('LAB//', coalesce(named.long_name, test))
        value: result
        time: "{origin} + make_dt_interval(0, 0, minutes)"
  orders:
    file: orders
    columns: {person: identifier, drug: string}
    available: "{origin}"
"""

ENCOUNTERS = """Patient-Nr.;Encounter;Art;Days;BMI;Diag1;Diag2
1;11;station\xe4r;3;27.5;428.0;250
1;12;ambulant;0;27.5;V70.7;
2;21;station\xe4r;5;-9;38.9;
3;31;station\xe4r;2;obese;;
"""


def write(folder: Path) -> Path:
    (folder / "labs").mkdir(parents=True)
    (folder / "encounters.csv.gz").write_bytes(gzip.compress(ENCOUNTERS.encode("latin-1")))
    (folder / "labs" / "part-0.csv").write_text("encounter,test,minutes,labno,wert\n11,CREA,60,a,1.2\n")
    (folder / "labs" / "part-1.csv").write_text(
        "test,encounter,minutes,labno,value\nCREA,21,90,b,2.5\nCREA,99,1,c,1"
    )
    (folder / "tests.csv").write_text("test,title\nCREA,creatinine\n")
    (folder / "orders.csv").write_text("person;drug\n")
    return folder


class Clinic:
    """The clinic in a home of its own, as far as silver."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, text: str = CLINIC) -> None:
        self.settings = Settings(home=folder / "home")
        monkeypatch.setenv("MEDISCALE_HOME", str(self.settings.home))
        (folder / "clinic.yaml").write_text(text)
        self.source = sources.register(str(folder / "clinic.yaml"))
        self.extract = folder / "extract"

    def land(self, dataset: str = "clinic") -> bronze.Result:
        params = bronze.Params(
            source=self.source,
            dataset=dataset,
            path=str(self.extract),
            extract_digest=digest_of(str(self.extract), self.source),
            excluded=exclusions.fingerprint(self.settings, dataset),
        )
        return bronze.run(params, self.settings, "landed")

    def events(self, landed: bronze.Result) -> tuple[validate.Result, list[dict[str, Any]]]:
        shared: dict[str, Any] = {"source": self.source, "dataset": "clinic", "bronze": landed.bronze}
        judged = validate.run(validate.Params(**shared, max_quarantine_share=1), self.settings, "judged")
        laid = silver.run(silver.Params(**shared, facts=judged.facts, shards=2), self.settings, "laid")
        return judged, lake.read(self.settings, laid.events).to_pylist()


def test_what_the_files_say_comes_out_as_events(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clinic = Clinic(tmp_path, monkeypatch)
    write(clinic.extract)
    landed = clinic.land()
    assert (landed.empty, landed.rows) == (("orders",), 8)
    assert "orders" in landed.absent, "a header and no rows gives nothing that a task could need"
    judged, events = clinic.events(landed)
    origin = dt.datetime(2000, 1, 1)
    drawn = sorted(
        (row["code"], row["numeric_value"], row["time"] - origin, row["available_time"] - origin)
        for row in events
    )
    day, hour = dt.timedelta(days=1), dt.timedelta(hours=1)
    assert drawn == [
        ("CLINIC//bmi", 27.5, 3 * day, 3 * day),
        ("CLINIC//days", 2.0, 2 * day, 2 * day),
        ("CLINIC//days", 3.0, 3 * day, 3 * day),
        ("CLINIC//days", 5.0, 5 * day, 5 * day),
        ("HOSPITAL_ADMISSION//OTHER", None, 0 * day, 0 * day),
        ("HOSPITAL_ADMISSION//OTHER", None, 0 * day, 0 * day),
        ("HOSPITAL_ADMISSION//OTHER", None, 0 * day, 0 * day),
        ("ICD9CM//0389", None, 5 * day, 7 * day),
        ("ICD9CM//250", None, 3 * day, 5 * day),
        ("ICD9CM//4280", None, 3 * day, 5 * day),
        ("LAB//creatinine", 1.2, hour, 1.5 * hour),
        ("LAB//creatinine", 2.5, 1.5 * hour, 2 * hour),
    ]  # fmt: skip
    assert judged.reasons["value_readable"] == 1, "a body mass index in words; one of -9 is none"
    assert judged.reasons["subject_id_present"] == 1, "the laboratory's row of an encounter that is nobody's"
    by_code = {row["code"]: row["subject_id"] for row in events if row["numeric_value"] in (27.5, 1.2)}
    assert by_code["LAB//creatinine"] == by_code["CLINIC//bmi"]


@pytest.mark.parametrize(
    "people", [("\xc41", "\xdc1"), ("1.23E+11", "1.23E+11"), ("M\ufffdller", "M\ufffdller")]
)
def test_patients_whose_numbers_became_one_get_no_results_of_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, people: tuple[str, str]
) -> None:
    """In Latin-1, which the source does not say, both first numbers begin with a byte that UTF-8 does not have."""
    clinic = Clinic(tmp_path, monkeypatch, CLINIC.replace(", encoding: latin-1", ""))
    write(clinic.extract)
    rows = "".join(f"{person};{visit}1;stationär;3;27;;\n" for visit, person in enumerate(people, start=1))
    text = f"Patient-Nr.;Encounter;Art;Days;BMI;Diag1;Diag2\n{rows}"
    encoding = "latin-1" if "\xc41" in people else "utf-8"
    (clinic.extract / "encounters.csv.gz").write_bytes(gzip.compress(text.encode(encoding)))
    judged, events = clinic.events(clinic.land())
    assert judged.reasons["subject_listed"] >= 2, (
        "the two results of the laboratory, which name an encounter alone"
    )
    assert not [event for event in events if event["code"] == "LAB//creatinine"]


def test_an_erased_patient_does_not_come_back_through_a_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clinic = Clinic(tmp_path, monkeypatch)
    write(clinic.extract)
    exclusions.exclude(clinic.settings, "clinic-erasing", "1")  # lists outlive a home
    landed = clinic.land("clinic-erasing")
    kept = {
        name: sorted(lake.read(clinic.settings, landed.bronze[name])["encounter"].to_pylist())
        for name in ("encounters", "labs")
    }
    assert kept == {"encounters": ["21", "31"], "labs": ["21", "99"]}


def test_a_table_may_be_parquet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clinic = Clinic(tmp_path, monkeypatch)
    write(clinic.extract)
    for part in (clinic.extract / "labs").iterdir():
        part.unlink()
    columns = {"encounter": [11], "test": ["CREA"], "minutes": [60], "labno": ["a"], "value": [1.2]}
    parquet.write_table(pa.table(columns), clinic.extract / "labs" / "0.parquet")
    landed = lake.read(clinic.settings, clinic.land().bronze["labs"]).to_pylist()
    assert [(row["line"], row["encounter"], row["result"]) for row in landed] == [(1, "11", "1.2")]


def test_a_wrong_delimiter_and_a_missing_column_are_refused_by_what_to_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clinic = Clinic(tmp_path, monkeypatch, CLINIC.replace('delimiter: ";"', 'delimiter: "|"'))
    write(clinic.extract)
    with pytest.raises(InputError, match=r"encounters\.csv\.gz has one column alone.* under csv in the YAML"):
        clinic.land()
    clinic = Clinic(tmp_path, monkeypatch, CLINIC.replace("headers: {person: [", "headers: {person: [Nr, "))
    (clinic.extract / "encounters.csv.gz").write_bytes(
        gzip.compress(ENCOUNTERS.replace("BMI", "BM").encode("latin-1"))
    )
    with pytest.raises(
        InputError, match=r"no column bmi \(is it now called bm\?\).* under headers of the table"
    ):
        clinic.land()
    (clinic.extract / "encounters.csv.gz").write_bytes(
        gzip.compress(f"Export; of the 12th\n\n{ENCOUNTERS}".encode("latin-1"))
    )
    with pytest.raises(InputError, match=r"encounters\.csv\.gz has its header in line 3, below a title"):
        Clinic(tmp_path, monkeypatch).land()


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("if(test = 12, 'LAB//A', 'LAB//B')", "a text that is none (try_cast makes it null)"),
        ("concat('LAB//', int(minutes) * 2147483647)", "a number becomes too large"),
        ("concat('LAB//', dayname(minutes))", "none of the functions that expressions may use"),
    ],
)
def test_an_expression_that_can_t_be_computed_of_a_row_is_named_without_the_row_s_values(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, said: str
) -> None:
    write(tmp_path / "extract")
    text = CLINIC.replace("concat('LAB//', coalesce(named.long_name, test))", f'"{code}"')
    clinic = Clinic(tmp_path, monkeypatch, text)
    with pytest.raises(UsageError) as refused:
        clinic.events(clinic.land())
    assert said in str(refused.value)
    assert "tables.labs.facts.lab" in str(refused.value)
    assert "CREA" not in str(refused.value)


def test_an_item_is_the_same_whatever_its_case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sharp s has no capital of its own in Spark and Python, and one in the engine."""
    write(tmp_path / "extract")
    (tmp_path / "extract" / "labs" / "part-0.csv").write_text(
        "encounter,test,minutes,labno,wert\n11,K\xd6RPERGR\xd6SSE,60,a,80\n11,K\xf6rpergr\xf6\xdfe,90,b,81\n",
        encoding="latin-1",
    )
    text = CLINIC.replace(
        "lookups:\n  named",
        "concepts: {weight: [{items: [Körpergröße], units: {'': value}}]}\nlookups:\n  named",
    ).replace("code: concat('LAB//', coalesce(named.long_name, test))", "concept_of: test")
    text = text.replace(
        'csv: {delimiter: ","}\n    columns: {encounter',
        'csv: {delimiter: ",", encoding: latin-1}\n    columns: {encounter',
    )
    clinic = Clinic(tmp_path, monkeypatch, text.replace("test: word, minutes", "test: string, minutes"))
    _, events = clinic.events(clinic.land())
    assert sorted(e["numeric_value"] for e in events if e["source"] == "labs") == [80, 81]
