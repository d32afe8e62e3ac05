"""The engine of ingest: DuckDB, to which the Spark SQL of the sources' files is carried by sqlglot.

What the two mean differently is put right on the way: numbers become whole by cutting off, as Spark's do, decimal
numbers become texts in Java's spelling, and patterns that look ahead are searched by Python.
"""

import gc
import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from functools import lru_cache, reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data_pipeline.ingest import compiled_sql, parsing, spark_functions
from mediscale.core.settings import Settings
from mediscale.storage import duckdb_tables, locks, spark, workers

if TYPE_CHECKING:
    import duckdb
    from sqlglot.expressions import Expr

BATCH_ROWS = 1 << 16

HASH_SEED = 42
"""Of Spark's ``xxhash64``."""
PSEUDONYM_BITS = 2**53 - 1
"""What JSON holds exactly."""


@contextmanager
def connection(settings: Settings) -> Iterator["duckdb.DuckDBPyConnection"]:
    """An empty database in memory; what is more than the memory that the settings give lies in a folder of the home."""
    import duckdb

    with _scratch(settings) as folder, compiled_sql.cached_in(settings, __name__):
        opened = duckdb.connect(
            config={
                "temp_directory": str(folder),
                "memory_limit": f"{settings.spark_memory[:-1]}{settings.spark_memory[-1].upper()}B",
                "threads": workers.cores(settings),
                "preserve_insertion_order": False,
                "autoinstall_known_extensions": False,
                "autoload_known_extensions": False,
            }
        )
        try:
            opened.execute("set timezone = 'UTC'")
            _add_functions(opened)
            with duckdb_tables.interruptible(opened):
                yield opened
        finally:
            opened.close()


@contextmanager
def _scratch(settings: Settings) -> Iterator[Path]:
    """A folder for this process alone; what killed ones left behind is deleted."""
    folder = spark.delete_stale_shuffles(settings)
    slot, lock = locks.claim(folder)
    own = folder / str(slot)
    try:
        own.mkdir(exist_ok=True)
        yield own
    finally:
        shutil.rmtree(own, ignore_errors=True)
        lock.close()


def scratch(database: "duckdb.DuckDBPyConnection") -> Path:
    """The folder of a connection's own, which is deleted with it."""
    [(folder,)] = database.execute("select current_setting('temp_directory')").fetchall()
    return Path(folder)


def _add_functions(opened: "duckdb.DuckDBPyConnection") -> None:
    """What Spark SQL has and DuckDB has not."""
    special: Any = {"type": "arrow", "null_handling": "special"}
    opened.create_function("hash_text", hash_text, ["VARCHAR", "BIGINT"], "BIGINT", **special)
    opened.create_function("rlike", _rlike, ["VARCHAR", "VARCHAR"], "BOOLEAN", **special)
    opened.create_function("java_double", _java_doubles, ["DOUBLE"], "VARCHAR", **special)
    opened.execute(
        "create macro spark_text(x) as case typeof(x) when 'DOUBLE' then "
        "case when x is null then null when abs(try_cast(x as double)) >= 0.001 and abs(try_cast(x as double)) < 1e7 "
        "then cast(x as varchar) else java_double(try_cast(x as double)) end else cast(x as varchar) end"
    )
    opened.execute(
        "create macro cut(x) as case when typeof(x) in ('DOUBLE', 'FLOAT') or starts_with(typeof(x), 'DECIMAL') "
        "then try_cast(trunc(try_cast(x as double)) as hugeint) "
        "when typeof(x) = 'VARCHAR' and not regexp_full_match(cast(x as varchar), '\\s*[+-]?[0-9]+\\s*') then null "
        "else try_cast(x as hugeint) end"
    )
    for macro in spark_functions.MACROS:
        opened.execute(macro)


def hash_text(texts: pa.ChunkedArray, seeds: pa.ChunkedArray) -> pa.ChunkedArray:
    """Spark's ``xxhash64`` of UTF-8 texts; the seed is what it gave for the columns before, and a null leaves it so."""
    from xxhash import xxh64_intdigest

    before = seeds.to_numpy().view(np.uint64)
    utf8 = texts.fill_null("").cast(pa.binary()).to_pylist()
    hashed = np.fromiter(map(xxh64_intdigest, utf8, before.tolist()), np.uint64, len(before))
    if texts.null_count:
        hashed = np.where(texts.is_null(), before, hashed)
    return pa.chunked_array([hashed.view(np.int64)])


def pseudonyms(identifiers: pa.Array, dataset: str) -> pa.Array:
    """The pseudonyms of identifiers, as ``extract_facts.pseudonym_sql`` has them: 53 bits of a hash."""
    from xxhash import xxh64_intdigest

    return parsing.map_distinct(
        identifiers,
        lambda identifier: xxh64_intdigest(f"{dataset}|{identifier}".encode(), HASH_SEED) & PSEUDONYM_BITS,
        pa.int64(),
    )


