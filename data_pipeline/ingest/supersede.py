"""Superseding assertions: what an extract says of events that the lake has, as assertions to append.

Events are bitemporal and only appended to. The facts of a later extract are compared with the latest assertion of each
event:

- An assertion that the source dates later than the extract before was seen, and later than what the lake has of the
  event, keeps its own ``available_time``.
- Any other one the extract before could have had and did not have: a value that was corrected in place, a row that came
  late. It is known from the moment on when this extract was seen. So nothing changes of what the lake had known until
  the extract before.
- An event that is no longer asserted is retracted, also from that moment on, where its row is still there and can't be
  used any more, or where the source says that its extracts are complete; else it stays.

Where the rules changed and not the rows (a mended YAML, another release), ``restate`` says what stands in place of what
the lake has: what was wrong was never true, and what an extract corrected is still known from when that was seen.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

import pyarrow as pa

from mediscale.core.table import SHARD
from mediscale.core.tables import EVENTS
from mediscale.storage import duckdb_tables

if TYPE_CHECKING:
    import duckdb

_CONTENT = ("subject_id", "time", "code", "numeric_value", "text_value", "visit_id", "unit", "source")
"""What an assertion says; ``retracted`` is part of it, too."""


_SAME = " and ".join(f"newest.{name} is not distinct from latest.{name}" for name in _CONTENT)

_NEWEST = (
    f"select {', '.join(EVENTS.column_names)} from {{0}} qualify row_number() over (partition by event_id "
    "order by available_time desc, retracted desc, time desc, numeric_value desc) = 1"
)
"""The assertion of each event in some rows that is known last."""


def _dated(rows: str, **replaced: str) -> str:
    """Begins a query of rows of ``events``, with expressions in place of some columns."""
    own = ", ".join(f"{replaced.get(name, f'{rows}.{name}')} as {name}" for name in EVENTS.column_names)
    return f"select {own}"


class Superseding(NamedTuple):
    """Assertions to append, as rows of ``events``."""

    own: pa.Table
    """Known at the time that the source gives."""
    corrected: pa.Table
    """Known from when the extract was seen."""
    retracted: pa.Table

    @property
    def rows(self) -> pa.Table:
        return pa.concat_tables([self.own, self.corrected, self.retracted])


def together(parts: Sequence[Superseding]) -> Superseding:
    """What several comparisons, of different patients, gave."""
    return Superseding(*(pa.concat_tables(rows) for rows in zip(*parts, strict=True)))


def compare(
    asserted: pa.Table,
    there: pa.Table,
    unusable: pa.Array,
    seen_at: datetime,
    since: datetime,
    complete: bool,
) -> Superseding:
    """Compares the events that the rows of some patients assert with all assertions that the lake has of them.

    ``unusable`` are the ``event_id`` of facts that break a rule; ``since`` is when the extract before was seen. Times
    are naive UTC.
    """
    from_now_on = "greatest({0}.time, ?::timestamp, latest.available_time + interval 1 microsecond)"
    with _side_by_side(asserted, there) as database:
        database.register("unusable", pa.table({"event_id": unusable}))
        database.execute(
            f"create temp table own as {_dated('asserted')} from asserted left join latest using (event_id) "
            "where (latest.event_id is null or asserted.available_time > latest.available_time) "
            "and asserted.available_time > ?::timestamp",
            [since],
        )
        corrected = duckdb_tables.rows(
            database,
            f"{_dated('newest', available_time=from_now_on.format('newest'))} "
            "from newest left join latest using (event_id) "
            "where not exists (select 1 from own where own.event_id = newest.event_id "
            "and own.available_time = newest.available_time) "
            f"and (latest.event_id is null or latest.retracted or not ({_SAME}))",
            [seen_at],
        ).read_all()
        retracted = duckdb_tables.rows(
            database,
            f"{_dated('latest', available_time=from_now_on.format('latest'), retracted='true')} from latest "
            "where not retracted and not exists (select 1 from newest where newest.event_id = latest.event_id) "
            "and (? or exists (select 1 from unusable where unusable.event_id = latest.event_id))",
            [seen_at, complete],
        ).read_all()
        schema = EVENTS.arrow_schema()
        return Superseding(
            *(
                rows.cast(schema)
                for rows in (duckdb_tables.rows(database, "from own").read_all(), corrected, retracted)
            )
        )


@contextmanager
def _side_by_side(asserted: pa.Table, there: pa.Table) -> "Iterator[duckdb.DuckDBPyConnection]":
    """A database with both tables, and of each event its ``newest`` asserted and its ``latest`` row that is there."""
    with duckdb_tables.session() as database:
        database.register("asserted", asserted)
        database.register("there", there.select(EVENTS.column_names))
        for name, rows in (("latest", "there"), ("newest", "asserted")):
            database.execute(f"create temp table {name} as {_NEWEST.format(rows)}")
        yield database


def subjects_told_alike(tables: Sequence[pa.Table]) -> pa.Array:
    """The patients of whom all tables of events have the same rows, told by the sums of the rows' hashes."""
    columns = ", ".join(name for name in EVENTS.column_names if name != SHARD)
    told = f"select subject_id, count(*) as n, sum(hash({columns})) as content from {{0}} group by subject_id"
    with duckdb_tables.session() as database:
        for number, rows in enumerate(tables):
            database.register(f"told_{number}", rows)
        every = " union all ".join(told.format(f"told_{number}") for number in range(len(tables)))
        alike = "min(n) = max(n) and min(content) = max(content)"
        rows = duckdb_tables.rows(
            database,
            f"select subject_id from ({every}) group by subject_id having count(*) = {len(tables)} and {alike}",
        ).read_all()
    return rows["subject_id"].combine_chunks()


