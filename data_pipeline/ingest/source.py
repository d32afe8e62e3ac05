"""Source declarations: the layout of a hospital's extract and the mapping of its tables to events, as YAML.

Each source is one file: in ``sources/``, or a hospital's own, which a home keeps
(``mediscale.core.declaration_files``).

The grammar, in the order of the file (every expression is Spark SQL over the table's own columns, which have the types
declared under ``columns``; a value that cannot be read as its type is null there; the functions are those of
``data_pipeline/ingest/spark_functions.py``):

- ``csv``: delimiter, quote, encoding and decimal sign of text files, where they are not comma, double quote, UTF-8 and
  point.
- ``zone``: the clock of times that are written without an offset, an IANA name. Events are in UTC.
- ``clock: relative``: the extract has no calendar. Expressions then count from ``{origin}``, a time that stands for
  nothing and is the same for every visit. What compares visits (readmission, earlier visits) or needs a calendar
  (``as_of``) is then refused.
- ``complete``: each extract has every row, so what a later one lacks is retracted. Without it such rows stay.
- ``null_words``, ``not_measured``: what is written for nothing, and texts (``*`` stands for anything; the word
  after it is a whole one that no "not" denies) that void the number beside them, as the verbal coma score of a tube.
- ``assumptions``: delays that the extract does not record. ``{name}`` in an expression stands for the interval.
- ``subjects``, ``visits``: where patients and hospital visits are listed; rows without the visit's number, or that
  ``when`` leaves out, list none. Every row that names a visit sees it as ``visit.started`` (arrival, emergency
  department included), ``visit.admitted`` and ``visit.ended``.
- ``lookups``: further small tables, aggregated by one key; a table that lists a lookup, by the key or with an
  expression of its own for it, sees its columns as ``lookup.column``; of a table that the extract lacks they are null.
- ``extends``: shared mappings by name (``data_pipeline/ingest/shared_mappings.py``): ``loinc`` has concepts by LOINC
  code, ``drug_names`` the treatment groups by names of drugs. What the file lists itself stands in place of theirs.
- ``concepts``: which items of the source measure a concept of ``mediscale/core/concepts.py``, and per unit (lower case,
  ``""`` where none is written) the expression over ``value`` that converts to the concept's unit. A unit that is
  not listed sends the row to quarantine.
- ``treatments``: per group of ``mediscale.core.concepts.TREATMENTS`` the items, or a pattern of drug names.
- ``tables``: file (without extension, any case; CSV, Parquet, or NDJSON with the ``paths`` of its columns; a folder of
  parts, ``*`` for several files), columns that must be there, when a row was known (``available``), and the facts in a
  row, each with its own time; or the ``note`` that a row is. A table without either is landed in bronze and goes no
  further. ``headers`` are other names under which extracts have a column, ``optional`` the columns that may be missing,
  ``sentinels`` what stands for nothing in a column, ``formats`` how its times are written; ``patient_through`` is the
  table that knows whose a row is, where the row does not. ``vocabularies`` give the words of a column by category,
  which an expression sees as ``<column>_category``; ``intervals`` are columns of a start with those of its end;
  ``icd`` is where ICD codes stand, which an expression sees as ``icd`` (``icd_<column>`` where there are several).
- A fact with ``unpivot`` is one fact of each of these columns in which a row has something: its expressions see
  ``column_name``, ``column_text`` and, of a column of type double, ``column_value``.

The types of columns, after which blanks and words for nothing are gone (``data_pipeline/ingest/typed_tables.py``):
``identifier`` (11.0 is 11), ``string``, ``word`` (upper case), ``result`` (a text that may be a number or a bound:
``<column>_number``, ``<column>_bound``, ``<column>_unit`` and ``<column>_void`` stand beside it), ``double`` (its text
is ``raw_<column>``), ``date``, ``timestamp``, and ``text``, which is left as it is.
"""

import re
from collections.abc import Collection
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import Field, ValidationError, field_validator, model_validator

