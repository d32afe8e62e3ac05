"""Landing: which files of an extract are new to bronze, and which rows of bronze they stand in place of.

Bronze has the rows of the newest extract, each file's under its name. ``landed_files`` has a row for each of them with
its SHA-256, so that a file that did not change is neither read nor written again. A file that changed takes the place
of what it had said; one that is not there any more keeps its rows, unless the source says ``complete``: that each of
its extracts has every row. So a hospital may send a night's rows in files of their own, or everything every night.

``validate`` and ``silver`` then look at the patients whose rows differ (``changed_rows``), and append what that changes
(``data_pipeline.ingest.supersede``). Two moments matter for this: ``seen_at``, when an extract was read here first, and
that of the extract before, up to which nothing that the lake had said changes any more.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from data_pipeline.ingest import extract_files
from data_pipeline.ingest.source import Source
from mediscale.core import caller
from mediscale.core.errors import InputError
from mediscale.core.refs import TableRef
from mediscale.core.settings import Settings
from mediscale.core.stage import Context
from mediscale.core.tables import BRONZE, LANDED_FILES
from mediscale.storage import calls, duckdb_tables, lake

if TYPE_CHECKING:
    import pyarrow as pa

MIN_LOST_ROWS = 20
"""A table that has fewer rows less than before is never taken for one that was cut off."""


class LandedFile(NamedTuple):
    """What bronze has of a file of the extract."""

    digest: str
    rows: int


Landed = Mapping[str, Mapping[str, LandedFile]]
"""By table of the source, by file."""


def read(settings: Settings, ref: TableRef | None) -> Landed:
    """The files whose rows bronze has; none where no record was kept."""
    landed: dict[str, dict[str, LandedFile]] = {}
    for row in [] if ref is None else lake.read(settings, ref).to_pylist():
        landed.setdefault(row["source"], {})[row["file"]] = LandedFile(row["digest"], row["rows"])
    return landed


def rows(landed: Landed) -> "pa.RecordBatch":
    """The record of landed files, as rows of ``landed_files``."""
    import pyarrow as pa

    listed = [
        {"source": table, "file": file, "digest": one.digest, "rows": one.rows}
        for table, files in sorted(landed.items())
        for file, one in sorted(files.items())
    ]
    return pa.RecordBatch.from_pylist(listed, LANDED_FILES.arrow_schema())


@dataclass(frozen=True)
class Plan:
    """What becomes of bronze, by table of the source."""

    read: extract_files.Files
    """The files that are new or changed."""
    kept: Landed
    """The files whose rows stay as they are."""
    gone: Landed
    """The files whose rows go: another stands in their place, or a complete extract lacks them."""

    def n_kept(self, table: str) -> int:
        """How many rows of a table stay."""
        return sum(one.rows for one in self.kept.get(table, {}).values())

    def check_not_cut(self, read: Mapping[str, int], min_share: float) -> None:
        """Refuses a table that lost many rows since the extract before: files cut at a line's end look whole.

        Raises:
            InputError: a table has less than ``min_share`` of its rows.
        """
        for table, files in self.gone.items():
            kept = self.n_kept(table)
            now, before = kept + read.get(table, 0), kept + sum(one.rows for one in files.values())
            if before - now >= MIN_LOST_ROWS and now < min_share * before:
                raise InputError(
                    f"The table {table} has {now:,} rows in this extract and had {before:,} in the one before; nothing "
                    "was landed. Was it cut off? If it is right, lower min_rows_share of the stage bronze."
                )


def plan(
    source: Source, files: extract_files.Files, root: Path, digests: Mapping[Path, str], landed: Landed
) -> Plan:
    """Compares the files of an extract, by their digests, with those that have landed."""
    to_read: extract_files.Files = {}
    kept: dict[str, dict[str, LandedFile]] = {}
    removed: dict[str, dict[str, LandedFile]] = {}
    for table in source.tables:
        there = {path.relative_to(root).as_posix(): path for path in files.get(table, ())}
        before = landed.get(table, {})
        same = {file for file, one in before.items() if file in there and digests[there[file]] == one.digest}
        stays = same | (set() if source.complete else before.keys() - there.keys())
        if new := tuple(path for file, path in there.items() if file not in same):
            to_read[table] = new
        kept[table] = {file: one for file, one in before.items() if file in stays}
        removed[table] = {file: one for file, one in before.items() if file not in stays}
    return Plan(
        to_read, {t: own for t, own in kept.items() if own}, {t: own for t, own in removed.items() if own}
    )


def contexts(settings: Settings, dataset: str, source: str, rebuild: bool) -> Iterator[Context]:
    """What bronze has of a dataset, for the call that lands an extract of the same source: first as the newest call saw
    it, so that the same extract again is that call."""
    before = newest_call(settings, "bronze", dataset)
    if before is not None:
        yield Context({name: before.params.get(name) for name in ("before", "landed", "seen_at")})
    now = {"seen_at": caller.now()}
    if before is None or rebuild or before.params["source"] != source or "landed" not in before.result:
        yield Context(now)
        return
    tables = {name: f"{BRONZE.name}_{name}" for name in before.result["bronze"]}
    if not all(lake.exists(settings, dataset, table) for table in (*tables.values(), LANDED_FILES.name)):
        yield Context(now)
        return
    newest = {name: lake.latest(settings, dataset, table) for name, table in tables.items()}
    yield Context({"before": newest, "landed": lake.latest(settings, dataset, LANDED_FILES.name), **now})


def newest_call(settings: Settings, stage: str, dataset: str) -> calls.Call | None:
    """The newest finished call of a stage on a dataset."""
    of_dataset = (call for call in calls.of_stage(settings, stage) if call.params["dataset"] == dataset)
    return max(of_dataset, key=lambda call: call.started_at, default=None)


def is_synthetic(bronze: calls.Call) -> bool:
    """Whether a call landed patients whom a program made up: their extract lies in the home, and its path says so after
    an erasure, too, which takes the extract and its record away."""
    return not Path(bronze.params["path"]).is_absolute()


class ChangedRows(NamedTuple):
    """How the rows of bronze differ between two landings, by table; rows have ``file``, ``line`` and the source's
    columns."""

    added: "dict[str, pa.Table]"
    gone: "dict[str, pa.Table]"
    moved: "pa.Table"
    """Rows of changed files that are the same and stand elsewhere now: ``source, file, line, new_line``."""

    def places_before(self, now: "pa.Table") -> "pa.Table":
        """Where rows that stand at ``now`` (``source, file, line``) stood before, and those that are gone."""
        import pyarrow as pa
        import pyarrow.compute as pc

        names = ["source", "file", "line"]
        stayed = now.join(_places(self.added), names, join_type="left anti")
        stayed = stayed.join(
            self.moved.rename_columns(["source", "file", "before", "line"]), names, join_type="left outer"
        )
        line = pc.coalesce(stayed["before"], stayed["line"])
        stayed = pa.table({"source": stayed["source"], "file": stayed["file"], "line": line})
        return pa.concat_tables([stayed, _places(self.gone)])


def changed_rows(
    settings: Settings,
    source: Source,
    before: tuple[Mapping[str, TableRef], Landed],
    now: tuple[Mapping[str, TableRef], Landed],
) -> ChangedRows:
    """Compares the rows of the files that differ, each landing given by its tables of bronze and its files."""
    import pyarrow as pa

    added, removed, moved = {}, {}, [_moved_schema().empty_table()]
    for name in source.tables:
        old, new = before[1].get(name, {}), now[1].get(name, {})
        differ = sorted(file for file in {*old, *new} if _digest(old, file) != _digest(new, file))
        if not differ:
            continue
        was = _rows_of(settings, source, name, before[0].get(name), [f for f in differ if f in old])
        here = _rows_of(settings, source, name, now[0].get(name), [f for f in differ if f in new])
        added[name], removed[name], same = _compare(was, here)
        moved.append(same.append_column("source", pa.repeat(pa.scalar(name), len(same))).select(_MOVED))
    return ChangedRows(
        {name: rows for name, rows in added.items() if len(rows)},
        {name: rows for name, rows in removed.items() if len(rows)},
        pa.concat_tables(moved),
    )


def _places(rows: "Mapping[str, pa.Table]") -> "pa.Table":
    """Where rows, by table, stand: ``source, file, line``."""
    import pyarrow as pa

    parts = [
        pa.table({"source": pa.repeat(name, len(own)), "file": own["file"], "line": own["line"]})
        for name, own in rows.items()
    ]
    return pa.concat_tables([_moved_schema().empty_table().select(["source", "file", "line"]), *parts])


def _digest(files: Mapping[str, LandedFile], file: str) -> str:
    return files[file].digest if file in files else ""


_MOVED = ("source", "file", "line", "new_line")


def _moved_schema() -> "pa.Schema":
    import pyarrow as pa

    kinds = (pa.string(), pa.string(), pa.int64(), pa.int64())
    return pa.schema(list(zip(_MOVED, kinds, strict=True)))


def _rows_of(
    settings: Settings, source: Source, name: str, ref: TableRef | None, files: list[str]
) -> "pa.Table":
    """The declared columns of some files' rows."""
    import pyarrow.compute as pc

    from data_pipeline.ingest.messages import schema
    from data_pipeline.ingest.patient_rows import in_declared_columns

    declared = schema(source.tables[name])
    if ref is None or not files:
        return declared.empty_table()
    rows = lake.dataset(settings, ref)
    there = [column for column in declared.names if column in rows.schema.names]
    return in_declared_columns(rows.to_table(columns=there, filter=pc.field("file").isin(files)), declared)


