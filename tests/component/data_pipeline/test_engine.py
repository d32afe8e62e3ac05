"""What an expression of a source's file gives: DuckDB, to which it is carried, against Spark, whose SQL it is."""

import datetime as dt
import os
import signal
import threading
from time import monotonic
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest

from data_pipeline.ingest import engine
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
)


def test_an_expression_gives_what_spark_gives(spark: "SparkSession", settings: Settings) -> None:
    sql = f"select {', '.join(f'{text} as c{i}' for i, text in enumerate(EXPRESSIONS))} from drawn"
    typed = ", ".join(f"cast({name} as {kind}) as {name}" for name, kind in TYPES.items())
    spark.createDataFrame(
        ROWS.to_pylist(), ", ".join(f"{n} {k}" for n, k in TYPES.items())
    ).createOrReplaceTempView("raw")
    spark.sql(f"select {typed} from raw").createOrReplaceTempView("drawn")
    by_spark = [tuple(row) for row in spark.sql(sql).collect()]
    with engine.connection(settings) as database:
        database.register("drawn", ROWS)
        by_engine = database.execute(engine.transpile(sql)).fetchall()
    for i, text in enumerate(EXPRESSIONS):
        assert [plain(row[i]) for row in by_engine] == [plain(row[i]) for row in by_spark], text


def plain(value: Any) -> Any:
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
