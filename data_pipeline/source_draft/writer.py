"""Writer of a draft: the stanzas as the YAML of a source, with evidence as comments and ``TODO`` for a person."""

import re
import textwrap
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import yaml

from data_pipeline.ingest import shared_mappings
from data_pipeline.ingest.source_tables import Csv
from data_pipeline.source_draft.builder import Draft, Stanza
from data_pipeline.source_draft.items import ItemMapping
from mediscale.core.concepts import CONCEPTS, TREATMENTS

_WIDTH = 120
_SHARED = "loinc"
"""The shared mapping whose codes an extract may write."""


def text(draft: Draft, visits: Mapping[str, str], stanzas: Sequence[Stanza], notes: Sequence[str]) -> str:
    """The YAML of a draft. ``visits`` are the expressions of the visits' times, ``notes`` what is said first."""
    parts = [
        [*_comments(notes, ""), "description: TODO what is this extract, of which hospital and which years?"],
        _csv(draft),
        _clock(draft),
        _assumptions(draft),
        [
            *_comments(draft.keys.evidence, ""),
            *_todos(draft.keys.unsure, ""),
            f"subjects: {_flow({'table': draft.keys.subjects, 'id': draft.patient})}",
            "visits:",
            *(f"  {key}: {_flow(value)}" for key, value in visits.items()),
        ],
        _concepts(draft.mapped),
        _treatments(draft),
        ["tables:"],
    ]
    lines = [line for part in parts if part for line in (*part, "")][:-1]
    for stanza in stanzas:
        lines += [*_stanza(draft, stanza), ""]
    return "\n".join(lines).rstrip() + "\n"


def todos(yaml_text: str) -> list[tuple[int, str]]:
    """The open questions of a draft with their lines.

    >>> todos("a: 1\\n# TODO: which zone?\\nb: {x: 1} # n 30; TODO: unit?")
    [(2, 'which zone?'), (3, 'unit?')]
    """
    numbered = []
    for number, line in enumerate(yaml_text.splitlines(), start=1):
        if "TODO" in line:
            numbered.append((number, line.partition("TODO")[2].strip(": \"'")))
    return numbered


def _comments(sentences: Sequence[str], indent: str) -> Iterator[str]:
    """Evidence, wrapped, and a question below it.

    >>> list(_comments(["Not read: codes, 28 rows; TODO: is label of codes an outcome?"], ""))
    ['# Not read: codes, 28 rows', '# TODO: is label of codes an outcome?']
    """
    for sentence in sentences:
        evidence, _, question = _plain(sentence).partition("TODO: ")
        yield from textwrap.wrap(
            evidence.rstrip("; "),
            _WIDTH,
            initial_indent=f"{indent}# ",
            subsequent_indent=f"{indent}#   ",
            break_long_words=False,
        )
        yield from _todos(filter(None, [question]), indent)


def _todos(sentences: Iterable[str], indent: str) -> Iterator[str]:
    for sentence in sentences:  # on one line: source check names it
        yield f"{indent}# TODO: {_plain(sentence)}"


def _plain(text: str) -> str:
    return " ".join(text.split())


class _Dumper(yaml.SafeDumper):
    """Quotes with double quotes, for expressions are full of single ones."""


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style='"' if "'" in value else None)


_Dumper.add_representer(str, _text)


def _flow(value: Any) -> str:
    """A value on one line."""
    dumped = yaml.dump(
        value, Dumper=_Dumper, default_flow_style=True, width=10**6, allow_unicode=True, sort_keys=False
    )
    return re.sub(r"\? ''\s*:", '"":', dumped.strip().removesuffix("\n..."))


def _csv(draft: Draft) -> list[str]:
    common = _common_csv(draft)
    return [] if common == Csv() else [f"csv: {_flow(common.model_dump(exclude_defaults=True))}"]


def _common_csv(draft: Draft) -> Csv:
    """How most text files are written; a table's own is said where it is another."""
    return Counter(table.csv for table in draft.tables).most_common(1)[0][0]


def _clock(draft: Draft) -> list[str]:
    if draft.relative:
        return ["clock: relative # no column has a date: times are offsets"]
    columns = [c for table in draft.tables for c in table.columns.values() if c.kind == "time"]
    if columns and all(c.mostly("zoned") for c in columns):
        return ["zone: UTC # times are written with their offset"]
    return ["# TODO: which zone has the clock that wrote these times, such as Europe/Zurich?", "zone: UTC"]