def _compare(was: "pa.Table", here: "pa.Table") -> "tuple[pa.Table, pa.Table, pa.Table]":
    """The rows that are new, those that are gone, and those of another line; of equal rows of a file the first stands
    for the first."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if not len(was) or not len(here):
        return here, was, _moved_schema().empty_table().select(["file", "line", "new_line"])
    was, here = (rows.take(pc.sort_indices(rows["line"])) for rows in (was, here))
    old, new = _equal_rows(was.drop_columns("line"), here.drop_columns("line"))
    moved = pa.table(
        {"file": was["file"].take(old), "line": was["line"].take(old), "new_line": here["line"].take(new)}
    )
    return (
        here.filter(_others(new, len(here))),
        was.filter(_others(old, len(was))),
        moved.filter(pc.not_equal(moved["line"], moved["new_line"])),
    )


def _others(numbers: "pa.Array", n: int) -> "pa.Array":
    """Which of ``n`` rows are not among those of the numbers."""
    import numpy as np
    import pyarrow as pa

    others = np.ones(n, np.bool_)
    others[numbers] = False
    return pa.array(others)


def _equal_rows(was: "pa.Table", here: "pa.Table") -> "tuple[pa.Array, pa.Array]":
    """The numbers of the rows that both tables have, row for row: of equal ones the first is the first.

    Rows are found by their hash; those that have one hash and differ are taken for different.
    """
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    columns = [f"column_{i}" for i in range(len(here.column_names))]  # a list's own may be called row_number
    hashed = f"select row_number, hash({', '.join(columns)}) as content"
    twin = "row_number() over (partition by content order by row_number) as twin"
    with duckdb_tables.session() as database:
        for name, rows in (("was", was), ("here", here)):
            numbers = pa.array(np.arange(len(rows)))
            database.register(name, rows.rename_columns(columns).append_column("row_number", numbers))
        pairs = duckdb_tables.rows(
            database,
            f"with old as (select *, {twin} from ({hashed} from was)), "
            f"new as (select *, {twin} from ({hashed} from here)) "
            "select old.row_number as old, new.row_number as new from old join new using (content, twin)",
        ).read_all()
    mine, others = was.take(pairs["old"]), here.take(pairs["new"])
    same = pa.repeat(True, len(pairs))
    for name in here.column_names:
        equal = pc.fill_null(pc.equal(mine[name], others[name]), False)
        neither = pc.and_(pc.is_null(mine[name]), pc.is_null(others[name]))
        same = pc.and_(same, pc.or_(equal, neither))
    kept = pairs.filter(same)
    return kept["old"].combine_chunks(), kept["new"].combine_chunks()