from data_pipeline.ingest import parsing, shared_mappings, timestamps
from data_pipeline.ingest.shared_mappings import MappingName, Measure, Treatment
from data_pipeline.ingest.source_tables import RESERVED_COLUMNS, Csv, PatientThrough, SourceTable
from mediscale.core import declaration_errors, declaration_files, yaml_text
from mediscale.core.annotations import Declaration
from mediscale.core.concepts import TREATMENTS, Provides, by_name
from mediscale.core.errors import InputError, UsageError
from mediscale.core.refs import Frozen

FOLDER = Path(__file__).parent / "sources"

_CHANGING = re.compile(
    r"\b(?:now|randn?|random|uuid|curdate|row_number|monotonically_increasing_id|current_[a-z]+|localtimestamp)\s*\("
    r"|\bcurrent_(?:date|time|timestamp)\b",
    re.IGNORECASE,
)
"""Functions of Spark whose value is not that of the row: the same extract would give other events."""
ORIGIN = "timestamp_ntz'2000-01-01 00:00:00'"
"""What ``{origin}`` stands for in a source without a calendar."""
_TIME_OF_TEXT = re.compile(
    r"\b(to_timestamp\w*|make_timestamp\w*|timestamp)\s*\(|(?<!null )\bas\s+timestamp", re.IGNORECASE
)
"""What makes a time without regard to the source's zone. A literal, ``timestamp'1900-01-01'``, is one in UTC."""


class Assumption(Frozen):
    """A delay that the extract does not record; the evidence of every model trained on the source quotes it."""

    interval: str = Field(pattern=r"^[0-9]{1,5} (minute|hour|day)s?$")
    because: str = Field(min_length=1)


class Subjects(Frozen):
    """The table that lists the patients, and its column of identifiers."""

    table: str
    id: str


class Visits(Frozen):
    """The table that lists the hospital visits, with its column of identifiers and the expressions of their times.

    A visit may be listed in several rows: each time is then the latest of theirs.
    """

    table: str
    id: str
    when: str = ""
    """The rows that list a visit; by default all that have its number."""
    started: str
    admitted: str
    ended: str


class Lookup(Frozen):
    """A small table, aggregated by one key, that other tables may refer to."""

    table: str
    key: str
    columns: dict[str, str]
    """SQL aggregates by the names under which other tables refer to them."""


