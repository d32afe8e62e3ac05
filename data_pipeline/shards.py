"""Work on subject shards: Spark says who does which, and a worker reads its shard's files itself, without a shuffle."""

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

Work = Callable[[int], pa.Table]
"""Gets a shard's number, gives its rows. Runs in a worker process, so it must be importable there."""


def read(settings: Settings, events: TableRef, shard: int, columns: Sequence[str]) -> pa.Table:
    """A shard's assertions. Codes are dictionary-encoded: each distinct code is looked at once."""
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


NUMBER = "shards"
"""The fact of an events table that says in how many shards its subjects lie (``lake.fact``)."""


def each(settings: Settings, events: TableRef, work: Work, schema: "StructType | str") -> "DataFrame":
    """The rows that ``work`` gives for all shards of a version of events.

    There are as many tasks as cores: a wide file costs more to begin than to fill.
    """
    from mediscale.storage import spark

    def rows(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for shard in batch.column(0).to_pylist():
                yield from work(shard).to_batches()

    shards = lake.fact(settings, events, NUMBER)
    session = spark.session(settings)
    tasks = min(shards, session.sparkContext.defaultParallelism)
    return session.range(0, shards, 1, tasks).mapInArrow(rows, schema)


@contextmanager
def own_errors() -> Iterator[None]:
    """Raises our own error again that a worker raised inside a Spark job, without Spark's wrapping."""
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
