"""Subject shards: Spark distributes the shards, and a worker reads the files of its shard itself, without a shuffle."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from mediscale.core import errors
from mediscale.core.refs import TableRef
from mediscale.core.settings import Settings
from mediscale.core.table import SHARD
from mediscale.core.tables import BRONZE, EVENTS
from mediscale.storage import lake

if TYPE_CHECKING:
    from pyspark.sql import DataFrame
    from pyspark.sql.types import StructType

ShardFunction = Callable[[int], pa.Table]
"""From a shard's number to that shard's rows. It runs in a worker process, so it must be importable there."""


def read(settings: Settings, events: TableRef, shard: int, columns: Sequence[str]) -> pa.Table:
    """The given columns of a shard's assertions, an empty table where it has none; ``code`` is dictionary-encoded."""
    from pyarrow import parquet

    parts = []
    for uri in lake.files(settings, events, (SHARD, str(shard))):
        filesystem, path = lake.filesystem(uri)
        parts.append(
            parquet.read_table(
                path,
                columns=list(columns),
                filesystem=filesystem,
                read_dictionary=["code"] if "code" in columns else None,
                partitioning=None,
            )
        )
    empty = EVENTS.arrow_schema().empty_table().select(list(columns))
    return pa.concat_tables(parts) if parts else empty


def read_shards(settings: Settings, events: TableRef, numbers: Sequence[int]) -> pa.Table:
    """All columns of the assertions in some shards."""
    of_shards = pc.field(SHARD).isin(list(numbers))
    return (
        lake.dataset(settings, events)
        .to_table(columns=list(EVENTS.column_names), filter=of_shards)
        .cast(EVENTS.arrow_schema())
    )


def predicate(numbers: Sequence[int]) -> str:
    """The rows of some shards, for ``lake.commit``."""
    return f"{SHARD} IN ({', '.join(map(str, numbers))})"


def in_order(events: pa.Table) -> pa.Table:
    """Events as the files of a shard have them: by subject and time."""
    keys = (SHARD, "subject_id", "time", "available_time", "event_id")
    return events.sort_by([(key, "ascending") for key in keys])


def except_all(rows: pa.Table, others: pa.Table) -> pa.Table:
    """The rows without one equal row for each of ``others``; null equals null. Both have the same columns."""
    import duckdb

    with duckdb.connect() as connection:
        connection.register("own", rows)
        connection.register("others", others.select(rows.column_names))
        result = connection.sql("select * from own except all select * from others").to_arrow_table()
    return result.cast(rows.schema)


def revise(
    settings: Settings,
    dataset: str,
    table: str,
    rows: pa.Table,
    made_from: TableRef | None,
    replacing: str | None = None,
    n_shards: int | None = None,
) -> None:
    """Commits what was made from one version of a table, as ``lake.commit``, if that is still the newest.

    Raises:
        BusyError: somebody was first.
    """
    number = 0 if made_from is None else made_from.version + 1
    facts = {SHARD_COUNT: n_shards} if n_shards is not None else None
    lake.commit(
        settings,
        table,
        rows,
        dataset,
        {"revision": number},
        made_from=made_from,
        replacing=replacing,
        facts=facts,
    )


def compact(settings: Settings, dataset: str, subject: str) -> tuple[int, int]:
    """Writes each shard that lies in several run files as one sorted file, and many small files of bronze as few, in
    the order of the source's column ``subject``; how many shards that were, and how many files of bronze it spares.

    Raises:
        NotFoundError: the dataset has no events.
        BusyError: another process writes them.
    """
    events = lake.latest(settings, dataset, EVENTS.name)
    n_shards = lake.fact(settings, events, SHARD_COUNT)
    split = [n for n in range(n_shards) if len(lake.files(settings, events, (SHARD, str(n)))) > 1]
    if split:
        rows = in_order(read_shards(settings, events, split))
        revise(settings, dataset, EVENTS.name, rows, events, predicate(split), n_shards)
    landed = (name for name in lake.tables(settings, dataset) if name.startswith(f"{BRONZE.name}_"))
    return len(split), sum(lake.compact(settings, dataset, name, subject) for name in landed)


SHARD_COUNT = "shards"
"""The fact of an events table that says in how many shards its subjects lie (``lake.fact``)."""


def map_shards(
    settings: Settings, events: TableRef, function: ShardFunction, schema: "StructType | str"
) -> "DataFrame":
    """The rows that ``function`` returns for all shards of one version of events, computed lazily by Spark.

    On one machine there are as many Spark tasks as cores, because opening a wide file costs more than filling it.
    """
    from mediscale.storage import spark

    def rows(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for shard in batch.column(0).to_pylist():
                yield from function(shard).to_batches()

    n_shards = lake.fact(settings, events, SHARD_COUNT)
    session = spark.session(settings)
    return session.range(0, n_shards, 1, spark.tasks(settings, n_shards)).mapInArrow(rows, schema)


@contextmanager
def own_errors() -> Iterator[None]:
    """Raises a ``MediscaleError`` of a Spark worker again without Spark's wrapping; other errors pass unchanged."""
    try:
        yield
    except Exception as error:
        own = _own_error(str(error))
        if own is None:
            raise
        raise own from None


def _own_error(text: str) -> errors.MediscaleError | None:
    for line in reversed(text.splitlines()):
        head, _, message = line.strip().partition(": ")
        module, _, name = head.rpartition(".")
        kind = getattr(errors, name, None) if module == errors.__name__ else None
        if isinstance(kind, type) and issubclass(kind, errors.MediscaleError):
            return kind(message)
    return None
