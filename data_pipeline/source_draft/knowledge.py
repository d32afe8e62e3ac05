"""Knowledge before an extract is seen: names (``names.yaml``), and codes, units and drugs of shipped sources."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from data_pipeline.ingest import source as sources
from data_pipeline.ingest.source import Source
from mediscale.core.concepts import CONCEPTS, Concept, by_name


@cache
def names() -> dict[str, Any]:
    """The content of ``names.yaml``."""
    text = Path(__file__).with_name("names.yaml").read_text("utf-8")
    content: dict[str, Any] = yaml.load(text, yaml.CSafeLoader)
    return content


def is_called(role: str, name: str) -> bool:
    """Whether a header, as words, is one of a role's names.

    >>> is_called("patient", "subject id"), is_called("known", "storetime"), is_called("patient", "dod")
    (True, True, False)
    """
    return re.search(names()["columns"][role], name) is not None


def is_kind(kind: str, name: str) -> bool:
    """Whether a table of that name is of a kind."""
    return re.search(names()["kinds"][kind], name.replace("_", " ")) is not None


def category(role: str, word: str) -> str:
    """The category of a word of a role's column; empty where no pattern has it.

    >>> category("discharge_to", "SKILLED NURSING FACILITY"), category("sex", "w"), category("sex", "x")
    ('FACILITY', 'F', '')
    """
    lists: dict[str, str] = names()["words"][role]
    return next((name for name, pattern in lists.items() if re.search(pattern, word.lower())), "")


def usual(concept: Concept) -> tuple[float, float]:
    """Where the median of many patients' values lies: wide around what is usual in the healthy."""
    stated = names()["usual"].get(concept.name)
    if stated:
        return (stated[0], stated[1])
    if concept.normal is None:
        return (concept.low, concept.high)
    low, high = concept.normal
    return (low * 0.4, high * (2.5 if low else 6))  # what is nothing in the healthy is measured in the sick


@dataclass(frozen=True)
class Shipped:
    """The codes, units and drugs of all shipped sources."""

    concept_of: Mapping[str, str]
    """By item, upper case, the concept that it measures."""
    units: Mapping[str, Mapping[str, str]]
    """By concept and unit, the expression that converts."""
    drugs: Mapping[str, str]
    """By treatment group, the pattern of its drugs' names."""

    def is_of_another(self, unit: str, concept: str) -> bool:
        """Whether a unit is known, and not as one of the concept's."""
        return unit not in self.units.get(concept, ()) and any(unit in of for of in self.units.values())


def shipped(hidden: Collection[str] = ()) -> Shipped:
    """The knowledge of the shipped sources, without those that are hidden."""
    loaded = [sources.load(name) for name in sources.names() if name not in hidden]
    concept_of = {concept.loinc: concept.name for concept in CONCEPTS}
    units: dict[str, dict[str, str]] = {}
    drugs: dict[str, str] = {}
    for name, listed in names()["units"].items():
        units[name] = dict(listed)
    for source in loaded:
        for name, measures in source.concepts.items():
            for measure in measures:
                concept_of |= {item.upper(): name for item in measure.items}
                for unit, sql in measure.units.items():
                    if unit and not sql.startswith("if("):
                        units.setdefault(name, {}).setdefault(unit, sql)
        for group, treatment in source.treatments.items():
            if treatment.drugs and len(treatment.drugs) > len(drugs.get(group, "")):
                drugs[group] = treatment.drugs
    return Shipped(concept_of, units, drugs)


def concepts_called(label: str) -> list[Concept]:
    """The concepts whose pattern a label fits.

    >>> [c.name for c in concepts_called("Non Invasive Blood Pressure systolic")]
    ['systolic_blood_pressure']
    >>> concepts_called("Heart Rate Alarm - Low")
    []
    """
    plain = re.sub(r"[_,;]+", " ", label.lower()).strip()
    plain = re.sub(r"\s+", " ", plain)
    if re.search(names()["not_a_measurement"], plain):
        return []
    exact = by_name().get(plain.replace(" ", "_"))
    if exact is not None and exact.name.startswith(plain[:2]):
        return [exact]
    return [by_name()[name] for name, pattern in names()["concepts"].items() if re.search(pattern, plain)]


def recognised(
    tables: Mapping[str, Collection[str]], hidden: Collection[str] = ()
) -> dict[str, dict[str, tuple[str, ...]]]:
    """The shipped sources whose tables of patients and visits are there: by name, the columns that tables whose file is
    there lack.

    ``tables`` are headers by the file that a table is read from.
    """
    matches = {}
    for name in sources.names():
        if name in hidden:
            continue
        lacking = _lacking_columns(sources.load(name), tables)
        if lacking is not None:
            matches[name] = lacking
    return matches


def _lacking_columns(
    source: Source, tables: Mapping[str, Collection[str]]
) -> dict[str, tuple[str, ...]] | None:
    """The columns that the files lack, by table; nothing where a required table is not there whole."""
    import fnmatch

    fitting: set[str] = set()
    lacking = {}
    for name, table in source.tables.items():
        files = [f for f in tables if f == table.file.lower() or fnmatch.fnmatchcase(f, table.file.lower())]
        if not files:
            continue
        there = {header for file in files for header in tables[file]}
        if table.paths:  # of nested records, the name of the file and of what numbers them
            if "resourcetype" in there:
                fitting.add(name)
            continue
        missing = tuple(
            column
            for column in table.columns
            if column not in table.optional
            and not there & {column, *(h.lower() for h in table.headers.get(column, ()))}
        )
        if missing:
            lacking[name] = missing
        else:
            fitting.add(name)
    required = {name for name, table in source.tables.items() if table.required}
    return lacking if required <= fitting else None
