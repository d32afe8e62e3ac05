"""Facts of an extract's rows: texts are typed, the source's compiled query finds the candidates, rules judge them.

All of it runs in one database of the engine (``data_pipeline.ingest.engine``), without Spark.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data_pipeline.ingest import engine, extract_facts, patient_listing, placing
from data_pipeline.ingest.patient_pieces import PatientPieces
from data_pipeline.ingest.source import Source
from data_pipeline.ingest.typed_tables import arrow_schema, map_typed, type_rows
from mediscale.core.errors import UsageError
from mediscale.core.refs import TableRef
from mediscale.core.settings import Settings
from mediscale.core.tables import EVENTS, FACTS
from mediscale.storage import duckdb_tables, lake

if TYPE_CHECKING:
    import duckdb
    from pyarrow import dataset as ds
    from pyarrow import parquet

BATCH_ROWS = 1 << 17
"""Rows of a table that are typed before their facts are computed."""

PIECE_ROWS = 1 << 18
"""Rows of the extract for each piece of its patients, who are judged together: what is in memory at once does not grow
with the extract."""

PlacedQueries = Sequence[tuple[tuple[str, str], str]]
"""Texts of Spark SQL, each after its place in the source's file and whose columns it is about."""

TextBatches = Mapping[str, "Callable[[], Iterable[pa.RecordBatch]]"]
"""By table of a source, a function that reads its rows: its own columns as texts, with ``file`` and ``line``."""


def load(
    database: "duckdb.DuckDBPyConnection",
    source: Source,
    tables: "TextBatches",
    dataset: str,
    names: Collection[str],
) -> None:
    """Types the rows of tables, and of those through which they find patients, and keeps them as ``t_<table>``."""
    present = [name for name in extract_facts.needed_tables(source, *names) if name in tables]
    for name in sorted(present, key=lambda one: source.tables[one].patient_through is not None):
        rows = (_typed(source, dataset, name, batch).cast(_schema(source, name)) for batch in tables[name]())
        engine.create_table(database, f"t_{name}", _schema(source, name), rows)
        if (owned := _owned(source, name)) is not None:
            database.execute(f"create or replace table t_{name} as {owned}")


def _register(
    database: "duckdb.DuckDBPyConnection",
    source: Source,
    dataset: str,
    name: str,
    texts: Iterable[pa.RecordBatch],
) -> None:
    """Types rows as ``t_<table>``, which the engine reads where Arrow has them: for each fact the columns it names."""
    typed = [_typed(source, dataset, name, batch) for batch in texts]
    schema = _schema(source, name)
    if len({rows.schema for rows in typed}) == 1:
        schema = typed[0].schema
    database.register(f"t_{name}", pa.Table.from_batches([rows.cast(schema) for rows in typed], schema))
    if (owned := _owned(source, name)) is not None:
        database.register(f"t_{name}", duckdb_tables.rows(database, owned).read_all())


def _owned(source: Source, name: str) -> str | None:
    """The query of a typed table with the patients whom it finds through another; None where it has its own."""
    through = source.tables[name].patient_through
    return None if through is None else engine.transpile(extract_facts.with_patient(source, name, through))


def _schema(source: Source, name: str) -> pa.Schema:
    added = (extract_facts.SUBJECT, extract_facts.VISIT)
    return pa.schema(
        [*arrow_schema(source.tables[name]), *(pa.field(column, pa.int64()) for column in added)]
    )


def _typed(source: Source, dataset: str, name: str, texts: pa.RecordBatch) -> pa.RecordBatch:
    """Typed rows with the pseudonyms of their patient and visit, null where the table has no such column."""
    table = source.tables[name]
    rows = type_rows(source, table, texts)
    for column, identifier in (
        (extract_facts.SUBJECT, source.subjects.id),
        (extract_facts.VISIT, source.visits.id),
    ):
        own = pa.nulls(len(rows), pa.int64())
        if identifier in table.columns and identifier in texts.schema.names:
            pseudonyms = partial(engine.pseudonyms, dataset=dataset)
            own = map_typed(source, table, identifier, texts.column(identifier), pseudonyms)
        rows = rows.append_column(column, own)
    return rows