def _rlike(texts: pa.ChunkedArray, patterns: pa.ChunkedArray) -> pa.Array:
    """Whether a pattern is found in a text."""
    distinct = pc.unique(patterns).drop_null().to_pylist()
    compiled = {
        pattern: re.compile(pattern, re.ASCII) for pattern in distinct
    }  # as Java's, of Latin letters alone
    if len(compiled) == 1 and not patterns.null_count:
        search = next(iter(compiled.values())).search
        return parsing.map_distinct(
            pa.concat_arrays(texts.chunks), lambda text: search(text) is not None, pa.bool_()
        )
    pairs = zip(texts.to_pylist(), patterns.to_pylist(), strict=True)
    return pa.array(
        [None if t is None or p is None else compiled[p].search(t) is not None for t, p in pairs], pa.bool_()
    )


def _java_doubles(numbers: pa.ChunkedArray) -> pa.Array:
    return pa.array([None if n is None else _java_double(n) for n in numbers.to_pylist()], pa.string())


def _java_double(number: float) -> str:
    """A number as Java writes it: digits before and after the point where it is from 0.001 to 10,000,000.

    >>> _java_double(12500000.0), _java_double(0.00012), _java_double(0.0)
    ('1.25E7', '1.2E-4', '0.0')
    """
    if number != number or number in (float("inf"), float("-inf")):
        return {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}[str(number)]
    if number == 0 or 1e-3 <= abs(number) < 1e7:
        return repr(number)
    parts = Decimal(repr(number)).normalize().as_tuple()
    digits, exponent = "".join(map(str, parts.digits)), int(parts.exponent) + len(parts.digits) - 1
    return f"{'-' if parts.sign else ''}{digits[0]}.{digits[1:] or '0'}E{exponent}"


@lru_cache(256)
def transpile(spark_sql: str) -> str:
    """A text of Spark SQL in DuckDB's. A stream asks for the same few texts batch after batch.

    Raises:
        sqlglot.errors.SqlglotError: it is no SQL, or has what DuckDB can't do.
    """
    return compiled_sql.compiled_text(spark_sql, _transpile)


def _transpile(spark_sql: str) -> str:
    import sqlglot

    with _without_garbage_collection():
        tree = sqlglot.parse_one(spark_sql, read="spark")
        for node in reversed(list(tree.walk())):  # what a function is given is put right before it
            spark_functions.check(node)
            better = spark_functions.put_right(node)
            better = better if better is not node else _to_duckdb(node)
            if better is not node:
                node.replace(better)
        return tree.sql("duckdb", unsupported_level=sqlglot.ErrorLevel.RAISE)


@contextmanager
def _without_garbage_collection() -> Iterator[None]:
    """A tree of ten thousand nodes, all of them in use, would have everything that is in memory searched again and
    again."""
    running = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if running:
            gc.enable()


def _to_duckdb(node: "Expr") -> "Expr":
    from sqlglot import exp

    if isinstance(node, exp.Anonymous):
        return _function(node)
    if isinstance(node, exp.Interval) and isinstance(node.args.get("unit"), exp.IntervalSpan):
        return _years_to_months(node)
    if isinstance(node, exp.RegexpLike):
        pattern = node.expression
        if isinstance(pattern, exp.Literal) and spark_functions.is_simple(pattern.this):
            return node
        return exp.Anonymous(this="rlike", expressions=[node.this.copy(), pattern.copy()])
    kind = node.to.this if isinstance(node, exp.Cast) and not node.to.expressions else None
    if isinstance(node, exp.Cast) and kind in (
        exp.DType.INT,
        exp.DType.BIGINT,
        exp.DType.SMALLINT,
        exp.DType.TINYINT,
    ):
        return exp.TryCast(
            this=exp.Anonymous(this="cut", expressions=[node.this.copy()]), to=node.args["to"].copy()
        )
    if isinstance(node, exp.Cast) and kind in (exp.DType.TEXT, exp.DType.VARCHAR):
        return node if isinstance(node.this, exp.Null) else _text(node.this)  # a null takes no macro
    if isinstance(node, exp.Concat | exp.ConcatWs):
        node.set("expressions", [_text(part) for part in node.expressions])
    if isinstance(node, exp.DPipe):
        node.set("this", _text(node.this))
        node.set("expression", _text(node.expression))
    if isinstance(node, exp.Cast) and not isinstance(node.this, exp.Column | exp.Literal | exp.Null):
        return _lenient_cast(node)
    return node


def _lenient_cast(node: "Expr") -> "Expr":
    """A cast that is null where what it is of can't be computed: an interval or a day may be out of all range."""
    from sqlglot import exp

    return exp.TryCast(
        this=exp.Anonymous(this="try", expressions=[node.this.copy()]), to=node.args["to"].copy()
    )


