"""The stanza of a table in the making: columns get their names and types as expressions begin to use them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from data_pipeline.ingest.source_tables import RESERVED_COLUMNS
from data_pipeline.source_draft import items
from data_pipeline.source_draft.items import ItemMapping
from data_pipeline.source_draft.keys import Keys
from data_pipeline.source_draft.knowledge import Shipped, category, is_called, names
from data_pipeline.source_draft.profiles import Column, Kind, Table, identifier
from mediscale.core.privacy import is_small
from mediscale.storage.duckdb_tables import quoted

if TYPE_CHECKING:
    import duckdb

_SQL_WORDS = frozenset(
    {
        "all", "and", "any", "as", "by", "case", "cast", "distinct", "else", "end", "false", "from", "full", "group",
        "having", "in", "inner", "interval", "is", "join", "left", "like", "not", "null", "on", "or", "order", "outer",
        "right", "select", "table", "then", "true", "union", "using", "values", "visit", "when", "where", "with",
    }
)  # fmt: skip
"""What a column can't be called in an expression."""
DELAYS = {
    "result_delay": ("2 hours", "The extract has the time of a result and none at which it was stored."),
    "order_delay": ("1 hour", "The extract has the start of a drug and not the time of its order."),
    "start_delay": (
        "1 hour",
        "A row is stored again when what it states changes or ends; that it began was known before.",
    ),
    "report_delay": ("12 hours", "The extract has the time of a note and none at which it was signed."),
    "coding_delay": (
        "7 days",
        "Diagnoses and procedures are coded for billing after discharge; the date is not recorded.",
    ),
}
"""Assumed delays by name: how long, and why one is assumed."""
_SECONDS = {"hours": " * 3600", "minutes": " * 60", "seconds": ""}
_UNIT_WORDS = {"hour": "hours", "min": "minutes", "sec": "seconds", "offset": "minutes"}
"""By a word in its name, what an offset counts."""
_MOST_VALUES = 100
"""Distinct words of a column that is no name, address or code of something."""
_MOST_WORDS = 40
"""Distinct words of a column that a vocabulary lists."""


@dataclass
class Stanza:
    """The stanza of one table in the YAML."""

    table: Table
    comments: list[str] = field(default_factory=list)
    todos: list[str] = field(default_factory=list)
    required: bool = False
    provides: str = ""
    columns: dict[str, str] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    available: str = ""
    through_visit: bool = False
    sentinels: dict[str, list[str]] = field(default_factory=dict)
    formats: dict[str, str] = field(default_factory=dict)
    vocabularies: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    intervals: dict[str, str] = field(default_factory=dict)
    icd: dict[str, Any] = field(default_factory=dict)
    facts: dict[str, dict[str, Any]] = field(default_factory=dict)
    note: dict[str, str] = field(default_factory=dict)


@dataclass
class Draft:
    """The draft that tables share: the keys, the knowledge, the delays that were assumed and the mapped items."""

    database: "duckdb.DuckDBPyConnection"
    tables: Sequence[Table]
    keys: Keys
    shipped: Shipped
    patient: str
    """The column of the patient's number, as all stanzas name it."""
    visit: str
    relative: bool
    assumptions: dict[str, tuple[str, str]] = field(default_factory=dict)
    mapped: dict[str, list[ItemMapping]] = field(default_factory=dict)
    treatments: dict[str, set[str]] = field(default_factory=dict)
    uses_drugs: bool = False

    def delay(self, name: str) -> str:
        """The placeholder of one of ``DELAYS``, which a person has to confirm."""
        self.assumptions[name] = DELAYS[name]
        return f"{{{name}}}"