class Source(Frozen):
    """The declaration of one hospital's extract."""

    name: str
    description: str
    csv: Csv = Csv()
    zone: str = ""
    """The clock of times without an offset; where it is not stated, an assumption names it."""
    clock: Literal["calendar", "relative"] = "calendar"
    complete: bool = False
    """Whether each extract has every row: what a later one lacks was withdrawn by the hospital, and is retracted."""
    null_words: tuple[str, ...] = parsing.NULL_WORDS
    not_measured: tuple[str, ...] = ()
    assumptions: dict[str, Assumption] = Field(default_factory=dict)
    subjects: Subjects
    visits: Visits
    lookups: dict[str, Lookup] = Field(default_factory=dict)
    extends: tuple[MappingName, ...] = Field((), exclude=True)
    """Shared mappings; of a concept or treatment that the file lists itself they are not taken."""
    concepts: dict[str, tuple[Measure, ...]] = Field(default_factory=dict)
    treatments: dict[str, Treatment] = Field(default_factory=dict)
    tables: dict[str, SourceTable]

    @model_validator(mode="before")
    @classmethod
    def _with_shared_mappings(cls, content: Any) -> Any:
        return (
            declaration_files.extended(shared_mappings.FOLDER, content)
            if isinstance(content, dict)
            else content
        )

    @property
    def wall_clock(self) -> str:
        """The zone of times without an offset."""
        return self.zone or "UTC"

    @property
    def intervals(self) -> dict[str, str]:
        """What ``{name}`` stands for in an expression, by name."""
        assumed = {name: f"interval {assumption.interval}" for name, assumption in self.assumptions.items()}
        return assumed | ({"origin": ORIGIN} if self.clock == "relative" else {})

    @property
    def assumption_sentences(self) -> tuple[str, ...]:
        """What the extract does not record and is assumed, for the evidence of a model."""
        delays = (f"{name} of {a.interval}: {a.because}" for name, a in self.assumptions.items())
        unstated = ("time zone UTC: the source states no zone, so times without an offset are taken as UTC.",)
        invented = (
            "no calendar: the source has times within a visit alone, so nothing is said of the order of visits.",
        )
        if self.clock == "relative":
            return (*delays, *invented)
        return (*delays, *(() if self.zone else unstated))

    @field_validator("zone")
    @classmethod
    def _zone_exists(cls, zone: str) -> str:
        if zone:
            timestamps.check_zone(zone)
        return zone

    @model_validator(mode="after")
    def _names_exist(self) -> Self:
        named = {self.subjects.table, self.visits.table, *(lookup.table for lookup in self.lookups.values())}
        if unknown := named - self.tables.keys():
            raise ValueError(f"no such table here: {', '.join(sorted(unknown))}")
        if unknown := self.concepts.keys() - {concept.name for concept in by_name().values()}:
            raise ValueError(f"not in mediscale/core/concepts.py: {', '.join(sorted(unknown))}")
        if unknown := self.treatments.keys() - set(TREATMENTS):
            raise ValueError(f"no such treatment group: {', '.join(sorted(unknown))}")
        for name, lookup in self.lookups.items():
            if reserved := RESERVED_COLUMNS & {name, *lookup.columns}:
                raise ValueError(f"lookup {name} has names that are taken: {', '.join(sorted(reserved))}")
        for name, table in self.tables.items():
            self._check_table(name, table)
        return self

    def _check_table(self, name: str, table: SourceTable) -> None:
        if unknown := table.lookups.keys() - self.lookups.keys():
            raise ValueError(f"table {name} uses lookups that are not declared: {', '.join(sorted(unknown))}")
        values = [fact.value for fact in table.facts.values() if not fact.written]
        if texts := [v for v in values if v not in ("", "column_value") and table.columns.get(v) != "double"]:
            raise ValueError(
                f"table {name} reads numbers from columns that are not double: {', '.join(texts)}"
            )
        if table.facts and (reserved := RESERVED_COLUMNS & table.columns.keys()):
            raise ValueError(f"table {name} has columns whose names are taken: {', '.join(sorted(reserved))}")
        through = table.patient_through
        if table.facts and self.subjects.id not in table.columns and through is None:
            raise ValueError(f"table {name} has facts but no column {self.subjects.id}")
        if through is not None:
            self._check_through(name, table, through)

    def _check_through(self, name: str, table: SourceTable, through: PatientThrough) -> None:
        owner = self.tables.get(through.table)
        if owner is None or not {through.key, self.subjects.id} <= owner.columns.keys():
            raise ValueError(
                f"table {name} has its patients through {through.table}, which is no table with the columns "
                f"{through.key} and {self.subjects.id}"
            )
        if self.subjects.id in table.columns or through.key not in table.columns:
            raise ValueError(
                f"table {name} has its patients through {through.table}: it needs the column {through.key} and can't "
                f"have {self.subjects.id}"
            )

    @model_validator(mode="after")
    def _items_are_listed_once(self) -> Self:
        concept_of: dict[str, str] = {}
        for concept, measures in self.concepts.items():
            for measure in measures:
                if len({unit.strip().lower() for unit in measure.units}) < len(measure.units):
                    raise ValueError(f"{concept} has two conversions of one unit, whatever the case")
                for item in measure.items:
                    if item.strip().upper() in self.null_words:
                        raise ValueError(
                            f"the item {item} of {concept} is a word for nothing, so that no row would have it; list "
                            "null_words without it"
                        )
                    if other := concept_of.get(item.strip().lower()):
                        raise ValueError(f"the item {item} of {concept} is listed before, under {other}")
                    concept_of[item.strip().lower()] = concept
        return self

    @model_validator(mode="after")
    def _placeholders_exist(self) -> Self:
        expressions = " ".join(
            str(value)
            for table in self.tables.values()
            for part in (table, *table.facts.values(), *([table.note] if table.note else []))
            for value in part.model_dump(exclude={"facts", "note"}).values()
        )
        expressions += " ".join(map(str, self.visits.model_dump().values()))
        conversions = " ".join(
            conversion
            for measures in self.concepts.values()
            for measure in measures
            for conversion in measure.units.values()
        )
        if changing := _CHANGING.search(f"{expressions} {conversions}"):
            raise ValueError(
                f"an expression uses {changing[0].strip(' (')}, which says something else each time; use columns alone"
            )
        if self.wall_clock != "UTC" and (read := _TIME_OF_TEXT.search(expressions)):
            raise ValueError(
                f"an expression makes a time of texts ({read[0].strip(' (').lower()}), which would be one in UTC and "
                f"not in {self.zone}; let the extract write date and time in one column, whose type is timestamp"
            )
        if unknown := set(re.findall(r"\{([a-z_]+)\}", expressions)) - self.intervals.keys():
            raise ValueError(
                f"expressions use {{{'}, {'.join(sorted(unknown))}}}, which assumptions do not declare"
                + (" ({origin} needs clock: relative)" if "origin" in unknown else "")
            )
        return self

    def lacks(self, present: Collection[str], *needs: Provides) -> tuple[str, ...]:
        """The files of tables that are not ``present``: of all tables, or of those that provide one of ``needs``."""
        return tuple(
            table.file
            for name, table in self.tables.items()
            if name not in present and (not needs or table.provides in needs)
        )