def tables_read(source: Source, present: Collection[str]) -> tuple[str, ...]:
    """The tables whose rows state facts, or say something of those that do, and those through which the rows find their
    patients."""
    joined = extract_facts.tables_joined(source)
    return extract_facts.needed_tables(
        source, *(name for name in present if source.tables[name].facts or name in joined)
    )


def judged(
    database: "duckdb.DuckDBPyConnection",
    source: Source,
    tables: "TextBatches",
    dataset: str,
    named: bool = False,
) -> str:
    """The query, in the engine's SQL, of the judged facts of tables, in the columns of ``FACTS`` and more: its
    ``item``, and where ``named`` the name of each ``fact`` in the source. What the tables state is kept in memory.

    Raises:
        UsageError: an expression of the source can't be computed; the error names the fact.
    """
    stated = pa.Table.from_batches(_stated(database, source, tables, dataset, named), _stated_schema(named))
    database.register("facts", patient_listing.listing(database).describe(stated.combine_chunks()))
    return engine.transpile(extract_facts.judged_query())


def _stated(
    database: "duckdb.DuckDBPyConnection",
    source: Source,
    tables: "TextBatches",
    dataset: str,
    named: bool = False,
) -> Iterator[pa.RecordBatch]:
    """The facts that tables state, each with ``flags`` of the rules that it breaks whatever others say.

    A table that no other is joined to is in memory for its own facts alone. The facts of a table are one query: what
    they share is planned once.
    """
    schema = _stated_schema(named)
    flags = engine.transpile(f"select {FACTS.flags(of_row=True)} as flags").removeprefix("SELECT ")
    columns = ", ".join([*schema.names[:-1], flags])
    for queries in _fact_queries(database, source, tables, dataset, named):
        with _placed_errors(database, source, queries):
            every = " union all ".join(engine.transpile(sql) for _, sql in queries)
            for batch in duckdb_tables.rows(database, f"select {columns} from ({every})"):
                yield batch.cast(schema)


def _stated_schema(named: bool = False) -> pa.Schema:
    """The columns of stated facts; their texts, of which nearly all recur, are dictionaries."""
    names = ("item", "fact") if named else ("item",)
    own = [field for field in FACTS.arrow_schema() if field.name != "broken"]
    every = [*own, *(pa.field(name, pa.string()) for name in names), pa.field("flags", pa.int32())]
    text = pa.dictionary(pa.int32(), pa.string())
    return pa.schema([field.with_type(text) if pa.types.is_string(field.type) else field for field in every])


def _fact_queries(
    database: "duckdb.DuckDBPyConnection",
    source: Source,
    tables: "TextBatches",
    dataset: str,
    named: bool = False,
) -> Iterator["PlacedQueries"]:
    """The Spark SQL of each fact of a table, with its place in the source, while rows that they read are in the engine:
    of a table that no other is joined to a piece after the other, for a fact is of one row."""
    present = set(tables)
    stay = extract_facts.needed_tables(source, *present & extract_facts.tables_joined(source))
    load(database, source, tables, dataset, stay)
    for name, sql in extract_facts.joined_tables(source, present, dataset):
        place = f"lookups.{name}" if name in source.lookups else name
        with _placed_errors(database, source, [((place, ""), sql)]):
            database.execute(f"create or replace temp table {name} as {engine.transpile(sql)}")
    for name in (name for name, table in source.tables.items() if name in present and table.facts):
        queries = [
            ((f"tables.{name}.facts.{fact}", f" of {name}"), sql)
            for fact, sql in extract_facts.fact_queries(source, name, dataset, named)
        ]
        if name in stay:
            yield queries
            continue
        for texts in _in_pieces(tables[name]()):
            _register(database, source, dataset, name, texts)
            yield queries
            database.unregister(f"t_{name}")


