"""Rows of some patients: all that bronze has of the patients whom a batch of new rows is about.

What a row means depends on others: on the patient's own entry, on the visits, on lookups, on an earlier copy of the
row. So a batch of rows is judged together with all rows of its patients.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from data_pipeline.ingest import facts, parsing
from data_pipeline.ingest.messages import schema
from data_pipeline.ingest.source import Source
from mediscale.core.refs import TableRef
from mediscale.core.settings import Settings
from mediscale.core.tables import BRONZE
from mediscale.storage import duckdb_tables, lake
from mediscale.storage.duckdb_tables import quoted


@dataclass(frozen=True)
class PatientRows:
    """The rows of bronze by table, and the hospital's identifiers of the patients they are about."""

    bronze: dict[str, pa.Table]
    subjects: pa.Array

    def places(self) -> pa.Table:
        """Where the rows stand: ``source`` (the table), ``file`` and ``line``."""
        parts = [
            rows.select(["file", "line"]).append_column("source", pa.repeat(pa.scalar(name), len(rows)))
            for name, rows in self.bronze.items()
        ]
        return pa.concat_tables(parts).select(["source", "file", "line"])


def newest_bronze(settings: Settings, source: Source, dataset: str) -> dict[str, TableRef]:
    """The newest version of each table of bronze that is there, by its name in the source."""
    landed = set(lake.tables(settings, dataset))
    return {
        name: lake.latest(settings, dataset, f"{BRONZE.name}_{name}")
        for name in source.tables
        if f"{BRONZE.name}_{name}" in landed
    }


