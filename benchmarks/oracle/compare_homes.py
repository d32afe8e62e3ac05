"""Two homes that two commits made from the same extract, held against each other: nothing may have changed.

    compare_homes.py HOME_A HOME_B [--tolerance 0] [--show 10] [--scores A.parquet B.parquet]

A is the older commit's. Compared are every cell of every table's newest version, every registered model (its
trees, its answers and SHAP values on all rows of its training set, its spec, its note model's weights), what
its run measured, the evidence, and of every stage call its parameters and its result. Floats must be equal
bit for bit (NaN equals NaN) if no tolerance is given. The exit code is 1 where anything differs, and where
nothing was found to compare. Differences are told with their values, so of patients too.

Only raw files are read and nothing of the project is imported, so that homes of any commit can be compared.
What a commit renamed is said in RENAMES below, and both homes are read in the new names; what it dropped on
purpose in DROPPED.
"""

import argparse
import json
import math
import re
import sqlite3
import struct
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

# --- RENAMES: old name → new name ---------------------------------------------------------------------------

STAGES = {
    "quality": "validate",
    "combination": "late_fusion",
    "retrain": "retrain_decision",
    "rehearsal": "held_out_replay",
    "rounds": "daily_predictions",
}
TABLES: dict[str, str] = {}
"""By their declared name: ``labels`` is ``labels_mortality`` too."""
COLUMNS: dict[str, dict[str, str]] = {
    "labels": {"visit_id": "stay_id"},
    "features": {"visit_id": "stay_id"},
    "training_set": {"visit_id": "stay_id"},
    "scores": {"visit_id": "stay_id"},
}
"""By declared table, or ``scores`` for the file of ``mediscale score``."""
FIELDS = {
    "alarms.found": "sensitivity",
    "alarms.right": "ppv",
    "alarms.flagged": "flag_rate",
    "looks": "prior_evaluations",
    "by_values": "n_ad_hoc",
    "least_per_class": "min_events_per_class",
    "draws": "n_resamples",
    "false_alarms": "family_wise_error_rate",
    "monitored": "max_features",
    "most_stays": "max_examples_per_epoch",
    "accumulate": "gradient_accumulation_steps",
    "notes.usual": "reference_mean",
    "surrogate_key": "pseudonym_secret",
}
"""Of calls, evidence and specs. With a dot: only inside the field before it, which goes by its new name."""
TEXTS: dict[str, str] = {
    r"-(rehearsal|held_out_replay)-[0-9a-f]{8}$": "-held_out_replay",  # a dataset, with the key of its call
}
"""Regular expressions and what is put in their place in every text of a file: for sentences worded anew."""
MODELS: dict[str, str] = {}
"""Registered models' names."""
CALL_FOLDERS = ("_manifests", "_calls")
TREE_FILES = ("model.ubj", "model.json")
PREDICTOR_FILES = ("predictor.json",)
NOTE_SPEC_FILES = ("notes.json",)
EVIDENCE_FILES = ("evidence.json",)
NOTE_FOLDERS = ("notes",)
"""Of files and folders: every name that one may have, old ones first."""

DROPPED = frozenset(
    {
        "gold.leaks",
        "risk_model.source",
        "late_fusion.source",
        "prior_evaluations",  # counted when the report is made
        "run.files.note_words.json",  # lies in the model's folder
    }
)
"""Fields (``stage.field``, ``evidence.field`` or just ``field``) and columns (``table.column``) only A has."""

# --- what is not compared -----------------------------------------------------------------------------------

IGNORED_COLUMNS: dict[str, frozenset[str]] = {
    "promotions": frozenset(
        {
            "moved_at",  # the clock
            "evidence_digest",  # of a file that holds keys
            "model_uri",  # MLflow's random folder
            "model_digest",  # over files that hold keys
            "key",  # depends on the code
        }
    ),
    "predictions": frozenset(
        {
            "worker",  # a process
            "sequence",  # which of several workers answered, and when it was started anew
            "prediction_id",  # random
            "predicted_at",  # the clock
            "events_version",  # counts commits, not rows
        }
    ),
}
IGNORED_FIELDS = frozenset(
    {
        # identities that depend on the code, or are random
        "key", "run_id", "digest", "model_digest", "incumbent_digest", "evidence_digest", "rows_digest",
        "extract_digest",
        # where files lie: under keys, or in MLflow's random folders
        "uri", "model_uri", "incumbent_uri", "evidence", "docs", "report", "path", "model_file",
        # the clock of a run, from which the made-up days of a replay follow
        "moved_at", "start", "end", "since", "until", "at", "as_of",
    }
)  # fmt: skip
"""Of calls, evidence and specs, by old and new names. References lose ``table_id`` and ``version`` too."""