def _in_pieces(batches: Iterable[pa.RecordBatch]) -> Iterator[list[pa.RecordBatch]]:
    """Batches of ``BATCH_ROWS`` rows together, and one piece at least."""
    piece: list[pa.RecordBatch] = []
    rows = 0
    for batch in batches:
        if rows >= BATCH_ROWS:
            yield piece
            piece, rows = [], 0
        piece.append(batch)
        rows += batch.num_rows
    yield piece


def judged_rows(
    database: "duckdb.DuckDBPyConnection",
    source: Source,
    tables: "TextBatches",
    dataset: str,
    pieces: int = 1,
) -> Iterator[pa.RecordBatch]:
    """The rows of ``facts`` that tables state, in the order of their patients, and of each in that of ``placing``.

    What a rule compares is of one patient, so that the facts of each piece of the patients are judged for themselves.

    Raises:
        UsageError: as ``judged``.
    """
    stated = _stated(database, source, tables, dataset)
    if pieces == 1:
        parts: Iterable[pa.Table] = [pa.Table.from_batches(stated, _stated_schema())]
    else:
        apart = PatientPieces(engine.scratch(database), pieces)
        apart.add(stated)
        parts = apart.read()
    listed = patient_listing.listing(database)
    for rows in parts:
        yield from _in_order(database, listed.describe(rows.combine_chunks()))
        del rows  # before the next piece is read


def _in_order(database: "duckdb.DuckDBPyConnection", described: pa.Table) -> Iterator[pa.RecordBatch]:
    """The rows of ``facts`` of stated facts, in their order; texts come as dictionaries."""
    keys = pa.table({name: _comparable(described[name]) for name in placing.ORDER})
    order = pc.sort_indices(keys, [(name, "ascending") for name in keys.column_names])
    columns = {name: described[name] for name in FACTS.column_names if name in described.column_names}
    columns |= {"visit_id": described["own_visit"], "broken": _broken(database, described)}
    yield from pa.table({name: columns[name].take(order) for name in FACTS.column_names}).to_batches(
        BATCH_ROWS
    )


def _broken(database: "duckdb.DuckDBPyConnection", described: pa.Table) -> pa.Array:
    """The names of the rules that each fact breaks, as a dictionary: the engine compares only those that may."""
    database.register("facts", described.filter(patient_listing.are_to_compare(described)))
    query = engine.transpile(extract_facts.judged_query())
    judged = duckdb_tables.rows(
        database, f"select number, broken from ({query}) where broken is not null"
    ).read_all()
    database.unregister("facts")
    names = judged["broken"].combine_chunks().dictionary_encode()
    indices, intact = np.zeros(len(described), np.int32), np.ones(len(described), np.bool_)
    indices[judged["number"]], intact[judged["number"]] = names.indices, False
    return pa.DictionaryArray.from_arrays(pa.array(indices, mask=intact), names.dictionary)


def _comparable(column: pa.ChunkedArray) -> pa.Array:
    """A column by which rows are sorted; of a dictionary the ranks of its texts."""
    values = column.combine_chunks()
    if not pa.types.is_dictionary(values.type):
        return values
    return pc.rank(values.dictionary, tiebreaker="dense").take(values.indices)


@contextmanager
def _placed_errors(
    database: "duckdb.DuckDBPyConnection", source: Source, queries: PlacedQueries
) -> Iterator[None]:
    """Says of an error which query of a source's declaration raised it: each is then computed for itself.

    What the engine says of a row has the row's values in it, and is left unsaid.

    Raises:
        UsageError: a query can't be carried to the engine, the engine refuses it, or can't compute it of a row.
    """
    try:
        yield
    except Exception:
        # Only now: the import takes a while, and texts that were compiled before need none.
        import duckdb
        from sqlglot.errors import SqlglotError

        for (place, columns_of), sql in queries:
            try:
                relation = database.sql(engine.transpile(sql))
            except (SqlglotError, duckdb.Error) as error:
                raise _expression_error(
                    source, place, engine.error_sentence(str(error)), columns_of
                ) from error
            try:
                for _ in relation.to_arrow_reader(BATCH_ROWS):
                    pass
            except duckdb.ConversionException:
                what = "it compares or computes a number or a time with a text that is none (try_cast makes it null)"
            except duckdb.OutOfRangeException:
                what = "a number becomes too large in it"
            except duckdb.InvalidInputException:
                what = "a function in it can't be computed of a row"
            else:
                continue
            raise _expression_error(source, place, what, columns_of) from None
        raise


