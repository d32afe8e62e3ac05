"""Superseding assertions: what an extract says of events that the lake has, as assertions to append.

Events are bitemporal and only appended to (DESIGN: *Events*). The facts of a later extract are compared with the latest
assertion of each event:

- An assertion that the source dates later than the extract before was seen, and later than what the lake has of the
  event, keeps its own ``available_time``.
- Any other one the extract before could have had and did not have: a value that was corrected in place, a row that came
  late. It is known from the moment on when this extract was seen. So nothing changes of what the lake had known until
  the extract before.
- An event that is no longer asserted is retracted, also from that moment on, where its row is still there and can't be
  used any more, or where the source says that its extracts are complete; else it stays.

Where the rules changed and not the rows (a mended YAML), ``since`` is None: what could not be used before keeps its own
times, because the hospital knew it then.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

import pyarrow as pa

from mediscale.core.tables import EVENTS

_CONTENT = ("subject_id", "time", "code", "numeric_value", "text_value", "visit_id", "unit", "source")
"""What an assertion says; ``retracted`` is part of it, too."""


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
    since: datetime | None,
    complete: bool,
) -> Superseding:
    """Compares the events that the rows of some patients assert with all assertions that the lake has of them.

    ``unusable`` are the ``event_id`` of facts that break a rule. Times are naive UTC.
    """
    import duckdb

    same = " and ".join(f"newest.{name} is not distinct from latest.{name}" for name in _CONTENT)
    columns = ", ".join(EVENTS.column_names)

    def dated(rows: str, **replaced: str) -> str:
        own = ", ".join(f"{replaced.get(name, f'{rows}.{name}')} as {name}" for name in EVENTS.column_names)
        return f"select {own}"

    from_now_on = "greatest({0}.time, ?::timestamp, latest.available_time + interval 1 microsecond)"
    with duckdb.connect() as database:
        database.register("asserted", asserted)
        database.register("there", there.select(EVENTS.column_names))
        database.register("unusable", pa.table({"event_id": unusable}))
        for name, rows in (("latest", "there"), ("newest", "asserted")):
            database.execute(
                f"create table {name} as select {columns} from {rows} qualify row_number() over ("
                "partition by event_id order by available_time desc, retracted desc, time desc, numeric_value desc) = 1"
            )
        database.execute(
            f"create table own as {dated('asserted')} from asserted left join latest using (event_id) "
            "where (latest.event_id is null or asserted.available_time > latest.available_time) "
            "and (?::timestamp is null or asserted.available_time > ?::timestamp)",
            [since, since],
        )
        corrected = database.sql(
            f"{dated('newest', available_time=from_now_on.format('newest'))} "
            "from newest left join latest using (event_id) "
            "where not exists (select 1 from own where own.event_id = newest.event_id "
            "and own.available_time = newest.available_time) "
            f"and (latest.event_id is null or latest.retracted or not ({same}))",
            params=[seen_at],
        ).to_arrow_table()
        retracted = database.sql(
            f"{dated('latest', available_time=from_now_on.format('latest'), retracted='true')} from latest "
            "where not retracted and not exists (select 1 from newest where newest.event_id = latest.event_id) "
            "and (? or exists (select 1 from unusable where unusable.event_id = latest.event_id))",
            params=[seen_at, complete],
        ).to_arrow_table()
        schema = EVENTS.arrow_schema()
        return Superseding(
            *(rows.cast(schema) for rows in (database.table("own").to_arrow_table(), corrected, retracted))
        )
