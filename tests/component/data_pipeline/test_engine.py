"""What an expression of a source's file gives: DuckDB, to which it is carried, against Spark, whose SQL it is."""

import datetime as dt
import os
import signal
import threading
from time import monotonic
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
import sqlglot
from sqlglot import exp
from sqlglot.errors import UnsupportedError

from data_pipeline.ingest import engine, spark_functions
from mediscale.core.settings import Settings

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

ROWS = pa.table(
    {
        "s": ["Norepinephrine", "phenylephrine oph", "phenylephrine drip", "14/90", "é ß", "", None],
        "u": ["a", None, "c", None, "e|f", "", None],
        "n": [0.0001, 1e7, 123456789.25, -2.5, 0.0, 2.5, None],
        "k": [1.0, 2.0, 12.0, 7.0, None, 3.0, 4.0],
        "t": [
            dt.datetime(2150, 1, 31, 23, 59, 59, 500_000), dt.datetime(1999, 12, 31), dt.datetime(2000, 2, 29, 1),
            None, dt.datetime(2150, 1, 1), dt.datetime(1600, 1, 1, 12, 30), dt.datetime(2020, 5, 5),
        ],
        "o": [dt.datetime(2150, 1, 1), None, dt.datetime(2000, 3, 1), None, dt.datetime(2149, 1, 1, 1), None, None],
        "b": [True, False, None, True, False, None, True],
    }
)  # fmt: skip
TYPES = {"s": "string", "u": "string", "n": "double", "k": "double", "t": "timestamp_ntz", "o": "timestamp_ntz",
         "b": "boolean"}  # fmt: skip
EXPRESSIONS = (
    "xxhash64('ds', 'labevents', 'result', s, u)",
    "xxhash64(concat_ws('|', 'ds', s)) & 9007199254740991",
    "xxhash64('ds', 't', 'f', concat_ws('|', s, u, n, t, b))",
    "concat('LAB//', s)",
    "concat(s, '//', u)",
    "s || u",
    "concat_ws('|', s, t, o, n)",
    "cast(n as string)",
    "concat('x', n)",
    "int(n)",
    "cast(k as bigint)",
    "greatest(t, o)",
    "least(t, o)",
    "make_date(int(k + 2000), 7, 1)",
    "make_timestamp_ntz(2000, int(k), 1, 0, 0, 0)",
    "t + make_dt_interval(int(k))",
    "t + make_dt_interval(0, 0, int(k))",
    "t + interval 12 hours - interval 1 second",
    "t - interval '91-5' year to month",
    "t < o - interval 200 years",
    "date_trunc('day', t) = t",
    "abs(datediff(t, o)) > 1",
    "year(t)",
    "lower(s) rlike '^(nor)?epinephrine|^phenylephrine(?!.*(oph|nas))'",
    "s rlike '^[0-9]+/'",
    "nullif(regexp_extract(s, '^([0-9.]+) ?/ ?([0-9.]+)$', 2), '')",
    "try_cast(u as double)",
    "if(n <= 1, n * 100, n)",
    "(n - 32) / 1.8",
    "n * 0.45359237",
    "coalesce(u, s, 'none')",
    "case when b then 'yes' when k > 2 then s end",
    "replace(s, 'e', 'E')",
    "upper(u) in ('A', 'C')",
    "isnan(n) = false and n between 0 and 10",
    "not b or n is not null",
    "nullif(concat_ws(',', case when not (n > 0) then 'low' end, case when not (b) then 'no' end), '')",
    "map('a', 1, 'c', 2)[lower(coalesce(u, ''))]",
    "timestamp_ntz'2000-01-01 00:00:00' + make_dt_interval(0, 0, 90)",
    "substring(s, 1, 3)",
    # What DuckDB means otherwise, or its translation loses: put right.
    "months_between(t, o)",
    "floor(months_between(t, o) / 12)",
    "months_between(t, o, false)",
    "datediff(day, o, t)",
    "datediff(hour, o, t)",
    "timestampdiff(month, o, t)",
    "timestampdiff(year, o, t)",
    "timestampdiff(minute, o, t)",
    "dayofweek(t)",
    "weekday(t)",
    "concat('on ', date_add(t, 1))",
    "concat('on ', date_sub(t, 400))",
    "add_months(t, 1)",
    "trunc(t, 'month')",
    "substring(s, 0, 3)",
    "substring(s, int(k) - 2, 2)",
    "left(s, int(k) - 3)",
    "right(s, int(k) - 3)",
    "ln(k - 1)",
    "log10(k - 2)",
    "log(2, k)",
    "regexp_replace(s, '([0-9])', '<$1>')",
    "s like 'e\\\\_%'",
    "isnan(n)",
    "concat('x', floor(n), ceil(k / 2))",
    "try_cast('-7.5' as int)",
    "try_cast('1_000' as int)",
    "'\u0663' rlike '^(?=\\\\d)'",
    "upper(s)",
    "int(k) % 5",
    "int(k) div 2",
    # The other functions that an expression may use.
    "abs(n)",
    "sign(n)",
    "sqrt(k)",
    "cbrt(k)",
    "exp(k)",
    "pow(k, 2)",
    "round(k / 3, 2)",
    "try_divide(n, k)",
    "array_join(array_compact(array(s, u)), '-')",
    "split(s, ' ')[0]",
    "size(split(s, 'e'))",
    "split_part(s, '/', 2)",
    "contains(s, 'ph')",
    "startswith(s, 'phe')",
    "endswith(s, 'h')",
    "length(s)",
    "bit_length(s)",
    "s rlike '^\\\\p{L}+'",
    "lower(s)",
    "lpad(s, 5, '0')",
    "md5(s)",
    "sha2(s, 256)",
    "repeat(s, 2)",
    "reverse(s)",
    "left(s, 3)",
    "right(s, 3)",
    "translate(s, 'en', 'EN')",
    "trim(concat(' ', s, ' '))",
    "instr(s, 'e')",
    "regexp_like(s, '^[0-9]+$')",
    "decode(s, '14/90', 'bp', 'other')",
    "nvl2(u, 'known', 'unknown')",
    "equal_null(s, u)",
    "month(t)",
    "quarter(t)",
    "weekofyear(t)",
    "day(t)",
    "dayofmonth(t)",
    "dayofyear(t)",
    "hour(t)",
    "minute(t)",
    "second(t)",
    "extract(hour from t)",
    "last_day(t)",
    "to_date(t)",
    "unix_date(to_date(t))",
    "date_format(t, 'dd.MM.yyyy HH:mm:ss')",
    "dateadd(hour, 2, t)",
    "if(b and k > 1 or n > 0, 1, 0)",
)
AGGREGATES = (
    "max(s)",
    "min(t)",
    "sum(k)",
    "avg(n)",
    "median(k)",
    "stddev(k)",
    "count(distinct u)",
    "count_if(k > 2)",
    "bool_or(b)",
    "bool_and(b)",
    "max_by(s, k)",
    "min_by(u, k)",
)
OF_OUR_QUERIES = {"Explode", "RowNumber", "UnixMicros"}
"""Functions of the queries that hold the expressions."""
REFUSED = (
    "percentile_approx(k, 0.9)",
    "hash(s)",
    "format_string('%s', s)",
    "from_utc_timestamp(t, 'Europe/Zurich')",
    "to_date(s, 'dd.MM.yyyy')",
    "date_format(t, 'Q')",
    "date_format(t, 'DDD')",
    "extract(dow from t)",
    "extract(second from t)",
    "regexp_extract(s, '[0-9]+')",
    "s rlike '[[:digit:]]'",
    "s rlike '[a-z&&[^e]]'",
    "'it''s'",
    "concat_ws(',', array(s, u))",
    "t + interval '1.5' hour",
    "t + make_dt_interval()",
    "to_timestamp_ntz(s)",
    "locate('e', s, 0)",
    "trunc(t, 'foo')",
    "floor(n, 1)",
    "initcap(s)",
    "s rlike '('",
    "regexp_replace(s, '^0+(?!$)', '')",
    "t > date'2024-02-30'",
    "current_user()",
)


