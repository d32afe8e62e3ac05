"""Every cell of every Delta table, and of the files of ``mediscale score``."""

import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from benchmarks.oracle.findings import EXAMPLES, Findings, as_text, compare_arrays, short
from benchmarks.oracle.renames import COLUMNS, IGNORED_COLUMNS, KEYS, new_table, new_text, table_base

TableName = tuple[str, str]


def tables_of(home: Path) -> dict[TableName, list[Path]]:
    """Dataset and table → its folders: several where datasets differ in a key only."""
    logs: dict[TableName, list[Path]] = defaultdict(list)
    for log in sorted(home.glob("lake/*/*/_delta_log")):
        dataset, table = log.parts[-3:-1]
        if not dataset.startswith("_"):
            logs[new_text(dataset), new_table(table)].append(log.parent)
    return dict(logs)


def read_table(folders: Sequence[Path], base: str) -> pa.Table:
    """The newest version of a table, in new names, without the columns that are not compared."""
    from deltalake import DeltaTable

    parts = [in_new_names(DeltaTable(str(folder)).to_pyarrow_table(), base) for folder in folders]
    return pa.concat_tables(parts, promote_options="default")


def in_new_names(rows: pa.Table, base: str) -> pa.Table:
    renamed = COLUMNS.get(base, {})
    rows = rows.rename_columns([renamed.get(name, name) for name in rows.column_names])
    return rows.drop_columns([name for name in rows.column_names if name in IGNORED_COLUMNS.get(base, ())])


def schema_of(folder: Path, base: str) -> dict[str, str]:
    """Column → type as Delta has it, and which columns the table is partitioned by."""
    from deltalake import DeltaTable

    table, renamed = DeltaTable(str(folder)), COLUMNS.get(base, {})
    fields = json.loads(table.schema().to_json())["fields"]
    types = {
        renamed.get(one["name"], one["name"]): json.dumps([one["type"], one["nullable"]]) for one in fields
    }
    return {**types, "(partitioned by)": json.dumps(table.metadata().partition_columns)}


def compare_tables(findings: Findings, a: Path, b: Path) -> None:
    homes = tables_of(a), tables_of(b)
    for name in sorted(homes[0].keys() | homes[1].keys()):
        where, base = "/".join(name), table_base(name[1])
        if not in_both(findings, where, *(name in home for home in homes)):
            continue
        findings.compared["tables"] += 1
        compare_schemas(findings, where, *(schema_of(home[name][0], base) for home in homes))
        compare_rows(findings, where, base, *(read_table(home[name], base) for home in homes))


def in_both(findings: Findings, where: str, in_a: bool, in_b: bool) -> bool:
    """Whether both homes have a thing; where one lacks it, that is a difference."""
    if in_a != in_b:
        findings.differ(where, "only in A" if in_a else "only in B")
    return in_a and in_b


def compare_schemas(findings: Findings, where: str, a: Mapping[str, str], b: Mapping[str, str]) -> None:
    for side, names in (("A", a.keys() - b.keys()), ("B", b.keys() - a.keys())):
        for name in sorted(names):
            findings.lacks(side, f"{where}.{name}")
    for name in sorted(a.keys() & b.keys()):
        if a[name] != b[name]:
            findings.differ(f"{where}.{name}", f"type {a[name]} → {b[name]}")
    shared = [[name for name in side if name in a and name in b] for side in (a, b)]
    if shared[0] != shared[1]:
        findings.differ(where, "columns are in another order")


def compare_rows(findings: Findings, where: str, base: str, a: pa.Table, b: pa.Table) -> None:
    """Every cell of the columns that both tables have, rows matched by the table's key."""
    columns = [name for name in a.column_names if name in b.column_names]
    keys = [name for name in KEYS.get(base, ()) if name in columns] or columns
    a, b = in_order(a.select(columns), keys), in_order(b.select(columns), keys)
    findings.compared["rows"] += max(len(a), len(b))
    if len(a) != len(b):
        findings.differ(where, f"{len(a):,} rows → {len(b):,} rows", abs(len(a) - len(b)))
    if len(a) != len(b) or any(as_key(a, key) != as_key(b, key) for key in keys):
        a, b = matched(findings, where, a, b, keys)

    def named(row: int) -> str:
        key_columns = keys if base in KEYS else columns[:2]
        return ", ".join(f"{name}={short(a[name][row].as_py())}" for name in key_columns) + ":"

    for name in columns:
        compare_arrays(findings, f"{where}.{name}", flat(a[name]), flat(b[name]), named)


def flat(column: pa.ChunkedArray) -> pa.Array:
    """One array of a column's chunks."""
    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)


def as_key(rows: pa.Table, name: str) -> pa.Array:
    """A column as rows can be sorted and matched by it."""
    column = flat(rows[name])
    if pa.types.is_floating(column.type):
        return column.view(f"int{column.type.bit_width}")
    return as_text(column) if pa.types.is_nested(column.type) else column


def in_order(rows: pa.Table, keys: Sequence[str]) -> pa.Table:
    """Sorted by the key, and by everything else where the key is not unique."""
    sortable = pa.table({name: as_key(rows, name) for name in keys})
    if len(sortable.group_by(keys).aggregate([])) < len(rows):
        others = [name for name in rows.column_names if name not in keys]
        # what may be a little apart, last
        others.sort(key=lambda name: pa.types.is_floating(rows[name].type))
        sortable = pa.table({name: as_key(rows, name) for name in (*keys, *others)})
    return rows.take(pc.sort_indices(sortable, [(name, "ascending") for name in sortable.column_names]))


def matched(
    findings: Findings, where: str, a: pa.Table, b: pa.Table, keys: Sequence[str]
) -> tuple[pa.Table, pa.Table]:
    """The rows that both tables have; the others are differences."""
    places = numbered(a, keys), numbered(b, keys)
    for side, mine, others in (("A", *places), ("B", *reversed(places))):
        alone = [row[0] for row in mine if row not in others]
        if alone:
            examples = "; ".join(short(dict(zip(keys, key, strict=True))) for key in alone[:EXAMPLES])
            more = "; …" if len(alone) > EXAMPLES else ""
            findings.differ(where, f"{len(alone):,} rows only in {side}: {examples}{more}", len(alone))
    rows = [row for row in places[0] if row in places[1]]
    at_a, at_b = (pa.array([at[row] for row in rows], pa.int64()) for at in places)
    return a.take(at_a), b.take(at_b)


def numbered(rows: pa.Table, keys: Sequence[str]) -> dict[tuple[Any, int], int]:
    """Key and its how-many-th row → where that row is."""
    counts: Counter[Any] = Counter()
    places = {}
    for place, key in enumerate(zip(*(as_key(rows, name).to_pylist() for name in keys), strict=True)):
        places[key, counts[key]] = place
        counts[key] += 1
    return places


def compare_scores(findings: Findings, a: Path, b: Path) -> None:
    """Two files of ``mediscale score``."""
    rows = [in_new_names(pq.read_table(path), "scores") for path in (a, b)]
    findings.compared["files"] += 1
    compare_schemas(findings, "scores", *({one.name: str(one.type) for one in side.schema} for side in rows))
    compare_rows(findings, "scores", "scores", *rows)
