"""A hospital's records read by plain Python from its CSV files, for ``brute_force_cells.py``: no engine, no SQL.

What is declared is taken as declared: a source's YAML says which items measure a concept, how its units convert, what
is a drug of which group and which words are which category. How that is computed is written here a second time.
"""

import csv
import fnmatch
import gzip
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from data_pipeline.ingest import shared_mappings
from data_pipeline.ingest.source import FOLDER
from mediscale.core.concepts import by_name

NOTHING = {"", "NULL", "\\N", "NONE", "NA", "N/A", "NAN", ".", "-", "--", "?"}
NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]{1,3})?")
BOUND = re.compile(r"(<=?|LESS THAN|>=?|GREATER THAN) ?([0-9.]+)( ?[A-Z%][A-Z0-9%/*^.]*)?")
HOUR, DAY = timedelta(hours=1), timedelta(days=1)

Row = dict[str, str]


class Record(NamedTuple):
    """Something that a row states of a patient: ``what`` is a concept, a treatment group or a kind of event."""

    what: str
    time: datetime
    known: datetime
    value: float
    event: tuple[Any, ...]
    """Equal for a statement and its later corrections."""


@dataclass
class Hospital:
    """The records of each patient, by the number that the extract gives them."""

    records: dict[str, list[Record]] = field(default_factory=dict)

    def add(self, patient: str, what: str, time: datetime | None, known: datetime | None, event: tuple[Any, ...],
            value: float = 1.0) -> None:  # fmt: skip
        """Adds a record of a patient who is listed; what has no time is none."""
        if time is not None and known is not None and patient in self.records:
            self.records[patient].append(Record(what, time, max(time, known), value, event))


def rows(root: Path, file: str) -> Iterator[Row]:
    """The rows of a CSV file, headers in lower case and words for nothing empty; none where there is no file."""
    path = root / f"{file}.csv.gz"
    if not path.exists():
        return
    with gzip.open(path, "rt", encoding="utf-8", newline="") as text:
        for row in csv.DictReader(text):
            yield {
                (name or "").lower(): ""
                if (value or "").strip().upper() in NOTHING
                else (value or "").strip()
                for name, value in row.items()
            }


def moment(text: str) -> datetime | None:
    """A time, or the beginning of a day."""
    return datetime.fromisoformat(text.removesuffix("Z")) if text else None


def later(time: datetime | None, by: timedelta) -> datetime | None:
    return time + by if time else None


def number(text: str) -> float | None:
    return float(text) if NUMBER.fullmatch(text) else None


def category(word: str, lists: Mapping[str, list[str]]) -> str:
    """The category of a word by a vocabulary of the YAML: whole words before patterns."""
    for name, patterns in lists.items():
        if word.upper() in (pattern.upper() for pattern in patterns):
            return name
    for name, patterns in lists.items():
        if any("*" in p and fnmatch.fnmatchcase(word.upper(), p.upper()) for p in patterns):
            return name
    return "OTHER"


