"""Keys of an extract: which columns number patients and visits, by names and by whose values are among whose."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from data_pipeline.source_draft.knowledge import is_called, is_kind
from data_pipeline.source_draft.profiles import Table
from mediscale.storage.duckdb_tables import quoted

if TYPE_CHECKING:
    import duckdb

INCLUDED = 0.95
"""Share of a column's distinct values that have to be among a key's."""
_VALUES = 2_000
"""Distinct values that are looked up."""
_LEAST_DISTINCT = 3


@dataclass(frozen=True)
class Key:
    """A column that numbers the rows of its table, and the columns of others whose values are among its own."""

    table: str
    header: str
    children: dict[str, str]
    """By table, its column."""


@dataclass(frozen=True)
class Keys:
    """The keys of an extract: the columns that number patients and those that number visits."""

    subjects: str
    """The table that lists the patients."""
    patient: dict[str, str]
    """By table, the column with the patient's number."""
    visits: str
    visit: dict[str, str]
    evidence: tuple[str, ...]
    unsure: tuple[str, ...]


def find(database: "duckdb.DuckDBPyConnection", tables: Sequence[Table]) -> Keys | None:
    """The keys of patients and visits; None where no table lists anything that others refer to."""
    by_name = {table.name: table for table in tables}
    keys = list(_keys(database, tables))
    patient = max(keys, key=lambda key: _as_patient(key, by_name), default=None)
    unsure: list[str] = []
    if patient is None:
        return None
    if _as_patient(patient, by_name) < 2:
        unsure.append(f"is {patient.header} the number of a patient, and not of a stay or of a row?")
    patients = {patient.table: patient.header, **patient.children}
    repeated = _repeated_patient(by_name[patient.table], patient.header)
    visits = [key for key in keys if patients.get(key.table, key.header) != key.header]
    visit = max(visits, key=lambda key: _as_visit(key, by_name), default=None)
    if repeated and (visit is None or _as_visit(visit, by_name) < 3):
        # One row per encounter: the key is of the visit, and a column beside it repeats a patient.
        table = patient.table
        return Keys(
            table,
            {t.name: repeated for t in tables if repeated in t.columns},
            table,
            patients,
            (f"{table} has one row per {patient.header}, and {repeated} recurs in it",),
            (),
        )
    if visit is None or _as_visit(visit, by_name) < 3:
        unsure.append(
            "no table lists visits of the patients: which column numbers a visit, and when did it begin and end?"
        )
        return Keys(patient.table, patients, patient.table, patients, (_sentence(patient),), tuple(unsure))
    return Keys(
        patient.table,
        patients,
        visit.table,
        {visit.table: visit.header, **visit.children},
        (_sentence(patient), _sentence(visit)),
        tuple(unsure),
    )


def _sentence(key: Key) -> str:
    children = ", ".join(f"{table}.{header}" for table, header in key.children.items())
    others = f"; the values of {children} are among its own" if children else ""
    return f"{key.table}.{key.header} is another one in every row{others}"


def _keys(database: "duckdb.DuckDBPyConnection", tables: Sequence[Table]) -> Iterator[Key]:
    for table in tables:
        for header, column in table.columns.items():
            if not _may_number(table, header) or column.distinct < 0.8 * table.rows or column.filled < 1:
                continue
            (distinct,) = database.execute(
                f"select count(distinct {quoted(header)}) from {table.relation}"
            ).fetchall()[0]
            if distinct == table.rows:
                yield Key(table.name, header, dict(_children(database, table, header, tables)))


def _may_number(table: Table, header: str) -> bool:
    """Whether a column may hold numbers of something: whole numbers or words, and no measurement or date."""
    column = table.columns[header]
    if column.kind in ("empty", "time", "date") or column.length > 64:
        return False
    if column.kind == "number" and not column.mostly("whole"):
        return False
    named = is_called("patient", column.name) or is_called("visit", column.name)
    return named or not is_called("not_an_id", column.name)


