"""What was compared and what differs, of values and of Arrow columns."""

import math
import struct
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from benchmarks.oracle.renames import DROPPED, listed

EXAMPLES = 3
"""Values that a difference shows."""
SHORT = 160
"""Characters of a value that are shown."""


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
        examples = "; ".join(f"{name} {change(a, b)}".lstrip() for name, a, b in beyond[:EXAMPLES])
        more = "; …" if len(beyond) > EXAMPLES else ""
        many = f"{len(beyond):,} of {of:,} differ, " if of > 1 else ""
        self.differ(where, f"{many}{examples}{more}", len(beyond))

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

    def print(self, show: int) -> None:
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


def compare_arrays(
    findings: Findings, where: str, a: pa.Array, b: pa.Array, name: Callable[[int], str]
) -> None:
    """Two columns of one length; ``name`` says which row a place is."""
    findings.compared["values"] += len(a)
    if a.type != b.type or len(a) != len(b):
        findings.differ(where, f"{len(a):,} of {a.type} → {len(b):,} of {b.type}")
        return
    places = unequal(a, b)
    if len(places):
        values = (side.take(pa.array(places)).to_pylist() for side in (a, b))
        named = [
            (name(int(place)), x, y) for place, x, y in zip(places, *values, strict=True) if not same(x, y)
        ]
        findings.pairs(where, named, len(a))