class Declared:
    """What the YAML of a source declares of items, units, drugs and words."""

    def __init__(self, name: str) -> None:
        self.content = self._read(FOLDER / f"{name.replace('-', '_')}.yaml")
        for mapping in self.content.get("extends", ()):
            for section, shared in self._read(shared_mappings.FOLDER / f"{mapping}.yaml").items():
                self.content[section] = shared | self.content.get(section, {})
        self.items = {
            str(item).upper(): (concept, measure["units"])
            for concept, measures in self.content["concepts"].items()
            for measure in measures
            for item in measure["items"]
        }
        self.void = [str(text).upper() for text in self.content.get("not_measured", ())]

    @staticmethod
    def _read(file: Path) -> dict[str, Any]:
        content: dict[str, Any] = yaml.safe_load(file.read_text("utf-8"))
        return content

    def words(self, table: str, column: str) -> Mapping[str, list[str]]:
        lists: Mapping[str, list[str]] = self.content["tables"][table]["vocabularies"][column]
        return lists

    def groups(self, drug_or_item: str) -> Iterator[str]:
        """The treatment groups of an item, or of a drug's name."""
        for group, content in self.content["treatments"].items():
            pattern = content.get("drugs", "")
            if drug_or_item in map(str, content.get("items", ())) or (
                pattern and re.search(pattern, drug_or_item.lower())
            ):
                yield group

    def measured(self, item: str, text: str, raw: str, unit: str) -> tuple[str, float] | None:
        """The concept that a row measures and its number in the concept's unit; None where the row is no measurement.

        ``text`` is the result as written, ``raw`` the number beside it.
        """
        if item.upper() not in self.items or any(_voids(text.upper(), v) for v in self.void):
            return None
        name, units = self.items[item.upper()]
        concept, bound = by_name()[name], BOUND.fullmatch(text.upper())
        value = float(bound[2]) if bound else number(raw) if number(raw) is not None else number(text)
        if value is None or unit.lower() not in units:
            return None
        value = conversion(units[unit.lower()])(value)
        if not concept.low <= value <= concept.high:
            return None
        if bound and not _telling(bound[1][0] in "<L", value, concept.normal):
            return None
        return name, value


def _voids(text: str, pattern: str) -> bool:
    """Whether a text is a pattern whose first word, where anything may stand before it, nothing denies."""
    denied = any(
        f"{word}{pattern.strip('*')}" in text for word in ("NOT ", "NO ", "NON-", "NEVER ", "WITHOUT ")
    )
    return fnmatch.fnmatchcase(text, pattern) and not (pattern.startswith("*") and denied)


def _telling(below: bool, value: float, normal: tuple[float, float] | None) -> bool:
    """Whether a bound says that the value is surely low, or surely high."""
    if normal is None:
        return False
    low, high = normal
    return value <= low or (low == 0 and value <= high) if below else value >= high


def conversion(sql: str) -> Callable[[float], float]:
    """A unit's conversion as a function: the few forms that the YAML files have."""
    if sql == "value":
        return lambda value: value
    if sql == "(value - 32) / 1.8":
        return lambda value: (value - 32) / 1.8
    if sql == "if(value <= 1, value * 100, value)":
        return lambda value: value * 100 if value <= 1 else value
    operation = re.fullmatch(r"value ([*/]) ([0-9.]+)", sql)
    assert operation, sql
    factor = float(operation[2])
    return (lambda value: value * factor) if operation[1] == "*" else (lambda value: value / factor)


