"""Tables of a source's declaration: the files, the columns, and the facts or the note that a row states.

The grammar is in ``data_pipeline/ingest/source.py``.
"""

import codecs
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from data_pipeline.ingest import ndjson, parsing, timestamps
from mediscale.core.concepts import Provides
from mediscale.core.refs import Frozen

RESERVED_COLUMNS = frozenset({
    "between_steps", "bound", "code", "column_name", "column_text", "column_unit", "column_value", "conversion", "high",
    "icd", "interval_inverted", "item", "known", "low", "marked_error", "miscoded", "number", "numeric_value",
    "own_code", "rounded", "subject_pseudonym", "text_value", "through_key", "time", "treated", "treatment",
    "uninformative", "unit", "unit_of_text", "unit_unknown", "unreadable", "untimely", "visit_pseudonym", "voided",
})  # fmt: skip
"""Columns that the compiled query adds to a fact; a column of the extract can't have these names."""

ColumnType = Literal["identifier", "string", "word", "result", "double", "date", "timestamp", "text"]


class Csv(Frozen):
    """How text files are written."""

    delimiter: str = Field(",", min_length=1, max_length=1)
    quote: str = Field('"', max_length=1)
    """Around texts that hold the delimiter, doubled within; empty where the extract quotes nothing."""
    encoding: str = "utf-8"
    decimal: Literal[".", ","] = "."
    """What stands before a number's fraction; with a comma, what has a point is no number."""

    @model_validator(mode="after")
    def _signs_differ(self) -> Self:
        if self.delimiter == self.quote:
            raise ValueError("delimiter and quote are the same sign")
        return self

    @field_validator("encoding")
    @classmethod
    def _encoding_exists(cls, encoding: str) -> str:
        try:
            "a".encode(encoding)  # which codecs of other things than texts refuse
            return codecs.lookup(encoding).name
        except (LookupError, UnicodeError):
            raise ValueError(f"no encoding is called {encoding}") from None


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
    unpivot: tuple[str, ...] = ()
    """Columns of a wide table: the row states a fact for each that has something in it."""
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
        if self.value == "column_value" and not self.unpivot:
            raise ValueError("a fact whose value is column_value needs unpivot")
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


class PatientThrough(Frozen):
    """The table whose rows say whose a key is, for rows that name the key and no patient."""

    table: str
    key: str


class Icd(Frozen):
    """The columns of ICD codes and of their version; a number instead of a column is the version of all codes."""

    code: tuple[str, ...] = Field(min_length=1)
    version: str
    kind: parsing.IcdKind

    @field_validator("code", mode="before")
    @classmethod
    def _one_column(cls, code: object) -> object:
        return (code,) if isinstance(code, str) else code

    @property
    def typed_names(self) -> dict[str, str]:
        """The typed column with the normal spelling of the codes, by the column that has them."""
        return {code: "icd" if len(self.code) == 1 else f"icd_{code}" for code in self.code}


class SourceTable(Frozen):
    """One table of an extract: its file, its columns, and the facts or the note in each row."""

    file: str = Field(pattern=r"^[^/].*$")
    required: bool = False
    provides: Provides | None = None
    """The kind of data that a task lacks where the table is absent."""
    csv: Csv | None = None
    """Of this table's files, where they are written differently from the others."""
    columns: dict[str, ColumnType]
    paths: dict[str, str] = Field(default_factory=dict)
    """Of NDJSON files, by column where it stands in a record (``data_pipeline/ingest/ndjson.py``)."""
    headers: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    """By column, other names that extracts give it, in any case; the first that is there is taken."""
    optional: tuple[str, ...] = ()
    """Columns that an extract may lack; they are empty then."""
    sentinels: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    """By column, what is written in it for nothing, such as ``-999``."""
    formats: dict[str, str] = Field(default_factory=dict)
    """By column of times, how they are written where it is not as in ISO 8601: ``dd.MM.yyyy HH:mm``."""
    patient_through: PatientThrough | None = None
    available: str
    lookups: dict[str, str] = Field(default_factory=dict)
    """By lookup, the expression whose value is looked up; empty for the column of the same name as its key."""
    vocabularies: dict[str, dict[str, tuple[str, ...]]] = Field(default_factory=dict)
    """By column of type word, the words of each category; ``*`` stands for any characters."""
    intervals: dict[str, str] = Field(default_factory=dict)
    """Columns of a start with those of its end: a row that ends before it starts, or over ten years later, is
    quarantined."""
    icd: Icd | None = None
    facts: dict[str, Fact] = Field(default_factory=dict)
    note: NoteMapping | None = None

    @field_validator("formats")
    @classmethod
    def _formats_are_of_times(cls, formats: dict[str, str]) -> dict[str, str]:
        for time_format in formats.values():
            timestamps.time_pattern(time_format)
        return formats

    @field_validator("file")
    @classmethod
    def _within_the_extract(cls, file: str) -> str:
        if ".." in file.split("/"):
            raise ValueError("a file lies within the extract's folder")
        return file

    @field_validator("vocabularies")
    @classmethod
    def _words_have_one_category(
        cls, vocabularies: dict[str, dict[str, tuple[str, ...]]]
    ) -> dict[str, dict[str, tuple[str, ...]]]:
        for column, categories in vocabularies.items():
            words = [word.strip().upper() for listed in categories.values() for word in set(listed)]
            if twice := sorted({word for word in words if words.count(word) > 1}):
                raise ValueError(f"words of {column} are listed under two categories: {', '.join(twice)}")
        return vocabularies

    @field_validator("lookups", mode="before")
    @classmethod
    def _by_their_keys(cls, lookups: object) -> object:
        return dict.fromkeys(lookups, "") if isinstance(lookups, list) else lookups

    @model_validator(mode="after")
    def _columns_have_types(self) -> Self:
        by_use: dict[str, tuple[tuple[ColumnType, ...], list[str]]] = {
            "vocabularies": (("word",), list(self.vocabularies)),
            "intervals": (("date", "timestamp"), [*self.intervals, *self.intervals.values()]),
            "icd.code": (("string",), list(self.icd.code) if self.icd else []),
            "icd.version": (
                ("identifier",),
                [self.icd.version] if self.icd and not self.icd.version.isdigit() else [],
            ),
            "formats": (("date", "timestamp"), list(self.formats)),
            "result": (("result",), [fact.result for fact in self.facts.values() if fact.result]),
        }
        for use, (kinds, columns) in by_use.items():
            if wrong := [column for column in columns if self.columns.get(column) not in kinds]:
                raise ValueError(f"{use} needs columns of type {' or '.join(kinds)}: {', '.join(wrong)}")
        for use, names in (
            ("headers", self.headers),
            ("optional", self.optional),
            ("sentinels", self.sentinels),
        ):
            if undeclared := set(names) - self.columns.keys():
                raise ValueError(
                    f"{use} names columns that are not declared: {', '.join(sorted(undeclared))}"
                )
        return self

    @model_validator(mode="after")
    def _paths_are_of_columns(self) -> Self:
        for path in self.paths.values():
            ndjson.steps(path)
        if self.paths and (without := self.columns.keys() ^ self.paths.keys()):
            raise ValueError(f"paths and columns have to name the same: {', '.join(sorted(without))}")
        return self

    @model_validator(mode="after")
    def _unpivoted_columns_exist(self) -> Self:
        typed = {*self.columns, *(self.icd.typed_names.values() if self.icd else ())}
        for name, fact in self.facts.items():
            if undeclared := [column for column in fact.unpivot if column not in typed]:
                raise ValueError(
                    f"fact {name} unpivots columns that are not declared: {', '.join(undeclared)}"
                )
        return self
