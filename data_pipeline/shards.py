"""Subject shards: Spark distributes the shards, and a worker reads the files of its shard itself, without a shuffle."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pyarrow as pa

from mediscale.core import errors
from mediscale.core.refs import TableRef
from mediscale.core.settings import Settings
from mediscale.core.tables import SHARD
from mediscale.storage import lake

if TYPE_CHECKING:
    from pyspark.sql import DataFrame
    from pyspark.sql.types import StructType

ShardFunction = Callable[[int], pa.Table]
"""From a shard's number to that shard's rows. It runs in a worker process, so it must be importable there."""


def read(settings: Settings, events: TableRef, shard: int, columns: Sequence[str]) -> pa.Table:
    """The given columns of a shard's assertions, an empty table where it has none; ``code`` is dictionary-encoded."""
    from pyarrow import fs, parquet

    from mediscale.core.tables import EVENTS

    parts = []
    for uri in lake.files(settings, events, (SHARD, str(shard))):
        filesystem, path = fs.FileSystem.from_uri(uri) if "://" in uri else (None, uri)
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


SHARD_COUNT = "shards"
"""The fact of an events table that says in how many shards its subjects lie (``lake.fact``)."""


def map_shards(
    settings: Settings, events: TableRef, function: ShardFunction, schema: "StructType | str"
) -> "DataFrame":
    """The rows that ``function`` returns for all shards of one version of events, computed lazily by Spark.

    There are as many Spark tasks as cores, because opening a wide file costs more than filling it.
    """
    from mediscale.storage import spark

    def rows(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for shard in batch.column(0).to_pylist():
                yield from function(shard).to_batches()

    n_shards = lake.fact(settings, events, SHARD_COUNT)
    session = spark.session(settings)
    tasks = min(n_shards, session.sparkContext.defaultParallelism)
    return session.range(0, n_shards, 1, tasks).mapInArrow(rows, schema)


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