def _children(
    database: "duckdb.DuckDBPyConnection", parent: Table, key: str, tables: Sequence[Table]
) -> Iterator[tuple[str, str]]:
    """The column of each other table whose values are among the key's; of several, the one that is named like it."""
    for table in tables:
        if table.name == parent.name:
            continue
        fitting = [
            header
            for header, column in table.columns.items()
            if column.distinct >= min(_LEAST_DISTINCT, parent.rows)
            and _may_number(table, header)
            and _may_refer(parent, key, table, header)
            and _included(database, parent, key, table, header)
        ]
        if fitting:
            yield (
                table.name,
                min(fitting, key=lambda header: (header != key, not _related(parent, key, header))),
            )


def _may_refer(parent: Table, key: str, table: Table, header: str) -> bool:
    """Whether a column's name lets it refer to a key; numbers too long to be anybody else's may have any name."""
    return _related(parent, key, header) or (
        table.columns[header].length >= 12 and parent.columns[key].length >= 12
    )


def _related(parent: Table, key: str, header: str) -> bool:
    if header == key and header != "id":
        return True
    singular = parent.name.removesuffix("s")
    if header.startswith(singular):
        return True
    return any(
        is_called(role, parent.columns[key].name) and is_called(role, header.replace("_", " "))
        for role in ("patient", "visit")
    )


def _included(
    database: "duckdb.DuckDBPyConnection", parent: Table, key: str, table: Table, header: str
) -> bool:
    child = f"select distinct {quoted(header)} as v from {table.relation} where {quoted(header)} is not null"
    (share,) = database.execute(
        f"select avg((v in (select {quoted(key)} from {parent.relation}))::int) from ({child} limit {_VALUES})"
    ).fetchall()[0]
    return share is not None and (share >= INCLUDED or (not parent.whole and share > 0.2))


def _numbers(key: Key, role: str, tables: dict[str, Table]) -> bool:
    """Whether a key, or a column that refers to it, is called like a role; of a bare ``id`` its table's name says."""
    names = [tables[t].columns[h].name for t, h in [(key.table, key.header), *key.children.items()]]
    if names[0] in ("id", "identifier"):
        names[0] = f"{key.table.removesuffix('s').replace('_', ' ')} id"
    return any(is_called(role, name) for name in names)


def _as_patient(key: Key, tables: dict[str, Table]) -> float:
    """How much a key looks like the patient's: names, what else its table says, and how many tables refer to it."""
    table = tables[key.table]
    named = _numbers(key, "patient", tables)
    says = sum(
        any(is_called(role, c.name) for c in table.columns.values())
        for role in ("birth", "birth_year", "anchor_age", "age", "sex", "death", "race")
    )
    named_visit = _numbers(key, "visit", tables)
    return 3 * named + min(says, 3) - 2 * named_visit + len(key.children) / (len(tables) + 1)


def _as_visit(key: Key, tables: dict[str, Table]) -> float:
    """How much a key looks like the visit's: names, a beginning and an end, and how many tables refer to it."""
    table = tables[key.table]
    times = [c for c in table.columns.values() if c.kind in ("time", "date")]
    names = [c.name for c in times]
    spans = any(is_called("start", n) for n in names) and any(is_called("end", n) for n in names)
    named = _numbers(key, "visit", tables)
    intensive = is_kind("icu", table.name) or "icu" in key.header or is_kind("emergency", table.name)
    detail = "detail" in table.name
    return 2 * named + 2 * spans - 2 * intensive - 2 * detail + 3 * len(key.children) / (len(tables) + 1)


def _repeated_patient(table: Table, key: str) -> str | None:
    """The column of a table of visits that numbers patients, who come again."""
    candidates = (
        header
        for header, column in table.columns.items()
        if header != key and is_called("patient", column.name) and 1 < column.distinct <= table.rows
    )
    return next(candidates, None)