def names() -> tuple[str, ...]:
    """The names of the shipped sources."""
    return tuple(sorted(_canonical(path.stem) for path in FOLDER.glob("*.yaml")))


def _canonical(name: str) -> str:
    return name.replace("_", "-")


def load(name: str) -> Source:
    """The source of that name, ``mimic-iii``, or as its file is written, ``mimic_iii``; read once.

    Raises:
        InputError: there is no such source.
        UsageError: its file breaks the grammar.
    """
    canonical = _canonical(name)
    own = declaration_files.home_folder("source")
    for file in (FOLDER / f"{canonical.replace('-', '_')}.yaml", own / f"{canonical}.yaml"):
        if file.exists():
            return _parse_file(canonical, file)
    kept = sorted(path.stem for path in own.glob("*.yaml"))
    raise InputError(
        f"There is no source {name!r}; the sources are {', '.join((*names(), *kept))}. Of a layout of your own, give "
        "the YAML file."
    )


@cache
def _parse_file(name: str, file: Path) -> Source:
    return parse(name, file.read_text(encoding="utf-8"))


def read(name_or_file: str) -> tuple[Source, str]:
    """The source that a person gives by its name or as a file of their own, and that file's text (empty for a name).

    Raises:
        UsageError: the file breaks the grammar, or a shipped source has its name.
        InputError: there is no such source, or the file can't be read.
    """
    if not declaration_files.is_file(name_or_file):
        return load(name_or_file), ""
    path = Path(name_or_file)
    stem, text = declaration_files.read("source", path)
    name = _canonical(stem)
    if name in names() and path.resolve().parent != FOLDER:
        raise UsageError(f"A shipped source is called {name}; give {path.name} another name.")
    return parse(name, text), "" if name in names() else text


def register(name_or_file: str) -> str:
    """The name of a source that a person gives by its name or as a file of their own, which the home then keeps.

    Raises what ``read`` does.
    """
    source, text = read(name_or_file)
    if text:
        declaration_files.save_copy("source", source.name, text)
        _parse_file.cache_clear()
    return source.name


def parse(name: str, text: str) -> Source:
    """Parses and validates the YAML of a source.

    Raises:
        UsageError: the text breaks the grammar; the error names the line and the place.
    """
    try:
        content = yaml_text.content(text)
        return Source.model_validate({"name": name, **(content if isinstance(content, dict) else {})})
    except (ValidationError, yaml.YAMLError) as error:
        sentence = declaration_errors.sentence(error, text, Source)
        raise UsageError(
            f"The source {name} cannot be used: its YAML breaks the grammar: {sentence}."
        ) from error


SourceName = Annotated[str, Declaration(load)]
"""The name of a source; the parsed file is part of the key of a stage's call."""
