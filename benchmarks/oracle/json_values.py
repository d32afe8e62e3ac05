"""Two JSON documents, field by field, in new names."""

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.oracle.findings import Findings, same, short
from benchmarks.oracle.renames import FIELDS, IGNORED_FIELDS, MAPS, Names, new_table, new_text


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


def compare_json(findings: Findings, where: str, names: Names, a: Any, b: Any) -> None:
    """Two values of ``normal``; ``where`` tells the thing, ``names`` the fields in it."""
    if isinstance(a, dict) and isinstance(b, dict):
        for side, mine, others in (("A", a, b), ("B", b, a)):
            for name in sorted(mine.keys() - others.keys()):
                lacking(findings, side, where, (*names, name))
        for name in sorted(a.keys() & b.keys()):
            compare_json(findings, where, (*names, name), a[name], b[name])
    elif isinstance(a, list) and isinstance(b, list):
        if len(a) != len(b):
            findings.differ(f"{where} {'.'.join(names)}", f"{len(a)} items → {len(b)} items")
        for place, (x, y) in enumerate(zip(a, b, strict=False)):
            compare_json(findings, where, (*names[:-1], f"{names[-1]}[{place}]"), x, y)
    else:
        findings.compared["values"] += 1
        if not same(a, b):
            findings.pairs(f"{where} {'.'.join(names)}", [("", a, b)], 1)


def lacking(findings: Findings, side: str, where: str, names: Names) -> None:
    if re.sub(r"\[\d+\]", "", names[-2]) in MAPS:
        findings.differ(f"{where} {'.'.join(names)}", f"only in {side}")
    else:
        findings.lacks(side, re.sub(r"\[\d+\]", "", ".".join(names)))


def leaves(value: Any) -> int:
    if isinstance(value, (dict, list)):
        return sum(map(leaves, value.values() if isinstance(value, dict) else value))
    return 1


Groups = Mapping[str, Sequence[Any]]
"""What it is of → values of ``normal`` in their order."""


def compare_groups(findings: Findings, what: str, root: Callable[[str], str], a: Groups, b: Groups) -> None:
    """Each group as a multiset: equal ones cancel out, what is left is compared in its order."""
    for name in sorted(a.keys() | b.keys()):
        rest = [list(side.get(name, ())) for side in (a, b)]
        findings.compared[what] += max(map(len, rest))
        texts = [[json.dumps(item, sort_keys=True) for item in side] for side in rest]
        both = Counter(texts[0]) & Counter(texts[1])
        findings.compared["values"] += sum(leaves(json.loads(text)) * n for text, n in both.items())
        left = [without(items, known, both) for items, known in zip(rest, texts, strict=True)]
        for x, y in zip(*left, strict=False):
            compare_json(findings, name, (root(name),), x, y)
        longer = left[len(left[1]) > len(left[0])]
        for item in longer[min(map(len, left)) :]:
            side = "A" if longer is left[0] else "B"
            findings.differ(name, f"only in {side}: {short(json.dumps(item, sort_keys=True))}")


def without(items: Sequence[Any], texts: Sequence[str], counts: Counter[str]) -> list[Any]:
    remaining, kept = counts.copy(), []
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
