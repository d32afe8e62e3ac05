"""Quarantine: the facts that can't be used, by the rule that they break, and where they stand in the extract."""

from collections.abc import Iterator
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from data_pipeline import shards
from data_pipeline.ingest import messages
from mediscale.core.errors import NotFoundError, UsageError
from mediscale.core.refs import TableRef
from mediscale.core.settings import Settings
from mediscale.core.tables import FACTS, QUARANTINE
from mediscale.storage import lake

RULES = (*FACTS.all_rules, *messages.RULES)


class BrokenRule(NamedTuple):
    """The facts of one table of the extract that break one rule; a fact may break several."""

    table: str
    rule: str
    meaning: str
    """What a usable fact fulfils."""
    facts: int
    rows: int
    """Rows of the extract that they come from."""
    files: int


class Place(NamedTuple):
    """Where a fact stands in the extract. The first line of a file is its header."""

    file: str
    line: int
    table: str
    code: str
    rules: str


def broken_rules(settings: Settings, dataset: str) -> list[BrokenRule]:
    """Each table and rule with what breaks it, the most facts first.

    Raises:
        NotFoundError: the dataset was never validated.
    """
    facts = lake.read(settings, newest(settings, dataset))
    meanings = {rule.name: rule.meaning for rule in RULES}
    rules = []
    for table, rule in _pairs(facts):
        of_rule = facts.filter(pc.and_(pc.equal(facts["source"], table), _breaks(facts, rule)))
        rows = of_rule.group_by(["file", "line"]).aggregate([])
        files = len(pc.unique(of_rule["file"]))
        rules.append(BrokenRule(table, rule, meanings.get(rule, ""), len(of_rule), len(rows), files))
    return sorted(rules, key=lambda one: (-one.facts, one.table, one.rule))


def places(settings: Settings, dataset: str, rule: str = "", table: str = "") -> list[Place]:
    """Where the facts stand that break a rule, of one table or of all, by file and line.

    Raises:
        NotFoundError: the dataset was never validated.
        UsageError: there is no such rule.
    """
    if rule and rule not in (names := [each.name for each in RULES]):
        raise UsageError(f"There is no rule {rule!r}; the rules are: {', '.join(names)}.")
    facts = lake.read(settings, newest(settings, dataset))
    if rule:
        facts = facts.filter(_breaks(facts, rule))
    if table:
        facts = facts.filter(pc.equal(facts["source"], table))
    ordered = facts.sort_by([("file", "ascending"), ("line", "ascending"), ("code", "ascending")])
    columns = ("file", "line", "source", "code", "reason")
    return [Place(*values) for values in zip(*(ordered[name].to_pylist() for name in columns), strict=True)]


def difference(settings: Settings, before: TableRef, after: TableRef) -> tuple[int, int]:
    """How many facts left quarantine between two versions, and how many entered it; one that stands on another line by
    now did neither."""
    names = [name for name in QUARANTINE.column_names if name != "line"]
    was, now = (lake.read(settings, ref, names).select(names) for ref in (before, after))
    return len(shards.except_all(was, now)), len(shards.except_all(now, was))


def newest(settings: Settings, dataset: str) -> TableRef:
    """The newest version of a dataset's quarantine.

    Raises:
        NotFoundError: the dataset was never validated.
    """
    if ref := lake.find_latest(settings, dataset, QUARANTINE.name):
        return ref
    there = ", ".join(lake.datasets(settings)) or "none yet"
    raise NotFoundError(f"{dataset} was never validated; the lake's datasets are: {there}.")


def _pairs(facts: pa.Table) -> Iterator[tuple[str, str]]:
    patterns = facts.group_by(["source", "reason"]).aggregate([]).to_pylist()
    yield from sorted({(row["source"], rule) for row in patterns for rule in row["reason"].split(",")})


def _breaks(facts: pa.Table, rule: str) -> pa.ChunkedArray:
    return pc.match_substring_regex(facts["reason"], f"(^|,){rule}(,|$)")