def _expression_error(source: Source, place: str, what: str, columns_of: str) -> UsageError:
    return UsageError(
        f"The source {source.name} cannot be used: {place}: {what}; its expressions are Spark SQL over the columns"
        f"{columns_of}."
    )


def count_pieces(settings: Settings, bronze: Mapping[str, TableRef]) -> int:
    """How many pieces of the patients of bronze's tables are judged one after the other."""
    n_rows = sum(lake.dataset(settings, ref).count_rows() for ref in bronze.values())
    return -(-n_rows // PIECE_ROWS) or 1


def of_bronze(settings: Settings, source: Source, bronze: Mapping[str, TableRef]) -> TextBatches:
    """Readers of bronze's tables, of their declared columns alone; texts that recur come as dictionaries."""
    return {name: partial(_read_facts, settings, source, name, ref) for name, ref in bronze.items()}


def _read_facts(settings: Settings, source: Source, name: str, ref: TableRef) -> Iterator[pa.RecordBatch]:
    from pyarrow import parquet

    needed = ("file", "line", *source.tables[name].columns)
    for uri in lake.files(settings, ref):
        files, path = lake.filesystem(uri)
        with files.open_input_file(path) as opened:
            written = parquet.read_metadata(opened)
            there = set(written.schema.names)  # an optional column may be missing
            file = parquet.ParquetFile(opened, metadata=written, read_dictionary=_dictionaries(written))
            yield from file.iter_batches(BATCH_ROWS, columns=[column for column in needed if column in there])


def _dictionaries(written: "parquet.FileMetaData") -> list[str]:
    """The columns of texts that lie in a file as dictionaries; to make one of another costs more than to read it."""
    if not written.num_row_groups:
        return []
    group = written.row_group(0)
    columns = (group.column(number) for number in range(group.num_columns))
    return [
        column.path_in_schema
        for column in columns
        if column.has_dictionary_page and column.physical_type == "BYTE_ARRAY"
    ]


def usable(settings: Settings, judged_facts: TableRef) -> Iterator[pa.RecordBatch]:
    """The rows of a version of ``facts`` that break no rule, as they lie in its files, in the columns of ``EVENTS``;
    texts come as dictionaries."""
    from pyarrow import parquet

    columns = [name for name in FACTS.column_names if name in EVENTS.column_names]
    texts = [name for name in columns if pa.types.is_string(FACTS.arrow_schema().field(name).type)]
    for uri in lake.files(settings, judged_facts):
        files, path = lake.filesystem(uri)
        with files.open_input_file(path) as opened:
            file = parquet.ParquetFile(opened, read_dictionary=texts)
            for rows in file.iter_batches(BATCH_ROWS, columns=[*columns, "broken"]):
                yield rows.filter(rows["broken"].is_null()).drop_columns("broken")


def judged_last(
    settings: Settings, judged_facts: TableRef, columns: Sequence[str], rows_of: "ds.Expression"
) -> Iterator[pa.Table]:
    """Some rows of a version of ``facts``, of each patient those of the commit that judged the patient last: who is
    judged again is appended."""
    subjects = pa.array([], pa.int64())
    for rows in lake.newest_first(settings, judged_facts, ["subject_id", *columns], rows_of):
        yield rows.filter(pc.invert(pc.is_in(rows["subject_id"], value_set=subjects)))
        subjects = pa.concat_arrays([subjects, rows["subject_id"].combine_chunks()]).unique()
