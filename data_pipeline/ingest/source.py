"""Source declarations: the layout of a hospital's extract and the mapping of its tables to events, as YAML.

Each source is one file in ``sources/``.

The grammar, in the order of the file (every expression is Spark SQL over the table's own columns, which have the types
declared under ``columns``; a value that cannot be read as its type is null there):

- ``zone``: the clock of times that are written without an offset, an IANA name. Events are in UTC.
- ``null_words``, ``not_measured``: what is written for nothing, and texts (``*`` stands for anything) that void the
  number beside them, such as the verbal coma score of a tube.
- ``assumptions``: delays that the extract does not record. ``{name}`` in an expression stands for the interval.
- ``subjects``, ``visits``: where patients and hospital visits are listed. Every row that names a visit sees it as
  ``visit.started`` (arrival, emergency department included), ``visit.admitted`` and ``visit.ended``.
- ``lookups``: further small tables, aggregated by one key; a table that lists a lookup sees its columns as
  ``lookup.column``.
- ``concepts``: which items of the source measure a concept of ``mediscale/core/concepts.py``, and per unit (lower case,
  ``""`` where none is written) the expression over ``value`` that converts to the concept's unit. A unit that is
  not listed sends the row to quarantine.
- ``treatments``: per group of ``mediscale.core.concepts.TREATMENTS`` the items, or a pattern of drug names.
- ``tables``: file (without extension, any case), columns that must be there, when a row was known (``available``), and
  the facts in a row, each with its own time; or the ``note`` that a row is. A table without either is landed in bronze
  and goes no further. ``vocabularies`` give the words of a column by category, which an expression sees as
  ``<column>_category``; ``intervals`` are columns of a start with those of its end; ``icd`` is where ICD codes stand,
  which an expression sees as ``icd``.

The types of columns, after which blanks and words for nothing are gone (``data_pipeline/ingest/typed_tables.py``):
``identifier`` (11.0 is 11), ``string``, ``word`` (upper case), ``result`` (a text that may be a number or a bound:
``<column>_number``, ``<column>_bound`` and ``<column>_void`` stand beside it), ``double`` (its text is
``raw_<column>``), ``date``, ``timestamp``, and ``text``, which is left as it is.
"""

from collections.abc import Collection
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import Field, ValidationError, field_validator, model_validator

from data_pipeline.ingest import parsing
from mediscale.core.annotations import Declaration
from mediscale.core.concepts import TREATMENTS, Provides, by_name
from mediscale.core.errors import InputError, UsageError
from mediscale.core.refs import Frozen

RESERVED_COLUMNS = frozenset({
    "bound", "code", "high", "icd", "interval_inverted", "item", "known", "low", "marked_error", "miscoded", "number",
    "numeric_value", "source_unit", "text_value", "time", "treatment", "uninformative", "unit", "unit_unknown",
    "unreadable", "untimely", "voided",
})  # fmt: skip
"""Columns that the compiled query adds to a fact; a column of the extract can't have these names."""

FOLDER = Path(__file__).parent / "sources"

ColumnType = Literal["identifier", "string", "word", "result", "double", "date", "timestamp", "text"]


class Assumption(Frozen):
    """A delay that the extract does not record; the evidence of every model trained on the source quotes it."""

    interval: str = Field(pattern=r"^\d+ (minutes|hours|days)$")
    because: str


class Subjects(Frozen):
    """The table that lists the patients, and its column of identifiers."""

    table: str
    id: str


class Visits(Frozen):
    """The table that lists the hospital visits, with its columns of identifiers and times."""

    table: str
    id: str
    started: str
    admitted: str
    ended: str


class Lookup(Frozen):
    """A small table, aggregated by one key, that other tables may refer to."""

    table: str
    key: str
    columns: dict[str, str]
    """SQL aggregates by the names under which other tables refer to them."""


class Measure(Frozen):
    """Items that measure a concept, and the conversion of each of their units to the concept's unit."""

    items: tuple[str, ...] = Field(min_length=1)
    units: dict[str, str] = Field(min_length=1)


class Treatment(Frozen):
    """The members of a treatment group: items by number, and drugs by a pattern of their lower-case names."""

    items: tuple[str, ...] = ()
    drugs: str = ""