def _years_to_months(node: "Expr") -> "Expr":
    """``interval '91-5' year to month``; spans of days and hours are left as they are, which DuckDB refuses."""
    from sqlglot import exp

    if node.args["unit"].sql().upper() != "YEAR TO MONTH":
        return node
    years, _, months = node.this.name.partition("-")
    return exp.Interval(this=exp.Literal.string(f"{years} years {months or 0} months"))


def _function(node: "Expr") -> "Expr":
    """A function that sqlglot hands through as it is."""
    from sqlglot import exp

    name, arguments = node.name.lower(), node.expressions
    if name == "xxhash64":
        return _chained_hash(arguments)
    if name == "make_date":
        return exp.Anonymous(this="try", expressions=[node.copy()])
    if name == "make_timestamp_ntz":
        timestamp = exp.Anonymous(
            this="make_timestamp", expressions=[argument.copy() for argument in arguments]
        )
        return exp.Anonymous(this="try", expressions=[timestamp])
    if name == "make_dt_interval":
        return _days_to_seconds(arguments)
    return node


def _days_to_seconds(arguments: "list[Expr]") -> "Expr":
    from sqlglot import exp

    whole = [
        exp.TryCast(
            this=exp.Anonymous(this="cut", expressions=[argument.copy()]), to=exp.DataType.build(kind)
        )
        for argument, kind in zip(arguments[:3], ("int", "bigint", "bigint"), strict=False)
    ]
    units = ("to_days", "to_hours", "to_minutes")
    parts: list[Any] = [exp.Anonymous(this=u, expressions=[n]) for u, n in zip(units, whole, strict=False)]
    parts += [exp.Anonymous(this="to_seconds", expressions=[second.copy()]) for second in arguments[3:4]]
    return exp.Paren(this=reduce(lambda a, b: exp.Add(this=a, expression=b), parts))


def _chained_hash(arguments: "list[Expr]") -> "Expr":
    """``xxhash64`` of several columns: each column's hash is the seed of the next one's."""
    from sqlglot import exp

    constant, rest = HASH_SEED, list(arguments)
    while rest and isinstance(rest[0], exp.Literal) and rest[0].is_string:
        [constant] = hash_text(
            pa.chunked_array([[rest.pop(0).this]]), pa.chunked_array([[constant]])
        ).to_pylist()
    chained: Expr = exp.cast(exp.Literal.number(constant), "bigint")
    for argument in rest:
        chained = exp.Anonymous(this="hash_text", expressions=[_text(argument), chained])
    return chained


def _text(node: "Expr") -> "Expr":
    """An expression as a text: what is none yet in Spark's spelling, by a macro that the engine takes long to plan."""
    from sqlglot import exp

    plain = isinstance(node, exp.Concat | exp.ConcatWs | exp.DPipe | exp.Lower | exp.Upper)
    plain |= isinstance(node, exp.Literal) and node.is_string
    plain |= isinstance(node, exp.Anonymous) and node.name == "spark_text"
    plain |= isinstance(node, exp.Cast) and isinstance(node.this, exp.Null) and node.to.this == exp.DType.TEXT
    return node if plain else exp.Anonymous(this="spark_text", expressions=[node.copy()])


def error_sentence(text: str) -> str:
    """The first sentence of what the engine says of an expression, without its plan and its codes.

    >>> error_sentence('Binder Error: Referenced column "x" not found in FROM clause!\\nCandidate bindings: "y"')
    'Referenced column `x` not found in FROM clause'
    """
    plain = re.sub(r"^[A-Za-z ]+ Error: ", "", text.strip().splitlines()[0])
    return re.split(r"\. |!|: |\.$", plain)[0].replace('"', "`")


def batches(database: "duckdb.DuckDBPyConnection", sql: str) -> Iterator[pa.RecordBatch]:
    """The rows of a query, as they come."""
    yield from database.sql(sql).to_arrow_reader(BATCH_ROWS)


def create_table(
    database: "duckdb.DuckDBPyConnection", table: str, schema: pa.Schema, rows: Iterable[pa.RecordBatch]
) -> None:
    """Keeps rows as a table of the database; what reading them raises is raised as it is."""
    import duckdb

    raised: list[BaseException] = []  # Ctrl-C among them, which DuckDB would make an error of its own

    def watched() -> Iterator[pa.RecordBatch]:
        try:
            yield from rows
        except BaseException as error:
            raised.append(error)
            raise

    database.register("incoming", pa.RecordBatchReader.from_batches(schema, watched()))
    try:
        database.execute(f"create table {table} as select * from incoming")
    except duckdb.Error:
        if raised:
            raise raised[0] from None
        raise
    finally:
        database.unregister("incoming")