def test_an_expression_gives_what_spark_gives(spark: "SparkSession", settings: Settings) -> None:
    typed = ", ".join(f"cast({name} as {kind}) as {name}" for name, kind in TYPES.items())
    spark.createDataFrame(
        ROWS.to_pylist(), ", ".join(f"{n} {k}" for n, k in TYPES.items())
    ).createOrReplaceTempView("raw")
    spark.sql(f"select {typed} from raw").createOrReplaceTempView("drawn")
    for expressions in (EXPRESSIONS, AGGREGATES):
        sql = f"select {', '.join(f'{text} as c{i}' for i, text in enumerate(expressions))} from drawn"
        by_spark = [tuple(row) for row in spark.sql(sql).collect()]
        with engine.connection(settings) as database:
            database.register("drawn", ROWS)
            by_engine = database.execute(engine.transpile(sql)).fetchall()
        for i, text in enumerate(expressions):
            assert [plain(row[i]) for row in by_engine] == [plain(row[i]) for row in by_spark], text


def test_every_function_that_an_expression_may_use_is_compared_with_spark() -> None:
    compared = set()
    for text in (*EXPRESSIONS, *AGGREGATES):
        for node in sqlglot.parse_one(f"select {text}", read="spark").walk():
            compared.add(node.name.lower() if isinstance(node, exp.Anonymous) else type(node).__name__)
    assert spark_functions.FUNCTIONS - compared == OF_OUR_QUERIES


@pytest.mark.parametrize("text", REFUSED)
def test_what_the_engine_would_compute_otherwise_is_refused(text: str) -> None:
    with pytest.raises(UnsupportedError):
        engine.transpile(f"select {text} from drawn")


def test_a_time_out_of_all_range_is_none(settings: Settings) -> None:
    """It loses the row and not the run."""
    late = "cast(timestamp_ntz'2024-01-01 00:00:00' + make_dt_interval(0, 0, 0, n) as timestamp_ntz)"
    with engine.connection(settings) as database:
        database.register("drawn", pa.table({"n": [1e300, 60.0]}))
        rows = database.execute(engine.transpile(f"select {late} from drawn")).fetchall()
    assert rows == [(None,), (dt.datetime(2024, 1, 1, 0, 1),)]


def plain(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.12g}")
    return value.isoformat() if isinstance(value, dt.date) else value


@pytest.mark.parametrize("folder", ["a home", "home"])
def test_nothing_is_left_of_a_database_in_the_home(settings: Settings, folder: str) -> None:
    home = Settings(home=settings.home / folder)
    with engine.connection(home) as database:
        database.execute("create table many as select range as n from range(100000)")
        assert list((home.home / "spark" / "local").glob("*"))
    assert [path.suffix for path in (home.home / "spark" / "local").iterdir()] == [".lock"]


@pytest.mark.usefixtures("keyboard")
def test_ctrl_c_ends_a_query_at_once(settings: Settings) -> None:
    """A sort of a hundred million rows takes half a minute, in which DuckDB by itself looks for no signal."""

    def sort() -> None:
        with engine.connection(settings) as database:
            threading.Timer(1, os.kill, (os.getpid(), signal.SIGINT)).start()
            database.execute(
                "create table sorted as select hash(range) as h from range(100_000_000) order by h"
            )

    began = monotonic()
    with pytest.raises(KeyboardInterrupt):
        sort()
    assert monotonic() - began < 15
