"""Facts of an extract's rows: texts are typed, the source's compiled query finds the candidates, rules judge them.

All of it runs in one database of the engine (``data_pipeline.ingest.engine``), without Spark.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from data_pipeline.ingest import engine, extract_facts, placing
from data_pipeline.ingest.patient_pieces import PatientPieces
from data_pipeline.ingest.source import Source
from data_pipeline.ingest.typed_tables import arrow_schema, map_typed, type_rows
from mediscale.core.errors import UsageError
from mediscale.core.refs import TableRef
from mediscale.core.settings import Settings
from mediscale.core.table import Table
from mediscale.core.tables import EVENTS, FACTS
from mediscale.storage import lake

if TYPE_CHECKING:
    import duckdb
    from pyarrow import dataset as ds
    from pyarrow import parquet

BATCH_ROWS = 1 << 17

PIECE_ROWS = 1 << 19
"""Rows of a table that are typed before their facts are computed, and rows of the extract for each piece of its
patients, who are judged together: what is in memory at once does not grow with the extract."""

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
        _keep(database, source, tables, dataset, name)


def _keep(
    database: "duckdb.DuckDBPyConnection", source: Source, tables: "TextBatches", dataset: str, name: str
) -> None:
    _keep_rows(database, source, dataset, name, tables[name]())


def _keep_rows(
    database: "duckdb.DuckDBPyConnection",
    source: Source,
    dataset: str,
    name: str,
    texts: Iterable[pa.RecordBatch],
) -> None:
    rows = (_typed(source, dataset, name, batch) for batch in texts)
    engine.create_table(database, f"t_{name}", _schema(source, name), rows)
    if (through := source.tables[name].patient_through) is not None:
        database.execute(f"alter table t_{name} drop column {extract_facts.SUBJECT}")
        owned = extract_facts.with_patient(source, name, through, [extract_facts.SUBJECT])
        database.execute(f"create or replace table t_{name} as {engine.transpile(owned)}")


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


def candidates(
    database: "duckdb.DuckDBPyConnection",
    source: Source,
    tables: "TextBatches",
    dataset: str,
    named: bool = False,
) -> str:
    """The query, in the engine's SQL, of the candidate facts of tables, which are computed first.

    It has the columns of ``FACTS`` except ``broken``, what its rules use and, where ``named``, the name of each
    ``fact`` in the source. A table that no other is joined to is in memory for its own facts alone.

    Raises:
        UsageError: an expression of the source can't be computed; the error names the fact.
    """
    into = "create or replace temp table facts as"
    for place, sql in _fact_queries(database, source, tables, dataset, named):
        _compute(database, source, into, sql, *place)
        into = "insert into facts"
    return engine.transpile(extract_facts.candidates_query(source))


def _fact_queries(
    database: "duckdb.DuckDBPyConnection",
    source: Source,
    tables: "TextBatches",
    dataset: str,
    named: bool = False,
) -> Iterator[tuple[tuple[str, str], str]]:
    """The Spark SQL of each fact, with its place in the source, while rows that it reads are in the engine: of a table
    that no other is joined to a piece after the other, for a fact is of one row."""
    present = set(tables)
    stay = extract_facts.needed_tables(source, *present & extract_facts.tables_joined(source))
    load(database, source, tables, dataset, stay)
    for name, sql in extract_facts.joined_tables(source, present, dataset):
        place = f"lookups.{name}" if name in source.lookups else name
        _compute(database, source, f"create or replace temp table {name} as", sql, place)
    for name in (name for name, table in source.tables.items() if name in present and table.facts):
        queries = [
            ((f"tables.{name}.facts.{fact}", f" of {name}"), sql)
            for fact, sql in extract_facts.fact_queries(source, name, dataset, named)
        ]
        if name in stay:
            yield from queries
            continue
        for texts in _in_pieces(tables[name]()):
            _keep_rows(database, source, dataset, name, texts)
            yield from queries
            database.execute(f"drop table t_{name}")


def _in_pieces(batches: Iterable[pa.RecordBatch]) -> Iterator[list[pa.RecordBatch]]:
    """Batches of ``PIECE_ROWS`` rows together, and one piece at least."""
    piece: list[pa.RecordBatch] = []
    rows = 0
    for batch in batches:
        if rows >= PIECE_ROWS:
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
        UsageError: as ``candidates``.
    """
    if pieces == 1:
        yield from _in_order(database, candidates(database, source, tables, dataset))
        return
    apart = PatientPieces(engine.scratch(database), pieces)
    for place, sql in _fact_queries(database, source, tables, dataset):
        _compute(database, source, "create or replace temp view stated as", sql, *place)
        apart.add(engine.batches(database, "select * from stated"))
    query = engine.transpile(extract_facts.candidates_query(source))
    for rows in apart.read():
        database.register("facts", rows)
        yield from _in_order(database, query)
        database.unregister("facts")
        del rows  # before the next piece is read


def _in_order(database: "duckdb.DuckDBPyConnection", candidate_facts: str) -> Iterator[pa.RecordBatch]:
    columns, rows = ", ".join(FACTS.column_names), judged(candidate_facts, FACTS)
    yield from engine.batches(database, f"select {columns} from ({rows}) order by {', '.join(placing.ORDER)}")


def _compute(
    database: "duckdb.DuckDBPyConnection",
    source: Source,
    into: str,
    sql: str,
    place: str,
    columns_of: str = "",
) -> None:
    """Computes a query of a source's declaration into a table.

    Raises:
        UsageError: it can't be carried to the engine, or the engine refuses it before it runs.
    """
    import duckdb
    from sqlglot.errors import SqlglotError

    carried = ""
    try:
        carried = engine.transpile(sql)
        database.execute(f"{into} {carried}")
    except (SqlglotError, duckdb.Error) as error:
        if carried and _is_bound(database, carried):
            raise
        raise UsageError(
            f"The source {source.name} cannot be used: {place}: {engine.error_sentence(str(error))}; its expressions "
            f"are Spark SQL over the columns{columns_of}."
        ) from error


def _is_bound(database: "duckdb.DuckDBPyConnection", sql: str) -> bool:
    """Whether the engine has nothing against a query, without running it."""
    import duckdb

    try:
        database.execute(f"describe {sql}").fetchall()
    except duckdb.Error:
        return False
    return True


def judged(candidate_facts: str, rules: Table) -> str:
    """The query of facts with ``broken``: the rules that each breaks (``Table.broken_rules``), null for nearly all."""
    passes = " and ".join(f"coalesce({rule.passes}, true)" for rule in rules.all_rules)
    broken = engine.transpile(f"select if({passes}, null, {rules.broken_rules}) as broken").removeprefix(
        "SELECT "
    )
    return f"select *, {broken} from ({candidate_facts})"


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