IGNORED_METRICS = frozenset({"tokens_per_cpu_second"})
"""Of runs: how busy the machine was. Nothing else differs between two runs of one commit."""

MAPS = frozenset(
    {"reasons", "flow", "counts", "importance", "thresholds", "tuning_log_loss", "bronze", "metrics"}
)
"""Fields whose keys are data: a key that only B has is a difference too."""

KEYS: dict[str, tuple[str, ...]] = {
    "bronze": ("file", "line"),
    "facts": ("event_id", "available_time", "line"),
    "events": ("event_id", "available_time"),
    "quarantine": ("file", "line", "code", "reason"),
    "subjects": ("subject_id",),
    "labels": ("subject_id", "stay_id"),
    "features": ("subject_id", "stay_id"),
    "training_set": ("subject_id", "stay_id"),
    "notes": ("note_id", "available_time", "line"),
    "note_tokens": ("note_id", "available_time", "tokenizer"),
    "note_margins": ("subject_id", "prediction_time"),
    "predictions": ("task", "model", "model_version", "subject_id", "prediction_time"),
    "promotions": ("sequence",),
    "scores": ("subject_id", "prediction_time"),
}
"""What rows are matched by, in new names. Rows that share a key are matched in the order of their other
cells, and so are all rows of a table that isn't listed."""

EXAMPLES = 3
"""Values that a difference shows."""
SHORT = 160
"""Characters of a value that are shown."""

Names = tuple[str, ...]


def table_base(table: str) -> str:
    """The declared name of a table of a task or a source: ``labels`` of ``labels_mortality``."""
    bases = [base for base in KEYS if table == base or table.startswith(f"{base}_")]
    return max(bases, key=len, default=table)


def new_table(table: str) -> str:
    for old, new in TABLES.items():
        if table == old or table.startswith(f"{old}_"):
            return new + table[len(old) :]
    return table


def new_text(text: str) -> str:
    for old, new in TEXTS.items():
        text = re.sub(old, new, text)
    return text


def new_model(name: str) -> str:
    return MODELS.get(name, new_text(name))


def listed(name: str, names: Iterable[str]) -> bool:
    """Whether a dotted name, or its end, is one of ``names``."""
    return any(name == one or name.endswith(f".{one}") for one in names)


# --- what was found -----------------------------------------------------------------------------------------


@dataclass
class Findings:
    """Of one kind of thing: how much was compared, and what differs."""

    kind: str
    tolerance: float
    compared: Counter[str] = field(default_factory=Counter)
    differences: list[str] = field(default_factory=list)
    values: int = 0
    """That differ: a difference may be of many cells."""
    largest: tuple[float, str] = (0.0, "")
    """Numbers apart, within the tolerance or not, and where."""
    only: dict[str, Counter[str]] = field(default_factory=lambda: {"A": Counter(), "B": Counter()})
    """Side → field or column that only it has → how often."""

    def differ(self, where: str, what: str, values: int = 1) -> None:
        self.differences.append(f"{where}: {what}")
        self.values += values

    def pairs(self, where: str, different: Sequence[tuple[str, Any, Any]], of: int) -> None:
        """Unequal values with their names, of ``of`` that were compared; those within the tolerance pass."""
        beyond = []
        for name, a, b in different:
            apart = distance(a, b)
            if apart > self.largest[0]:
                self.largest = (apart, f"{where} {name}".rstrip(" :"))
            if not apart <= self.tolerance:
                beyond.append((name, a, b))
        if not beyond:
            return
        shown = "; ".join(f"{name} {change(a, b)}".lstrip() for name, a, b in beyond[:EXAMPLES])
        more = "; …" if len(beyond) > EXAMPLES else ""
        many = f"{len(beyond):,} of {of:,} differ, " if of > 1 else ""
        self.differ(where, f"{many}{shown}{more}", len(beyond))

    def lacks(self, side: str, name: str) -> None:
        """A field or column that only ``side`` has."""
        self.only[side][name] += 1

    @property
    def missing(self) -> list[str]:
        """Fields and columns that are no longer there, and should be."""
        return [name for name in self.only["A"] if not listed(name, DROPPED)]

    @property
    def failed(self) -> bool:
        return bool(self.differences or self.missing)

    def tell(self, show: int) -> None:
        counts = ", ".join(f"{n:,} {what}" for what, n in self.compared.items()) or "nothing in either home"
        print(f"\n{self.kind}: {counts}")
        print(f"  {self.verdict()}")
        for line in self.differences[:show]:
            print(f"    {line}")
        if len(self.differences) > show:
            print(f"    … and {len(self.differences) - show:,} more")
        for side, names in self.only.items():
            for name, times in sorted(names.items()):
                dropped = " (dropped on purpose)" if side == "A" and name not in self.missing else ""
                print(f"  {'only in A' if side == 'A' else 'new in B'}: {name} (×{times:,}){dropped}")

    def verdict(self) -> str:
        apart, where = self.largest
        largest = f"; largest difference of numbers {apart:.6g}, at {where}" if apart else ""
        if not self.failed:
            return f"no difference{largest}"
        places = len(self.differences) + len(self.missing)
        return f"DIFFERENT in {places:,} places, {self.values + len(self.missing):,} values{largest}"


