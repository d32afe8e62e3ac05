"""Subject shards: workers take the shards, and each reads the files of its shards itself, without a shuffle."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mediscale.core.refs import TableRef
from mediscale.core.settings import Settings
from mediscale.core.table import SHARD
from mediscale.core.tables import BRONZE, EVENTS
from mediscale.storage import commits, duckdb_tables, lake, spark, table_files, workers
from mediscale.storage.table_files import TableFile

Done = TypeVar("Done")


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
    """The rows of some shards, for ``commits.commit``."""
    return f"{SHARD} IN ({', '.join(map(str, numbers))})"


def in_order(events: pa.Table) -> pa.Table:
    """Events as the files of a shard have them: by subject and time."""
    keys = (SHARD, "subject_id", "time", "available_time", "event_id")
    return events.sort_by([(key, "ascending") for key in keys])


def except_all(rows: pa.Table, others: pa.Table) -> pa.Table:
    """The rows without one equal row for each of ``others``; null equals null. Both have the same columns."""
    with duckdb_tables.session() as connection:
        connection.register("own", rows)
        connection.register("others", others.select(rows.column_names))
        result = duckdb_tables.rows(
            connection, "select * from own except all select * from others"
        ).read_all()
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
    """Commits what was made from one version of a table, as ``commits.commit``, if that is still the newest.

    Raises:
        BusyError: somebody was first.
    """
    number = 0 if made_from is None else made_from.version + 1
    facts = {SHARD_COUNT: n_shards} if n_shards is not None else None
    commits.commit(
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
    return len(split), sum(commits.compact(settings, dataset, name, subject) for name in landed)


SHARD_COUNT = "shards"
"""The fact of an events table that says in how many shards its subjects lie (``lake.fact``)."""


def map_shards(
    settings: Settings, events: TableRef, function: Callable[[Sequence[int]], Done]
) -> Iterator[Done]:
    """What ``function`` returns for groups of shards, by their numbers, which together are all of a version of events.

    A group is a shard on a cluster. On one machine there are no more groups than cores, because opening a wide file
    costs more than filling it, and one alone for few events, because a process costs more than they do.
    """
    n_shards = lake.fact(settings, events, SHARD_COUNT)
    n_groups = n_shards
    if spark.is_local(settings):
        enough = -(-lake.dataset(settings, events).count_rows() // _EVENTS_OF_A_PROCESS)
        n_groups = max(1, min(n_shards, enough, workers.cores(settings)))
    groups = [tuple(map(int, group)) for group in np.array_split(np.arange(n_shards), n_groups)]
    return workers.map_pieces(settings, function, groups, n_groups)


_EVENTS_OF_A_PROCESS = 250_000


def write(
    settings: Settings, dataset: str, table: str, schema: pa.Schema, rows: Iterable[pa.Table]
) -> list[TableFile]:
    """Writes the rows of a group of shards to a file of a table that no commit names yet; none where there are none."""
    batches = (batch for part in rows for batch in part.cast(schema).to_batches() if batch.num_rows)
    first = next(batches, None)
    if first is None:
        return []
    return [table_files.write_file(settings, dataset, table, chain([first], batches), schema)]