def _assumptions(draft: Draft) -> list[str]:
    if not draft.assumptions:
        return []
    lines = ["assumptions: # the evidence of every model quotes them"]
    for name, (interval, because) in draft.assumptions.items():
        lines += [
            f"  {name}: # TODO: is {name} as long as {interval} here, and why?",
            f"    interval: {interval}",
            f"    because: {_flow(because)}",
        ]
    return lines


def _concepts(mapped: Mapping[str, Sequence[ItemMapping]]) -> list[str]:
    """What a shared mapping has as it was found is taken from there; other concepts are listed."""
    own = {c: _distinct(mapped[c.name]) for c in CONCEPTS if mapped.get(c.name)}
    shared = [item for items in own.values() if all(map(_is_shared, items)) for item in items]
    listed = {concept: items for concept, items in own.items() if not all(map(_is_shared, items))}
    lines = [f"extends: [{_SHARED}] # what is here of it:"] if shared else []
    for one in shared:
        lines += _comments([f"{one.concept}: {one.item}, {one.evidence}"], "  ")
    lines += ["concepts:"] if listed else []
    for concept, items in listed.items():
        lines.append(f"  {concept.name}: # {concept.unit}")
        for one in items:
            measure = {"items": [one.item], "units": one.units}
            lines.append(f"    - {_flow(measure)} # {_plain(one.evidence)}")
    return lines


def _is_shared(one: ItemMapping) -> bool:
    """Whether the shared mapping converts the item's units as they were found to be."""
    measures = shared_mappings.load(_SHARED).concepts.get(one.concept, ())
    return any(
        one.item in measure.items and one.units.items() <= measure.units.items() for measure in measures
    )


def _distinct(mapped: Sequence[ItemMapping]) -> list[ItemMapping]:
    """One of each item, with the units of all tables that have it."""
    by_item: dict[str, ItemMapping] = {}
    for one in mapped:
        before = by_item.get(one.item)
        by_item[one.item] = one._replace(units={**before.units, **one.units}) if before else one
    return list(by_item.values())


def _treatments(draft: Draft) -> list[str]:
    groups: dict[str, dict[str, Any]] = {}
    for group in TREATMENTS:
        items = sorted(draft.treatments.get(group, ()))
        drugs = draft.shipped.drugs.get(group, "") if draft.uses_drugs else ""
        if items or drugs:
            groups[group] = ({"items": items} if items else {}) | ({"drugs": drugs} if drugs else {})
    if not groups:
        return []
    return [
        "# TODO: drugs by patterns of shipped sources, items by their labels: are these the drugs of this hospital?",
        "treatments:",
        *(f"  {group}: {_flow(content)}" for group, content in groups.items()),
    ]


def _stanza(draft: Draft, stanza: Stanza) -> Iterator[str]:
    table = stanza.table
    rows = f"{table.rows:,} rows{'' if table.whole else ' looked at, of more'}"
    yield from _comments([rows, *stanza.comments], "  ")
    yield from _todos([f"{table.name}: {sentence}" for sentence in stanza.todos], "  ")
    yield f"  {table.name}:"
    content: dict[str, Any] = {
        "file": table.file,
        "required": stanza.required,
        "provides": stanza.provides,
        "csv": {} if table.csv == _common_csv(draft) else table.csv.model_dump(),
        "columns": stanza.columns,
        "paths": {
            name: table.paths[stanza.headers.get(name, name)] for name in stanza.columns if table.paths
        },
        "headers": {name: [header] for name, header in stanza.headers.items() if not table.paths},
        "sentinels": stanza.sentinels,
        "formats": stanza.formats,
        "vocabularies": stanza.vocabularies,
        "intervals": stanza.intervals,
        "icd": stanza.icd,
        "patient_through": {"table": draft.keys.visits, "key": draft.visit} if stanza.through_visit else {},
        "available": stanza.available,
        "note": stanza.note,
    }
    yield from (f"    {key}: {_flow(value)}" for key, value in content.items() if value)
    if stanza.facts:
        yield "    facts:"
        for name, fact in stanza.facts.items():
            yield from _fact(name, fact)


def _fact(name: str, fact: Mapping[str, Any]) -> Iterator[str]:
    if len(line := f"      {name}: {_flow(fact)}") <= _WIDTH:
        yield line
        return
    yield f"      {name}:"
    yield from (f"        {key}: {_flow(value)}" for key, value in fact.items())