def distance(a: Any, b: Any) -> float:
    """Between two numbers, or the farthest between two lists of as many; NaN where there is none."""
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)) and len(a) == len(b):
        apart = [distance(x, y) for x, y in zip(a, b, strict=True) if not same(x, y)]
        return math.nan if any(map(math.isnan, apart)) else max(apart, default=0.0)
    if is_number(a) and is_number(b):
        return abs(float(a) - float(b))
    return math.nan


def is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def same(a: Any, b: Any) -> bool:
    """Equal, floats bit for bit and NaN as itself. JSON's 1 and 1.0 are the same number."""
    if is_number(a) and is_number(b) and (isinstance(a, float) or isinstance(b, float)):
        both_nan = math.isnan(a) and math.isnan(b)
        return both_nan or struct.pack("<d", a) == struct.pack("<d", b)
    return isinstance(a, bool) == isinstance(b, bool) and bool(a == b)


def change(a: Any, b: Any) -> str:
    """Both values; of long texts, from where they begin to differ."""
    if isinstance(a, str) and isinstance(b, str) and max(len(a), len(b)) > SHORT:
        apart = (at for at, (x, y) in enumerate(zip(a, b, strict=False)) if x != y)
        start = max(next(apart, min(len(a), len(b))) - SHORT // 4, 0)
        a, b = (("…" if start else "") + text[start:] for text in (a, b))
    return f"{short(a)} → {short(b)}"


def short(value: Any) -> str:
    text = " ".join(str(value).split("\n"))
    return text if len(text) <= SHORT else f"{text[: SHORT - 1]}…"


# --- columns ------------------------------------------------------------------------------------------------


def unequal(a: pa.Array, b: pa.Array) -> NDArray[np.int64]:
    """Places where two arrays of one type and length differ."""
    null_a, null_b = (np.asarray(pc.is_null(side)) for side in (a, b))
    if pa.types.is_floating(a.type):
        different = bits_differ(*(side.to_numpy(zero_copy_only=False) for side in (a, b)))
    else:
        if pa.types.is_nested(a.type):
            a, b = as_text(a), as_text(b)
        equal = pc.fill_null(pc.equal(a, b), False)
        different = ~np.asarray(equal)
    return np.flatnonzero((null_a != null_b) | (different & ~null_a & ~null_b))


def bits_differ(a: NDArray[Any], b: NDArray[Any]) -> NDArray[np.bool_]:
    width = f"i{a.dtype.itemsize}"
    a, b = np.ascontiguousarray(a), np.ascontiguousarray(b)
    different: NDArray[np.bool_] = (a.view(width) != b.view(width)) & ~(np.isnan(a) & np.isnan(b))
    return different


def as_text(column: pa.Array) -> pa.Array:
    """Lists as Python writes them, which tells floats apart bit for bit."""
    return pa.array([None if value is None else repr(value) for value in column.to_pylist()], pa.string())


def compare_arrays(found: Findings, where: str, a: pa.Array, b: pa.Array, name: Callable[[int], str]) -> None:
    """Two columns of one length; ``name`` says which row a place is."""
    found.compared["values"] += len(a)
    if a.type != b.type or len(a) != len(b):
        found.differ(where, f"{len(a):,} of {a.type} → {len(b):,} of {b.type}")
        return
    places = unequal(a, b)
    if len(places):
        values = (side.take(pa.array(places)).to_pylist() for side in (a, b))
        named = [
            (name(int(place)), x, y) for place, x, y in zip(places, *values, strict=True) if not same(x, y)
        ]
        found.pairs(where, named, len(a))


# --- tables -------------------------------------------------------------------------------------------------

TableName = tuple[str, str]


def tables_of(home: Path) -> dict[TableName, list[Path]]:
    """Dataset and table → its folders: several where datasets differ in a key only."""
    found: dict[TableName, list[Path]] = defaultdict(list)
    for log in sorted(home.glob("lake/*/*/_delta_log")):
        dataset, table = log.parts[-3:-1]
        if not dataset.startswith("_"):
            found[new_text(dataset), new_table(table)].append(log.parent)
    return dict(found)


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


def compare_tables(found: Findings, a: Path, b: Path) -> None:
    homes = tables_of(a), tables_of(b)
    for name in sorted(homes[0].keys() | homes[1].keys()):
        where, base = "/".join(name), table_base(name[1])
        if not in_both(found, where, *(name in home for home in homes)):
            continue
        found.compared["tables"] += 1
        compare_schemas(found, where, *(schema_of(home[name][0], base) for home in homes))
        compare_rows(found, where, base, *(read_table(home[name], base) for home in homes))


def in_both(found: Findings, where: str, in_a: bool, in_b: bool) -> bool:
    """Whether both homes have a thing; where one lacks it, that is a difference."""
    if in_a != in_b:
        found.differ(where, "only in A" if in_a else "only in B")
    return in_a and in_b


def compare_schemas(found: Findings, where: str, a: Mapping[str, str], b: Mapping[str, str]) -> None:
    for side, names in (("A", a.keys() - b.keys()), ("B", b.keys() - a.keys())):
        for name in sorted(names):
            found.lacks(side, f"{where}.{name}")
    for name in sorted(a.keys() & b.keys()):
        if a[name] != b[name]:
            found.differ(f"{where}.{name}", f"type {a[name]} → {b[name]}")
    shared = [[name for name in side if name in a and name in b] for side in (a, b)]
    if shared[0] != shared[1]:
        found.differ(where, "columns are in another order")


def compare_rows(found: Findings, where: str, base: str, a: pa.Table, b: pa.Table) -> None:
    """Every cell of the columns that both tables have, rows matched by the table's key."""
    columns = [name for name in a.column_names if name in b.column_names]
    keys = [name for name in KEYS.get(base, ()) if name in columns] or columns
    a, b = in_order(a.select(columns), keys), in_order(b.select(columns), keys)
    found.compared["rows"] += max(len(a), len(b))
    if len(a) != len(b):
        found.differ(where, f"{len(a):,} rows → {len(b):,} rows", abs(len(a) - len(b)))
    if len(a) != len(b) or any(as_key(a, key) != as_key(b, key) for key in keys):
        a, b = matched(found, where, a, b, keys)

    def named(row: int) -> str:
        told = keys if base in KEYS else columns[:2]
        return ", ".join(f"{name}={short(a[name][row].as_py())}" for name in told) + ":"

    for name in columns:
        compare_arrays(found, f"{where}.{name}", flat(a[name]), flat(b[name]), named)


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
    known = pa.table({name: as_key(rows, name) for name in keys})
    if len(known.group_by(keys).aggregate([])) < len(rows):
        others = [name for name in rows.column_names if name not in keys]
        others.sort(
            key=lambda name: pa.types.is_floating(rows[name].type)
        )  # what may be a little apart, last
        known = pa.table({name: as_key(rows, name) for name in (*keys, *others)})
    return rows.take(pc.sort_indices(known, [(name, "ascending") for name in known.column_names]))


def matched(
    found: Findings, where: str, a: pa.Table, b: pa.Table, keys: Sequence[str]
) -> tuple[pa.Table, pa.Table]:
    """The rows that both tables have; the others are differences."""
    places = numbered(a, keys), numbered(b, keys)
    for side, mine, others in (("A", *places), ("B", *reversed(places))):
        alone = [row[0] for row in mine if row not in others]
        if alone:
            told = "; ".join(short(dict(zip(keys, key, strict=True))) for key in alone[:EXAMPLES])
            more = "; …" if len(alone) > EXAMPLES else ""
            found.differ(where, f"{len(alone):,} rows only in {side}: {told}{more}", len(alone))
    rows = [row for row in places[0] if row in places[1]]
    at_a, at_b = (pa.array([at[row] for row in rows], pa.int64()) for at in places)
    return a.take(at_a), b.take(at_b)


def numbered(rows: pa.Table, keys: Sequence[str]) -> dict[tuple[Any, int], int]:
    """Key and its how-many-th row → where that row is."""
    seen: Counter[Any] = Counter()
    places = {}
    for place, key in enumerate(zip(*(as_key(rows, name).to_pylist() for name in keys), strict=True)):
        places[key, seen[key]] = place
        seen[key] += 1
    return places


# --- JSON ---------------------------------------------------------------------------------------------------


def normal(value: Any, names: Names) -> Any:
    """In new names, without what is not compared. ``names`` are the fields around it."""
    if isinstance(value, str):
        return new_text(value)
    if isinstance(value, list):
        return [normal(item, names) for item in value]
    if not isinstance(value, dict):
        return value
    if "table_id" in value:
        return {"dataset": new_text(value["dataset"]), "table": new_table(value["table"])}
    fields = {}
    for old, inner in value.items():
        name: str = FIELDS.get(f"{names[-1]}.{old}") or FIELDS.get(old) or old
        if not {old, name} & IGNORED_FIELDS:
            fields[name] = normal(inner, (*names, name))
    return fields


def compare_json(found: Findings, where: str, names: Names, a: Any, b: Any) -> None:
    """Two values of ``normal``; ``where`` tells the thing, ``names`` the fields in it."""
    if isinstance(a, dict) and isinstance(b, dict):
        for side, mine, others in (("A", a, b), ("B", b, a)):
            for name in sorted(mine.keys() - others.keys()):
                lacking(found, side, where, (*names, name))
        for name in sorted(a.keys() & b.keys()):
            compare_json(found, where, (*names, name), a[name], b[name])
    elif isinstance(a, list) and isinstance(b, list):
        if len(a) != len(b):
            found.differ(f"{where} {'.'.join(names)}", f"{len(a)} items → {len(b)} items")
        for place, (x, y) in enumerate(zip(a, b, strict=False)):
            compare_json(found, where, (*names[:-1], f"{names[-1]}[{place}]"), x, y)
    else:
        found.compared["values"] += 1
        if not same(a, b):
            found.pairs(f"{where} {'.'.join(names)}", [("", a, b)], 1)


def lacking(found: Findings, side: str, where: str, names: Names) -> None:
    if re.sub(r"\[\d+\]", "", names[-2]) in MAPS:
        found.differ(f"{where} {'.'.join(names)}", f"only in {side}")
    else:
        found.lacks(side, re.sub(r"\[\d+\]", "", ".".join(names)))


def leaves(value: Any) -> int:
    if isinstance(value, (dict, list)):
        return sum(map(leaves, value.values() if isinstance(value, dict) else value))
    return 1


Groups = Mapping[str, Sequence[Any]]
"""What it is of → values of ``normal`` in their order."""


def compare_groups(found: Findings, what: str, root: Callable[[str], str], a: Groups, b: Groups) -> None:
    """Each group as a multiset: equal ones cancel out, what is left is compared in its order."""
    for name in sorted(a.keys() | b.keys()):
        rest = [list(side.get(name, ())) for side in (a, b)]
        found.compared[what] += max(map(len, rest))
        texts = [[json.dumps(item, sort_keys=True) for item in side] for side in rest]
        both = Counter(texts[0]) & Counter(texts[1])
        found.compared["values"] += sum(leaves(json.loads(text)) * n for text, n in both.items())
        left = [without(items, known, both) for items, known in zip(rest, texts, strict=True)]
        for x, y in zip(*left, strict=False):
            compare_json(found, name, (root(name),), x, y)
        longer = left[len(left[1]) > len(left[0])]
        for item in longer[min(map(len, left)) :]:
            side = "A" if longer is left[0] else "B"
            found.differ(name, f"only in {side}: {short(json.dumps(item, sort_keys=True))}")


def without(items: Sequence[Any], texts: Sequence[str], taken: Counter[str]) -> list[Any]:
    remaining, kept = taken.copy(), []
    for item, text in zip(items, texts, strict=True):
        if remaining[text] > 0:
            remaining[text] -= 1
        else:
            kept.append(item)
    return kept


def read_json(path: Path) -> Any:
    return json.loads(path.read_text())


def first_file(folder: Path, names: Sequence[str]) -> Path | None:
    """The file that goes by one of these names."""
    return next((folder / name for name in names if (folder / name).is_file()), None)


# --- evidence and calls -------------------------------------------------------------------------------------


def evidence_of(home: Path) -> Groups:
    """Model and version → its evidence, by how many evaluations came before."""
    found: dict[str, list[Any]] = defaultdict(list)
    for path in sorted(home.glob("evidence/*/*.json")):
        if path.name in EVIDENCE_FILES:
            one = normal(read_json(path), ("evidence",))
            found[f"{new_model(one['model']['name'])} v{one['model']['version']}"].append(one)
    return {name: sorted(many, key=lambda e: e.get("prior_evaluations", 0)) for name, many in found.items()}


def calls_of(home: Path, part: str) -> Groups:
    """Stage, dataset and task → ``part`` of its finished calls, oldest first."""
    paths = [path for folder in CALL_FOLDERS for path in home.glob(f"lake/{folder}/*/*.json")]
    calls = [(STAGES.get(path.parent.name, path.parent.name), read_json(path)) for path in sorted(paths)]
    found: dict[str, list[Any]] = defaultdict(list)
    for stage, call in sorted(calls, key=lambda one: str(one[1].get("started_at"))):
        about = [stage, new_text(call["params"].get("dataset", "")), call["params"].get("task", "")]
        found["/".join(filter(None, about))].append(normal(call.get(part, {}), (stage,)))
    return found


def drift_numbers_of(home: Path) -> Groups:
    """Model and version → what lies beside its drift reports: the numbers of every column that was judged."""
    found: dict[str, list[Any]] = defaultdict(list)
    for path in sorted(home.glob("reports/drift/*/*.json")):
        numbers = {name: value for name, value in read_json(path).items() if name in ("columns", "missing")}
        found[f"drift/{path.parent.name}"].append(normal(numbers, ("drift",)))
    return found


def first_part(name: str) -> str:
    return name.split("/")[0]


def compare_evidence(found: Findings, a: Path, b: Path) -> None:
    compare_groups(found, "evidence files", lambda _: "evidence", evidence_of(a), evidence_of(b))


def compare_results(found: Findings, a: Path, b: Path) -> None:
    compare_groups(found, "stage calls", first_part, calls_of(a, "result"), calls_of(b, "result"))
    compare_groups(found, "drift reports", first_part, drift_numbers_of(a), drift_numbers_of(b))


def compare_params(found: Findings, a: Path, b: Path) -> None:
    compare_groups(found, "stage calls", first_part, calls_of(a, "params"), calls_of(b, "params"))


# --- registered versions ------------------------------------------------------------------------------------


class Version(NamedTuple):
    folder: Path
    run: str
    """Of MLflow; empty where it isn't known."""


Versions = dict[tuple[str, int], Version]


@cache
def versions_of(home: Path) -> Versions:
    """Name and number → the version, by MLflow's registry and the promotion history, or by folders' age."""
    found = promoted(home) | registered(home)
    return found or walked(home)


def registered(home: Path) -> Versions:
    database = home / "mlflow.db"
    if not database.is_file():
        return {}
    with closing(sqlite3.connect(f"{database.absolute().as_uri()}?mode=ro", uri=True)) as store:
        rows = store.execute("SELECT name, version, source, run_id FROM model_versions").fetchall()
        tags = store.execute(
            "SELECT name, version, value FROM model_version_tags WHERE key LIKE '%uri'"
        ).fetchall()
    uris = {(name, version): value for name, version, value in tags}
    return {
        (new_model(name), int(version)): Version(
            located(home, uris.get((name, version), source)), str(run or "")
        )
        for name, version, source, run in rows
    }


def promoted(home: Path) -> Versions:
    from deltalake import DeltaTable

    found = {}
    for log in home.glob("lake/*/promotions/_delta_log"):
        for move in DeltaTable(str(log.parent)).to_pyarrow_table().to_pylist():
            uri = move.get("model_uri") or move.get("uri")
            if uri:
                name, number = new_model(move["model"]), int(move["to_version"])
                found[name, number] = Version(located(home, uri), "")
    return found


def walked(home: Path) -> Versions:
    specs = [
        path for name in (*PREDICTOR_FILES, *NOTE_SPEC_FILES) for path in home.glob(f"artifacts/**/{name}")
    ]
    seen: Counter[str] = Counter()
    found = {}
    for path in sorted(specs, key=lambda path: path.stat().st_mtime):
        if path.parent.name not in NOTE_FOLDERS:
            name = new_model(read_json(path)["name"])
            seen[name] += 1
            found[name, seen[name]] = Version(path.parent, "")
    return found


def located(home: Path, uri: str) -> Path:
    """A model's folder in this home, wherever the home was when it was registered."""
    path = Path(uri.removeprefix("file://"))
    inside = home / "artifacts" / str(path).partition("/artifacts/")[2]
    return inside if path.is_absolute() and inside.is_dir() else home / path


def compare_versions(
    found: Findings, a: Path, b: Path, compare: Callable[[Findings, str, Path, Version, Path, Version], None]
) -> None:
    homes = versions_of(a), versions_of(b)
    for one in sorted(homes[0].keys() | homes[1].keys()):
        where = f"{one[0]} v{one[1]}"
        if in_both(found, where, *(one in home for home in homes)):
            found.compared["versions"] += 1
            compare(found, where, a, homes[0][one], b, homes[1][one])


# --- models -------------------------------------------------------------------------------------------------


def compare_models(found: Findings, a: Path, b: Path) -> None:
    compare_versions(found, a, b, compare_model)


def compare_model(found: Findings, where: str, home_a: Path, a: Version, home_b: Path, b: Version) -> None:
    folders = a.folder, b.folder
    if not in_both(found, f"{where} files", *(folder.is_dir() for folder in folders)):
        if not any(folder.is_dir() for folder in folders):
            found.differ(where, "its files are in neither home")
        return
    specs = [first_file(folder, PREDICTOR_FILES) for folder in folders]
    if in_both(found, f"{where} predictor", *map(bool, specs)):
        compare_predictors(
            found, where, (home_a, home_b), folders, [read_json(path) for path in specs if path]
        )
    notes = [note_folder(folder) for folder in folders]
    if in_both(found, f"{where} note model", *map(bool, notes)):
        compare_note_models(found, f"{where} notes", *(folder for folder in notes if folder))


def compare_predictors(
    found: Findings, where: str, homes: Sequence[Path], folders: Sequence[Path], specs: Sequence[Any]
) -> None:
    """The spec, the trees, and what they answer on the training set."""
    compare_json(found, where, ("predictor",), *(normal(spec, ("predictor",)) for spec in specs))
    files = [first_file(folder, TREE_FILES) for folder in folders]
    if not in_both(found, f"{where} trees", *map(bool, files)):
        return
    found.compared["tree models"] += 1
    boosters = [booster_of(path) for path in files if path]
    compare_json(found, where, ("trees",), *(json.loads(b.save_raw("json"))["learner"] for b in boosters))
    answers = [answered(*one) for one in zip(homes, boosters, specs, strict=True)]
    if not in_both(found, f"{where} rows that it can answer", *map(bool, answers)):
        if not any(answers):
            found.differ(where, "the training sets of both homes lack its inputs")
        return
    found.compared["rows"] += len(next(iter(answers[0].values())))
    for name in (name for name in answers[0] if name in answers[1]):
        compare_arrays(found, f"{where} {name}", answers[0][name], answers[1][name], "row {}:".format)


def booster_of(path: Path) -> Any:
    import xgboost

    return xgboost.Booster(model_file=str(path))


def answered(home: Path, booster: Any, spec: Mapping[str, Any]) -> dict[str, pa.Array]:
    """Margin, risk and contributions of every row of the training set; empty where it lacks an input."""
    import xgboost

    rows = training_set(home, spec["dataset"], spec["task"])
    names = booster.feature_names or list(spec["features"])
    if rows is None or set(names) - set(rows.column_names):
        return {}
    inputs = np.column_stack([rows[name].to_numpy().astype(np.float32) for name in names])
    matrix = xgboost.DMatrix(inputs, feature_names=booster.feature_names, nthread=1)
    margins = booster.predict(matrix, output_margin=True)
    parts = booster.predict(matrix, pred_contribs=True)
    platt = spec["calibration"]
    risks = 1 / (1 + np.exp(-(platt["slope"] * margins.astype(np.float64) + platt["intercept"])))
    columns = {"margin": margins, "risk": risks}
    columns |= {f"contribution of {name}": parts[:, at] for at, name in enumerate((*names, "the bias"))}
    return {name: pa.array(np.ascontiguousarray(values)) for name, values in columns.items()}


@cache
def training_set(home: Path, dataset: str, task: str) -> pa.Table | None:
    """Its newest version, sorted by its key."""
    name = new_text(dataset), new_table(f"training_set_{task}")
    folders = tables_of(home).get(name)
    if folders is None:
        return None
    base = table_base(name[1])
    rows = read_table(folders, base)
    return in_order(rows, [key for key in KEYS[base] if key in rows.column_names])


def note_folder(folder: Path) -> Path | None:
    """Where a version's note model is: its own folder, or one beside the trees."""
    places = (folder, *(folder / name for name in NOTE_FOLDERS))
    return next((place for place in places if first_file(place, NOTE_SPEC_FILES)), None)


def compare_note_models(found: Findings, where: str, a: Path, b: Path) -> None:
    found.compared["note models"] += 1
    specs = [first_file(folder, NOTE_SPEC_FILES) for folder in (a, b)]
    compare_json(found, where, ("notes",), *(normal(read_json(path), ("notes",)) for path in specs if path))
    compared = {".safetensors": compare_weights, ".onnx": compare_graphs}
    for name in ("model.safetensors", "model.onnx", "tokenizer.json", "config.json"):
        files = a / name, b / name
        if in_both(found, f"{where} {name}", *(path.is_file() for path in files)):
            found.compared["bytes"] += files[0].stat().st_size
            compared.get(files[0].suffix, compare_bytes)(found, f"{where} {name}", *files)


def compare_bytes(found: Findings, where: str, a: Path, b: Path) -> None:
    if a.read_bytes() != b.read_bytes():
        found.differ(where, f"{a.stat().st_size:,} bytes → {b.stat().st_size:,} other bytes")


def compare_weights(found: Findings, where: str, a: Path, b: Path) -> None:
    from safetensors.numpy import load_file

    compare_tensors(found, where, load_file(a), load_file(b))


def compare_graphs(found: Findings, where: str, a: Path, b: Path) -> None:
    """ONNX files must be the same bytes; where they are not, their weights say how far apart they are."""
    import onnx
    from onnx import numpy_helper

    compare_bytes(found, where, a, b)
    weights = (
        {one.name: numpy_helper.to_array(one) for one in onnx.load(path).graph.initializer} for path in (a, b)
    )
    compare_tensors(found, where, *weights)


Tensors = Mapping[str, NDArray[Any]]


def compare_tensors(found: Findings, where: str, a: Tensors, b: Tensors) -> None:
    for name in sorted(a.keys() | b.keys()):
        if in_both(found, f"{where} {name}", name in a, name in b):
            if a[name].shape != b[name].shape:
                found.differ(f"{where} {name}", f"shape {a[name].shape} → {b[name].shape}")
            x, y = (pa.array(side[name].ravel()) for side in (a, b))
            compare_arrays(found, f"{where} {name}", x, y, "weight {}:".format)


# --- runs ---------------------------------------------------------------------------------------------------


def compare_runs(found: Findings, a: Path, b: Path) -> None:
    """What MLflow's run of each registered version holds: curves, figures, and its JSON files."""
    compare_versions(found, a, b, compare_run)


def compare_run(found: Findings, where: str, home_a: Path, a: Version, home_b: Path, b: Version) -> None:
    found.compared["runs"] += 1
    compare_json(found, where, ("run",), run_of(home_a, a.run), run_of(home_b, b.run))


def run_of(home: Path, run: str) -> Any:
    if not run:
        return {}
    files = home.glob(f"artifacts/*/{run}/artifacts/*.json")
    said = {path.name: normal(read_json(path), ("run",)) for path in files}
    return {"metrics": dict(curves_of(home, run)), "files": said}


def curves_of(home: Path, run: str) -> Iterator[tuple[str, list[float]]]:
    asked = "SELECT key, value, is_nan FROM metrics WHERE run_uuid = ? ORDER BY key, step, timestamp, value"
    with closing(sqlite3.connect(f"{(home / 'mlflow.db').absolute().as_uri()}?mode=ro", uri=True)) as store:
        rows = store.execute(asked, (run,)).fetchall()
    curves: dict[str, list[float]] = defaultdict(list)
    for name, value, is_nan in rows:
        if name not in IGNORED_METRICS:
            curves[name].append(math.nan if is_nan else value)
    yield from curves.items()


# --- scores -------------------------------------------------------------------------------------------------


def compare_scores(found: Findings, a: Path, b: Path) -> None:
    """Two files of ``mediscale score``."""
    rows = [in_new_names(pq.read_table(path), "scores") for path in (a, b)]
    found.compared["files"] += 1
    compare_schemas(found, "scores", *({one.name: str(one.type) for one in side.schema} for side in rows))
    compare_rows(found, "scores", "scores", *rows)


KINDS: dict[str, Callable[[Findings, Path, Path], None]] = {
    "tables": compare_tables,
    "models": compare_models,
    "runs": compare_runs,
    "evidence": compare_evidence,
    "results": compare_results,
    "parameters": compare_params,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("home_a", type=Path, help="of the older commit")
    parser.add_argument("home_b", type=Path, help="of the newer one")
    parser.add_argument("--tolerance", type=float, default=0.0, help="how far numbers may be apart")
    parser.add_argument("--show", type=int, default=10, help="differences that are printed of each kind")
    parser.add_argument("--scores", type=Path, nargs=2, metavar=("A", "B"), help="files of `mediscale score`")
    asked = parser.parse_args()
    work = [(kind, compare, asked.home_a, asked.home_b) for kind, compare in KINDS.items()]
    if asked.scores:
        work.append(("scores", compare_scores, *asked.scores))
    print(f"A {asked.home_a}\nB {asked.home_b}")
    everything = []
    for kind, compare, a, b in work:
        found = Findings(kind, asked.tolerance)
        compare(found, a, b)
        found.tell(asked.show)
        everything.append(found)
    nothing = not any(found.compared.total() for found in everything)
    failed = [found.kind for found in everything if found.failed]
    differing = f"DIFFERENT: {', '.join(failed)}" if failed else "no difference"
    print("\nNOTHING to compare in either home" if nothing else f"\n{differing}")
    sys.exit(bool(nothing or failed))


if __name__ == "__main__":
    main()