class Fact(Frozen):
    """One fact that a row states, known at its own time. Exactly one of code, concept_of and treatment_of is given."""

    event: str
    """The natural key within the table, equal for an assertion and its corrections; it may use ``code, time, item``."""
    time: str
    available: str = ""
    """When it was known; the table's by default. The later of this and ``time`` is kept."""
    code: str = ""
    concept_of: str = ""
    """The item, which is looked up under ``concepts``; its number is ``value``, and a row without one is no fact."""
    otherwise: str = ""
    """The code of an item that no concept lists (it may use ``item``). By default such a row is not an event."""
    treatment_of: str = ""
    """The item or the drug's name, which is looked up under ``treatments``."""
    value: str = ""
    """The number: a column of type double, or an expression that needs ``written``."""
    result: str = ""
    """The column, of type result, with the text of the measurement: it says whether the number is one, a bound or void,
    and holds the number where ``value`` has none."""
    written: str = ""
    """The text that should hold that number, where it is not the column of ``value``."""
    unit: str = ""
    text: str = ""
    when: str = ""
    error: str = ""
    """True where the source marks the row as wrong."""
    void: str = ""
    """True where the row itself says that it did not happen, such as an order that ended before it began."""

    @model_validator(mode="after")
    def _one_code(self) -> Self:
        if sum(map(bool, (self.code, self.concept_of, self.treatment_of))) != 1:
            raise ValueError("a fact has exactly one of code, concept_of and treatment_of")
        if self.concept_of and not (self.value or self.result):
            raise ValueError("a fact with concept_of needs value or result")
        if self.value and not self.written and not self.value.isidentifier():
            raise ValueError("a fact whose value is an expression needs written, the text that it reads")
        return self


class NoteMapping(Frozen):
    """The mapping of a row to a clinical note, which stays in bronze until ``deidentify`` reads it."""

    id: str
    """The natural key within the table, equal for a note and its later versions."""
    time: str
    """When the note was charted."""
    text: str
    stored: str = ""
    """When the note was stored, where the extract records it; a note dated a day later than this is misdated."""
    error: str = "false"
    """Whether the hospital marked the note as written in error."""


class Icd(Frozen):
    """The columns of ICD codes and of their version; a number instead of a column is the version of all codes."""

    code: str
    version: str
    kind: parsing.IcdKind


class SourceTable(Frozen):
    """One table of an extract: its file, its columns, and the facts or the note in each row."""

    file: str
    required: bool = False
    provides: Provides | None = None
    """The kind of data that a task lacks where the table is absent."""
    columns: dict[str, ColumnType]
    available: str
    lookups: tuple[str, ...] = ()
    vocabularies: dict[str, dict[str, tuple[str, ...]]] = Field(default_factory=dict)
    """By column of type word, the words of each category; ``*`` stands for any characters."""
    intervals: dict[str, str] = Field(default_factory=dict)
    """Columns of a start with those of its end: a row that ends before it starts is quarantined."""
    icd: Icd | None = None
    facts: dict[str, Fact] = Field(default_factory=dict)
    note: NoteMapping | None = None

    @model_validator(mode="after")
    def _columns_have_types(self) -> Self:
        wanted: dict[str, tuple[tuple[ColumnType, ...], list[str]]] = {
            "vocabularies": (("word",), list(self.vocabularies)),
            "intervals": (("date", "timestamp"), [*self.intervals, *self.intervals.values()]),
            "icd.code": (("string",), [self.icd.code] if self.icd else []),
            "icd.version": (
                ("identifier",),
                [self.icd.version] if self.icd and not self.icd.version.isdigit() else [],
            ),
            "result": (("result",), [fact.result for fact in self.facts.values() if fact.result]),
        }
        for use, (kinds, columns) in wanted.items():
            if wrong := [column for column in columns if self.columns.get(column) not in kinds]:
                raise ValueError(f"{use} needs columns of type {' or '.join(kinds)}: {', '.join(wrong)}")
        return self


class Source(Frozen):
    """The declaration of one hospital's extract."""

    name: str
    description: str
    zone: str = ""
    """The clock of times without an offset; where it is not stated, ``clock`` names the assumption."""
    null_words: tuple[str, ...] = parsing.NULL_WORDS
    not_measured: tuple[str, ...] = ()
    assumptions: dict[str, Assumption] = Field(default_factory=dict)
    subjects: Subjects
    visits: Visits
    lookups: dict[str, Lookup] = Field(default_factory=dict)
    concepts: dict[str, tuple[Measure, ...]] = Field(default_factory=dict)
    treatments: dict[str, Treatment] = Field(default_factory=dict)
    tables: dict[str, SourceTable]

    @property
    def clock(self) -> str:
        """The zone of times without an offset."""
        return self.zone or "UTC"

    @property
    def assumption_sentences(self) -> tuple[str, ...]:
        """What the extract does not record and is assumed, for the evidence of a model."""
        delays = (f"{name} of {a.interval}: {a.because}" for name, a in self.assumptions.items())
        unstated = ("time zone UTC: the source states no zone, so times without an offset are taken as UTC.",)
        return (*delays, *(() if self.zone else unstated))

    @field_validator("zone")
    @classmethod
    def _zone_exists(cls, zone: str) -> str:
        if zone:
            parsing.check_zone(zone)
        return zone

    @model_validator(mode="after")
    def _names_exist(self) -> Self:
        wanted = {self.subjects.table, self.visits.table, *(lookup.table for lookup in self.lookups.values())}
        if unknown := wanted - self.tables.keys():
            raise ValueError(f"no such table here: {', '.join(sorted(unknown))}")
        if unknown := self.concepts.keys() - {concept.name for concept in by_name().values()}:
            raise ValueError(f"not in mediscale/core/concepts.py: {', '.join(sorted(unknown))}")
        if unknown := self.treatments.keys() - set(TREATMENTS):
            raise ValueError(f"no such treatment group: {', '.join(sorted(unknown))}")
        for name, table in self.tables.items():
            if unknown := set(table.lookups) - self.lookups.keys():
                raise ValueError(
                    f"table {name} uses lookups that are not declared: {', '.join(sorted(unknown))}"
                )
            if texts := self._unnumbered(table):
                raise ValueError(
                    f"table {name} reads numbers from columns that are not double: {', '.join(texts)}"
                )
            if table.facts and (taken := RESERVED_COLUMNS & table.columns.keys()):
                raise ValueError(
                    f"table {name} has columns whose names are taken: {', '.join(sorted(taken))}"
                )
            if table.facts and self.subjects.id not in table.columns:
                raise ValueError(f"table {name} has facts but no column {self.subjects.id}")
        return self

    def _unnumbered(self, table: SourceTable) -> list[str]:
        columns = [fact.value for fact in table.facts.values() if fact.value and not fact.written]
        return [column for column in columns if table.columns.get(column) != "double"]

    def lacks(self, present: Collection[str], *needs: Provides) -> tuple[str, ...]:
        """The files of tables that are not ``present``: of all tables, or of those that provide one of ``needs``."""
        return tuple(
            table.file
            for name, table in self.tables.items()
            if name not in present and (not needs or table.provides in needs)
        )