@dataclass(frozen=True)
class PatientSearch:
    """Finds the rows of some patients in one version of each table of bronze."""

    settings: Settings
    source: Source
    refs: Mapping[str, TableRef]

    def rows_of(self, new: Mapping[str, pa.Table], subjects: pa.Array | None = None) -> PatientRows:
        """All rows of the patients whom the rows ``new`` are about, or of ``subjects``, and of those who share a visit
        or a key with them; and the new rows that name nobody."""
        subject = self.source.subjects.id
        subjects = self._with_sharers(self.about(new) if subjects is None else subjects)
        read = facts.tables_read(self.source, self.source.tables)
        with_subject = {name for name in read if subject in self.source.tables[name].columns}
        everyone = self.changes_everyone(new)
        bronze = {}
        for name in sorted(with_subject):
            landed = self._scan(name, subject, None if everyone else subjects)
            bronze[name] = self._and_unowned(landed, new.get(name), subject, everyone)
        if everyone:
            subjects = _union(self._values(rows, subject) for rows in bronze.values())
        for name in (name for name in read if name not in with_subject):
            table = self.source.tables[name]
            if table.patient_through is None:
                bronze[name] = self._scan(name, "", None)
                continue
            key = table.patient_through.key
            keys = self._values(bronze[table.patient_through.table], key)
            landed = self._scan(name, key, None if everyone else keys)
            bronze[name] = self._and_unowned(landed, new.get(name), key, everyone, keys)
        required = (self.source.subjects.table, self.source.visits.table)
        # tables without rows of these patients, too: the compiled query is then the same batch after batch
        return PatientRows(
            {name: rows for name, rows in bronze.items() if name in self.refs or name in required}, subjects
        )

    def changes_everyone(self, new: Mapping[str, pa.Table]) -> bool:
        """Whether a lookup got rows that are of no patient, such as a dictionary's."""
        lookups = {lookup.table for lookup in self.source.lookups.values()}
        return any(
            name in lookups
            and self.source.subjects.id not in self.source.tables[name].columns
            and self.source.tables[name].patient_through is None
            for name in new
        )

    def about(self, new: Mapping[str, pa.Table]) -> pa.Array:
        """The patients whom the rows name, or whose key or visit they name."""
        subject = self.source.subjects.id
        named = [self._values(rows, subject) for rows in new.values() if subject in rows.column_names]
        for name, rows in new.items():
            through = self.source.tables[name].patient_through
            if through is not None:
                named.append(self._owners(through.table, through.key, self._values(rows, through.key)))
        for table, key in self._shared_keys():
            if table in new:
                named.append(self._owners(table, key, self._values(new[table], key)))
        return _union(named)

    def _with_sharers(self, subjects: pa.Array) -> pa.Array:
        """The patients with those who have a visit or a key in common with one of them: it is of nobody, and to see
        that takes the rows of all."""
        subject, before = self.source.subjects.id, -1
        while len(subjects) > before:
            before, owners = len(subjects), [subjects]
            for table, key in self._shared_keys():
                keys = self._values(self._scan(table, subject, subjects), key)
                owners.append(self._owners(table, key, keys))
            subjects = _union(owners)
        return subjects

    def _shared_keys(self) -> set[tuple[str, str]]:
        """The tables whose rows name a patient beside the key of a visit, or of rows elsewhere, and that key."""
        visits, tables = self.source.visits, self.source.tables
        through = (table.patient_through for table in tables.values() if table.patient_through)
        keys = {(visits.table, visits.id), *((one.table, one.key) for one in through)}
        return {(table, key) for table, key in keys if self.source.subjects.id in tables[table].columns}

    def _owners(self, table: str, key: str, values: pa.Array) -> pa.Array:
        """The patients of the rows of a table with these keys."""
        return self._values(self._scan(table, key, values), self.source.subjects.id)

    def _values(self, rows: pa.Table, column: str) -> pa.Array:
        """The distinct identifiers of a column."""
        return self._identifiers(rows[column]).drop_null().unique()

    def _identifiers(self, column: pa.ChunkedArray | pa.Array) -> pa.Array:
        whole = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
        return parsing.identifiers(whole, self.source.null_words)

    def _scan(self, name: str, column: str, values: pa.Array | None) -> pa.Table:
        """The rows of a table of bronze with a wanted identifier; all rows where none is given."""
        declared = schema(self.source.tables[name])
        if name not in self.refs:
            return declared.empty_table()
        with duckdb_tables.session() as database:
            columns = duckdb_tables.view(database, self.settings, self.refs[name], "landed")
            if values is not None and column not in columns:
                return declared.empty_table()
            names = ", ".join(quoted(each) for each in declared.names if each in columns)
            wanted = ""
            if values is not None:
                # Looked up once for each spelling, and only these patients' rows are decoded.
                every = f"select distinct {quoted(column)} as key from landed"
                keys = duckdb_tables.rows(database, every).read_all()
                are_among = pc.is_in(self._identifiers(keys["key"]), value_set=values)
                database.register("wanted", keys.filter(pc.fill_null(are_among, False)))
                wanted = f" where {quoted(column)} in (select key from wanted)"
            rows = duckdb_tables.rows(database, f"select {names} from landed{wanted}").read_all()
        return in_declared_columns(rows, declared)

    def _and_unowned(
        self,
        landed: pa.Table,
        new: pa.Table | None,
        column: str,
        everyone: bool,
        keys: pa.Array | None = None,
    ) -> pa.Table:
        """The patients' rows, and the new ones that name nobody: their facts are to be quarantined."""
        if new is None or everyone:
            return landed
        named = self._identifiers(new[column])
        owned = named.is_valid() if keys is None else pc.is_in(named, value_set=keys)
        return pa.concat_tables([landed, new.filter(pc.invert(owned))])


def in_declared_columns(rows: pa.Table, declared: pa.Schema) -> pa.Table:
    """Rows in the declared columns; those that they lack are empty."""
    columns = [
        rows.column(field.name).cast(field.type)
        if field.name in rows.schema.names
        else pa.nulls(len(rows), field.type)
        for field in declared
    ]
    return pa.Table.from_arrays(columns, schema=declared)


def _union(arrays: Iterable[pa.Array]) -> pa.Array:
    return pa.concat_arrays([pa.array([], pa.string()), *arrays]).unique()