class Builder:
    """One stanza in the making: columns get their names and types as expressions begin to use them."""

    def __init__(self, draft: Draft, table: Table) -> None:
        self.draft, self.table = draft, table
        self.stanza = Stanza(table)
        for key, header in ((draft.patient, self.patient), (draft.visit, self.visit)):
            if header is not None and key not in self.stanza.columns:
                self._named(header, key, "identifier")
        if self.patient is None and self.visit is not None:
            self.stanza.through_visit = True

    @property
    def patient(self) -> str | None:
        return self.draft.keys.patient.get(self.table.name)

    @property
    def visit(self) -> str | None:
        return self.draft.keys.visit.get(self.table.name)

    def _named(self, header: str, name: str, kind: str) -> str:
        self.stanza.columns[name] = kind
        if header != name:
            self.stanza.headers[name] = header
        return name

    def use(self, header: str, kind: str) -> str:
        """The name of a column in expressions; it is declared with the type."""
        for key, own in ((self.draft.patient, self.patient), (self.draft.visit, self.visit)):
            if header == own:
                return key
        return self._named(header, self.name(header), kind)

    def name(self, header: str) -> str:
        """The name of a column in expressions."""
        name = identifier(header)
        reserved = RESERVED_COLUMNS | _SQL_WORDS | {self.draft.patient, self.draft.visit}
        return f"{self.table.name.removesuffix('s')}_{name}" if name in reserved else name

    def pick(self, role: str, *kinds: str) -> list[Column]:
        """The columns that are called like a role, of one of the kinds, in the order of the file."""
        own = {self.patient, self.visit}
        return [
            c
            for c in self.table.columns.values()
            if c.kind != "empty"
            and c.header not in own
            and (not kinds or c.kind in kinds)
            and is_called(role, c.name)
        ]

    def first(self, role: str, *kinds: str) -> Column | None:
        """The first column that ``pick`` gives, if any."""
        return next(iter(self.pick(role, *kinds)), None)

    def time(self, column: Column) -> str:
        """The expression of a time; offsets count from the origin."""
        if column.kind == "number":
            unit = self._offset_unit(column)
            self.ask(f"does {column.header} count {unit} from the beginning of the visit?")
            seconds = self.use(column.header, "double") + _SECONDS[unit]
            return f"{{origin}} + make_dt_interval(0, 0, 0, {seconds})"
        name = self.use(column.header, "date" if column.kind == "date" else "timestamp")
        if column.time_format:
            self.stanza.formats[name] = column.time_format
            if "/" in column.time_format:
                self.ask(
                    f"is {column.header} written as {column.time_format}, and not with day and month swapped?"
                )
        return name

    def _offset_unit(self, column: Column) -> str:
        """What an offset counts: by a word in its name, else by the grid that its values lie on."""
        if (
            named := next((unit for word, unit in _UNIT_WORDS.items() if word in column.name), None)
        ) is not None:
            return named
        value = f"try_cast({quoted(column.header)} as double)"
        grid = f"bool_and({value} % 3600 = 0), bool_and({value} % 60 = 0), max({value})"
        hours, minutes, most = self.draft.database.execute(
            f"select {grid} from {self.table.relation}"
        ).fetchall()[0]
        return "seconds" if hours and most >= 3600 else "minutes" if minutes and most >= 60 else "hours"

    def number(self, column: Column) -> str:
        """The number in a column, as SQL over its texts; what stands for nothing in it is declared."""
        text = quoted(column.header)
        if nothing := items.sentinels(self.draft.database, self.table, column.header):
            self.stanza.sentinels[self.name(column.header)] = nothing
            listed = ", ".join(f"'{value}'" for value in nothing)
            text = f"case when {text} not in ({listed}) then {text} end"
        return f"try_cast({text} as double)"

    def ask(self, question: str) -> None:
        """Leaves a question to a person, once."""
        if question not in self.stanza.todos:
            self.stanza.todos.append(question)

    def moments(self, roles: Sequence[str]) -> list[Column]:
        """The columns of times that are called like one of the roles, dates last, the fullest first; of offsets, where
        there is no calendar."""
        headers = dict.fromkeys(c.header for role in roles for c in self.pick(role, "time", "date"))
        if not headers and self.draft.relative:
            headers = dict.fromkeys(c.header for c in self.pick("offset", "number"))
        columns = (self.table.columns[header] for header in headers)
        return sorted(columns, key=lambda c: (c.kind == "date", -round(c.filled, 1)))

    def order(self, start: Column, end: Column) -> None:
        """Declares that rows end after they start, where both are read as times."""
        if "number" not in (start.kind, end.kind):
            self.stanza.intervals = {self.time(start): self.time(end)}

    def vocabulary(self, column: Column, role: str) -> tuple[dict[str, list[str]], bool, bool]:
        """The words of each category in a column, whether words of few were left out, and whether all have one."""
        who = f"count(distinct {quoted(self.patient)})" if self.patient else "count(*)"
        counted = self.draft.database.execute(
            f"select upper({quoted(column.header)}), {who} from {self.table.relation} "
            f"where {quoted(column.header)} is not null group by 1 order by 2 desc, 1"
        ).fetchall()
        frequent = [word for word, n in counted[:_MOST_WORDS] if not is_small(n)]
        places = {word: category(role, word) for word in frequent}
        order = names()["words"][role]
        lists = {place: [word for word in frequent if places[word] == place] for place in order}
        listed = {place: own for place, own in lists.items() if own}
        return listed, len(frequent) < len(counted), all(places.values())

    def words(self, column: Column, role: str) -> str:
        """Declares the vocabulary of a column; words of few are left out, whatever they are."""
        name = self.use(column.header, "word")
        if name in self.stanza.vocabularies:
            return name
        lists, few, complete = self.vocabulary(column, role)
        self.stanza.vocabularies[name] = lists or {"OTHER": []}
        if few:
            self.stanza.comments.append(f"{column.header}: words of few patients are not listed")
        if few or not complete:
            self.ask(f"to which category do the other words of {column.header} belong?")
        return name

    def unused_columns(self, kind: Kind) -> list[str]:
        """The columns of a kind that nothing has used and that are no numbers, names or codes of something."""
        used = {self.stanza.headers.get(name, name) for name in self.stanza.columns}
        left = [c for c in self.table.columns.values() if c.kind == kind and c.header not in used]
        return [
            c.header
            for c in left
            if not (c.name.endswith("id") or is_called("icd", c.name) or is_called("outcome", c.name))
            and (kind == "number" or c.distinct <= _MOST_VALUES)
        ]

    def event(self, *more: str) -> str:
        """The natural key: a number of the rows' own, else whose, when and what."""
        for column in self.table.columns.values():
            if column.header in (self.patient, self.visit) or not column.name.endswith(("id", "uuid")):
                continue
            if (
                column.filled == 1
                and column.distinct >= 0.8 * self.table.rows
                and self._unique(column.header)
            ):
                return self.use(column.header, "identifier")
        parts = [key for key in (self.draft.patient, self.draft.visit) if key in self.stanza.columns]
        parts += [self.time(moment) for moment in self.moments(("start", "moment"))[:1]]
        parts += [self.use(header, self._column_type(header)) for header in more]
        return f"concat_ws('|', {', '.join(dict.fromkeys(parts))})"

    def _column_type(self, header: str) -> str:
        """The type that an expression gave a column before, else that of a number of something."""
        return self.stanza.columns.get(self.name(header), "identifier")

    def _unique(self, header: str) -> bool:
        distinct = f"select count(distinct {quoted(header)}) from {self.table.relation}"
        return bool(self.draft.database.execute(distinct).fetchall()[0][0] == self.table.rows)