def names() -> tuple[str, ...]:
    """The names of the declared sources."""
    return tuple(sorted(path.stem.replace("_", "-") for path in FOLDER.glob("*.yaml")))


@cache
def load(name: str) -> Source:
    """Reads and validates a source's YAML by its name, ``mimic-iii``, or as its file is written, ``mimic_iii``.

    Raises:
        InputError: there is no such source.
        UsageError: its file breaks the grammar.
    """
    canonical = name.replace("_", "-")
    if canonical not in names():
        raise InputError(f"There is no source {name!r}; the sources are {', '.join(names())}.")
    return parse(canonical, (FOLDER / f"{canonical.replace('-', '_')}.yaml").read_text())


def parse(name: str, text: str) -> Source:
    """Parses and validates the YAML of a source.

    Raises:
        UsageError: the text breaks the grammar; the error names the place.
    """
    try:
        return Source.model_validate({"name": name, **_mapping(text)})
    except (ValidationError, yaml.YAMLError) as error:
        raise UsageError(
            f"The source {name} cannot be used: its YAML breaks the grammar: {_sentence(error)}."
        ) from error


def _mapping(text: str) -> dict[str, Any]:
    content = yaml.safe_load(text)
    return content if isinstance(content, dict) else {}


def _sentence(error: ValidationError | yaml.YAMLError) -> str:
    if isinstance(error, yaml.YAMLError):
        return " ".join(str(error).split())
    first = error.errors(include_input=False, include_url=False)[0]
    where = ".".join(map(str, first["loc"])) or "the file"
    return f"{where}: {first['msg'].removeprefix('Value error, ').lower()}"


def locate(source: Source, root: Path) -> dict[str, Path]:
    """The files of the extract by table, whatever their case, compressed or not.

    Raises:
        InputError: the directory or a required table is missing.
    """
    if not root.is_dir():
        raise InputError(
            f"There is no directory {root}; give the folder that holds the {source.name} extract."
        )
    files = {
        path.relative_to(root).as_posix().lower(): path
        for pattern in ("*.csv*", "*.CSV*", "*/*.csv*", "*/*.CSV*")
        for path in root.glob(pattern)
    }
    by_table = {
        name: files[table.file + suffix]
        for name, table in source.tables.items()
        for suffix in (".csv", ".csv.gz")
        if table.file + suffix in files
    }
    missing = [table.file for name, table in source.tables.items() if table.required and name not in by_table]
    if missing:
        raise InputError(
            f"{root} lacks {', '.join(f'{file}.csv.gz' for file in missing)}, which the source {source.name} requires;"
            " check the path, or that the extract was unpacked whole."
        )
    return by_table


def digest_of(path: str, source: str) -> str:
    """The SHA-256 digest of the extract's files that the source declares; a caller passes it as ``extract_digest``.

    Raises:
        InputError: there is no such source, or the directory or a required table is missing.
    """
    from concurrent.futures import ThreadPoolExecutor

    root = Path(path)
    files = sorted(locate(load(source), root).items())
    with ThreadPoolExecutor() as pool:
        digests = pool.map(file_digest, (file for _, file in files))
    return combined_digest({name: digest for (name, _), digest in zip(files, digests, strict=True)})


def file_digest(path: Path) -> str:
    import hashlib

    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def combined_digest(digests: dict[str, str]) -> str:
    """The SHA-256 digest of the tables' file digests, in order of the tables' names."""
    import hashlib

    return hashlib.sha256(
        "".join(f"{name} {digests[name]}\n" for name in sorted(digests)).encode()
    ).hexdigest()


SourceName = Annotated[str, Declaration(load)]
"""The name of a source; the parsed file is part of the key of a stage's call."""