def unusable(database: "duckdb.DuckDBPyConnection") -> pa.Array:
    """The ``event_id`` of the facts that break a rule, of the table ``facts`` of a database."""
    broken = "select event_id from facts where broken is not null and event_id is not null"
    return duckdb_tables.rows(database, broken).read_all()["event_id"].combine_chunks()


def restate(asserted: pa.Table, there: pa.Table, usable_before: pa.Array, moments: pa.Array) -> pa.Table:
    """What stands in place of all assertions ``there`` once the rules have changed, as rows of ``events``.

    ``asserted`` is what the extract that was taken in last says by the new rules, ``usable_before`` the ``event_id`` of
    what it said by the old ones, ``moments`` when the extracts were seen. Of an event that

    - no extract has corrected, what is asserted now counts, at the times of the source;
    - an extract has corrected or brought late, the history stays where its content is what the rules say now; else
      what is asserted is known from that correction on, and nothing of it before, for the older rows are gone;
    - is asserted no more, nothing is left if the rules dropped it, and everything if an extract had: that withdrew it,
      or just lacks it.
    """
    with _side_by_side(asserted, there) as database:
        database.register("usable", pa.table({"event_id": usable_before}))
        database.register("moments", pa.table({"seen_at": moments}))
        database.execute(
            "create temp table history as select *, available_time in (select seen_at from moments) or "
            "available_time = lag(available_time) over (partition by event_id order by available_time) + "
            "interval 1 microsecond as from_extract from there"
        )
        database.execute(
            "create temp table corrected as select event_id, min(available_time) as first, max(available_time) as last "
            "from history where from_extract group by event_id"
        )
        database.execute(
            "create temp table keeps as select event_id, newest.event_id is not null as is_asserted from latest "
            "left join newest using (event_id) left join corrected using (event_id) where "
            "case when newest.event_id is not null then corrected.event_id is not null and not latest.retracted "
            f"and {_SAME} else latest.retracted or latest.event_id not in (select event_id from usable) end"
        )
        database.execute(
            "create temp table starts as select event_id, min(available_time) as first from asserted group by event_id"
        )
        later = "greatest(history.available_time, coalesce(starts.first, history.available_time))"
        own = (
            f"case when history.available_time < corrected.first then {later} else history.available_time end"
        )
        kept = (
            f"{_dated('history', available_time=own)} from history join keeps using (event_id) left join corrected "
            f"using (event_id) left join starts on starts.event_id = history.event_id and keeps.is_asserted where "
            f"history.available_time >= corrected.first or corrected.first is null or {later} < corrected.first"
        )
        others = (
            f"{_dated('asserted')} from asserted left join corrected using (event_id) where not exists (select 1 from "
            "keeps where keeps.event_id = asserted.event_id) and (corrected.last is null or "
            "asserted.available_time > corrected.last)"
        )
        from_then = (
            f"{_dated('newest', available_time='corrected.last')} from newest join corrected using (event_id) where "
            "not exists (select 1 from keeps where keeps.event_id = newest.event_id) and newest.available_time <= "
            "corrected.last"
        )
        restated = duckdb_tables.rows(database, f"{kept} union all {others} union all {from_then}").read_all()
    return restated.cast(EVENTS.arrow_schema())