class Mimic:
    """MIMIC-III and what is shaped like MIMIC-IV."""

    def __init__(self, root: Path, name: str) -> None:
        self.root, self.third, self.declared = root, name == "mimic-iii", Declared(name)
        self.hospital = Hospital()
        self.hosp, self.icu = ("", "") if self.third else ("hosp/", "icu/")
        self.owner: dict[str, str] = {}
        """By visit that can be used, its patient."""

    def read(self) -> Hospital:
        self._people()
        self._laboratory()
        self._bedside()
        self._given()
        self._prescribed()
        self._clinic()
        return self.hospital

    def _sound(self, row: Row) -> bool:
        """Whether the visit that a row names, if it names one, is listed as the patient's and in order."""
        visit = row.get("hadm_id", "")
        return not visit or self.owner.get(visit) == row["subject_id"]

    def _people(self) -> None:
        admissions = list(rows(self.root, f"{self.hosp}admissions"))
        first: dict[str, datetime] = {}
        for row in admissions:
            admitted = moment(row["admittime"])
            if admitted:
                first[row["subject_id"]] = min(first.get(row["subject_id"], admitted), admitted)
        for row in rows(self.root, f"{self.hosp}patients"):
            patient = row["subject_id"]
            self.hospital.records[patient] = []
            born = self._born(row, first.get(patient))
            self.hospital.add(patient, "birth", born, born, ("birth", patient))
            if row["gender"]:
                self.hospital.add(patient, "female" if row["gender"].upper().startswith("F") else "male", born, born,
                                  ("sex", patient))  # fmt: skip
        for row in admissions:
            self._admission(row)
        for row in rows(self.root, f"{self.icu}icustays"):
            key = row["icustay_id" if self.third else "stay_id"]
            begin, end = moment(row["intime"]), moment(row["outtime"])
            if self._sound(row) and not (begin and end and end < begin):
                self.hospital.add(row["subject_id"], "to_icu", begin, begin, ("to_icu", key))
                self.hospital.add(row["subject_id"], "from_icu", end, end, ("from_icu", key))

    def _born(self, row: Row, first: datetime | None) -> datetime | None:
        if not self.third:
            return datetime(int(float(row["anchor_year"])) - int(float(row["anchor_age"])), 7, 1)
        born = moment(row["dob"])
        if born and first and born.year < first.year - 200:
            months = first.year * 12 + first.month - 1 - (91 * 12 + 5)
            return first.replace(year=months // 12, month=months % 12 + 1)
        return born

    def _admission(self, row: Row) -> None:
        admitted, discharged = moment(row["admittime"]), moment(row["dischtime"])
        arrived = moment(row["edregtime"])
        if not admitted or (discharged and (discharged < admitted or (arrived and discharged < arrived))):
            return
        patient, visit = row["subject_id"], row["hadm_id"]
        self.owner[visit] = patient
        kind = category(row["admission_type"], self.declared.words("admissions", "admission_type"))
        self.hospital.add(patient, f"admission {kind}", admitted, admitted, ("admission", visit))
        inpatient = "" if kind in ("OBSERVATION", "NEWBORN") else " inpatient"
        self.hospital.add(patient, f"discharge{inpatient}", discharged, discharged, ("discharge", visit))

    def _measurement(self, row: Row, event: tuple[Any, ...], known: datetime | None) -> None:
        text = row.get("value", "")
        found = self.declared.measured(row["itemid"], text, row.get("valuenum", ""), row["valueuom"])
        if found and self._sound(row):
            concept, value = found
            if concept == "temperature" and "labevent" not in event[0]:
                event = ("chartevents", "temperature", row["subject_id"], row["charttime"])
            self.hospital.add(row["subject_id"], concept, moment(row["charttime"]), known, event, value)

    def _laboratory(self) -> None:
        for row in rows(self.root, f"{self.hosp}labevents"):
            drawn = moment(row["charttime"])
            known = moment(row.get("storetime", "")) or later(drawn, 2 * HOUR)
            self._measurement(row, ("labevents", row["row_id" if self.third else "labevent_id"]), known)

    def _bedside(self) -> None:
        for table in ("chartevents", "outputevents"):
            for row in rows(self.root, f"{self.icu}{table}"):
                if (row.get("error") or row.get("iserror", "")).upper() in ("1", "TRUE", "T", "YES", "Y"):
                    continue
                known = moment(row["storetime"]) or later(moment(row["charttime"]), HOUR)
                own = row["row_id"] if self.third else (row["itemid"], row["subject_id"], row["charttime"])
                self._measurement(row, (table, own), known)

    def _given(self) -> None:
        suffix = "_mv" if self.third else ""
        for table in (f"inputevents{suffix}", f"procedureevents{suffix}"):
            for row in rows(self.root, f"{self.icu}{table}"):
                begin, end, stored = (moment(row[c]) for c in ("starttime", "endtime", "storetime"))
                if row["statusdescription"].upper() == "REWRITTEN" or (begin and end and end < begin):
                    continue
                started = later(begin, HOUR)
                known = min(stored, started) if stored and started else stored or started
                own = row["row_id"] if self.third else (row["orderid"], row["itemid"], row["starttime"])
                self._treatment(row, row["itemid"], begin, known, (table, own))
        for row in rows(self.root, "inputevents_cv") if self.third else ():
            if (number(row["amount"]) or 0) > 0 or (number(row["rate"]) or 0) > 0:
                charted = moment(row["charttime"])
                known = moment(row["storetime"]) or later(charted, HOUR)
                self._treatment(row, row["itemid"], charted, known, ("inputevents_cv", row["row_id"]))

    def _treatment(self, row: Row, given: str, time: datetime | None, known: datetime | None,
                   event: tuple[Any, ...]) -> None:  # fmt: skip
        for group in self.declared.groups(given) if given and self._sound(row) else ():
            self.hospital.add(row["subject_id"], group, time, known, (*event, group))

    def _prescribed(self) -> None:
        begins, ends = ("startdate", "enddate") if self.third else ("starttime", "stoptime")
        for row in rows(self.root, f"{self.hosp}prescriptions"):
            begin, end = moment(row[begins]), moment(row[ends])
            if row["drug_type"].upper() == "MAIN" and begin and not (end and end < begin):
                known = begin + (DAY if self.third else HOUR)
                own = row["row_id"] if self.third else (row["pharmacy_id"], row["drug"], row["starttime"])
                self._treatment(row, row["drug"], begin, known, ("prescriptions", own))

    def _clinic(self) -> None:
        """Outpatient measurements of MIMIC-IV."""
        for row in rows(self.root, "hosp/omr"):
            day, name, text = moment(row["chartdate"]), row["result_name"], row["result_value"]
            pair = re.fullmatch(r"([0-9.]+) ?/ ?([0-9.]+)", text)
            results = [(name, text)]
            if pair:
                results = [(f"{name} systolic", pair[1]), (f"{name} diastolic", pair[2])]
            for item, result in results:
                found = self.declared.measured(item, result, "", "")
                if found:
                    event = ("omr", item, row["subject_id"], row["chartdate"], row["seq_num"])
                    self.hospital.add(row["subject_id"], found[0], day, later(day, DAY), event, found[1])


def synthea(root: Path) -> Hospital:
    """Synthea's CSV export."""
    hospital, declared = Hospital(), Declared("synthea")
    for row in rows(root, "patients"):
        patient, born = row["id"], datetime.combine(date.fromisoformat(row["birthdate"]), datetime.min.time())
        hospital.records[patient] = []
        hospital.add(patient, "birth", born, born, ("birth",))
        if row["gender"].upper() in ("F", "M"):
            hospital.add(patient, "female" if row["gender"].upper() == "F" else "male", born, born, ("sex",))
    stays = declared.words("encounters", "encounterclass")
    broken = set()
    for row in rows(root, "encounters"):
        kind, begin, end = category(row["encounterclass"], stays), moment(row["start"]), moment(row["stop"])
        if begin and end and end < begin:
            broken.add(row["id"])
        elif kind != "OTHER":
            named = "OTHER" if kind == "INPATIENT" else "OBSERVATION"
            hospital.add(row["patient"], f"admission {named}", begin, begin, ("admission", row["id"]))
            inpatient = " inpatient" if kind == "INPATIENT" else ""
            hospital.add(row["patient"], f"discharge{inpatient}", end, end, ("discharge", row["id"]))
    for row in rows(root, "observations"):
        found = declared.measured(row["code"], row["value"], "", row["units"])
        if found and row["type"].upper() == "NUMERIC" and row["encounter"] not in broken:
            event = ("observations", row["encounter"], row["date"], row["code"], row["value"])
            drawn = moment(row["date"])
            hospital.add(row["patient"], found[0], drawn, later(drawn, 2 * HOUR), event, found[1])
    for row in rows(root, "medications"):
        for group in declared.groups(row["description"]):
            begin = moment(row["start"])
            event = ("medications", row["encounter"], row["code"], row["start"], group)
            hospital.add(row["patient"], group, begin, begin, event)
    return hospital


READERS: Mapping[str, Callable[[Path], Hospital]] = {
    "mimic-iii": lambda root: Mimic(root, "mimic-iii").read(),
    "mimic-iv": lambda root: Mimic(root, "mimic-iv").read(),
    "synthea": synthea,
}
"""By source."""