def moment_of(b: Builder, moments: Sequence[Column]) -> tuple[str, Column]:
    """The expression and the column of the time of a row: the first that is a time, and where it is empty the date."""
    times = [m for m in moments if m.kind != "date"]
    dates = [m for m in moments if m.kind == "date" and not is_called("known", m.name)]
    if not times:
        return b.time(dates[0] if dates else moments[0]), dates[0] if dates else moments[0]
    if dates and times[0].filled < 1:
        return f"coalesce({b.time(times[0])}, {b.time(dates[0])})", times[0]
    return b.time(times[0]), times[0]


def known_moment(b: Builder, moments: Sequence[Column], delay: str) -> tuple[str, str]:
    """The expressions of when a row was so and of when it was known, by a column or else by an assumed delay."""
    stated = [m for m in moments if not is_called("known", m.name)] or moments
    time, moment = moment_of(b, stated)
    entered, after = b.first("known", "time"), late(b, moment, time, delay)
    return time, f"coalesce({b.time(entered)}, {after})" if entered and entered not in stated else after


def late(b: Builder, column: Column, time: str, delay: str) -> str:
    """The time at which a row was known that does not say it: a date's end, or a time and an assumed delay."""
    return f"{time} + interval 1 day" if column.kind == "date" else f"{time} + {b.draft.delay(delay)}"


def span(b: Builder) -> tuple[Column | None, Column | None]:
    """The columns of a beginning and an end; a death is neither, nor is a stay in the emergency department."""
    starts, ends = (
        [c for c in b.moments((role,)) if not is_called("death", c.name) and not c.name.startswith("ed")]
        for role in ("start", "end")
    )
    return next(iter(starts), None), next(iter(ends), None)
