"""Stanzas of all tables that list neither patients nor visits: the first kind that a table's rows look like."""

from collections.abc import Callable

from data_pipeline.source_draft import items, measurements, people
from data_pipeline.source_draft.builder import Builder, Draft, Stanza, known_moment, late, span
from data_pipeline.source_draft.items import ItemUse
from data_pipeline.source_draft.knowledge import is_called, is_kind, names
from data_pipeline.source_draft.profiles import Column, Table

_NOTE_LENGTH = 200
"""Mean characters of a column that holds notes."""
_SPELLED = 0.9
"""Share of a column's values that have to be spelled as codes."""


def draft_stanza(draft: Draft, table: Table) -> Stanza | None:
    """The stanza of any other table; None where nothing in it says whose a row is, or what a row means."""
    builder = Builder(draft, table)
    if builder.patient is None and builder.visit is None:
        return None
    kinds: tuple[Callable[[Builder], bool], ...] = (
        _notes, _deaths, _icd, measurements.wide, _intensive_care, _drugs, _infusions, measurements.measured, _coded,
    )  # fmt: skip
    return builder.stanza if any(fits(builder) for fits in kinds) else None


def _notes(b: Builder) -> bool:
    """Clinical notes: a column of long texts."""
    text = next((c for c in b.pick("note", "text") if c.length >= _NOTE_LENGTH), None)
    moment = next(iter(b.moments(("moment", "start"))), None)
    if text is None or moment is None:
        return False
    time = b.time(moment)
    stored = next((b.time(c) for c in b.pick("known", "time") if c != moment), "")
    b.stanza.provides = "notes"
    b.stanza.note = {"id": b.event(), "time": time, "text": b.use(text.header, "text")}
    if stored:
        b.stanza.note["stored"] = stored
    b.stanza.available = f"greatest({time}, {stored})" if stored else late(b, moment, time, "report_delay")
    b.stanza.comments.append(f"{text.header} has {text.length:.0f} characters on average")
    b.ask(f"may a note tell of what came after {moment.header}, as a discharge summary does?")
    return True


def _deaths(b: Builder) -> bool:
    """A table with a row for each death."""
    death = b.first("death", "time") or b.first("death", "date")
    if death is None or not is_called("death", b.table.name.replace("_", " ")):
        return False
    fact = people.death_of(b, death)
    b.stanza.available = fact["available"]
    b.stanza.facts["death"] = fact
    return True


def _icd(b: Builder) -> bool:
    """ICD codes, with a column of their version or with the version in the column's name."""
    column = next(
        (c for c in b.pick("icd", "text", "number") if _spelled_as_icd(c, b.table) >= _SPELLED), None
    )
    if column is None:
        return False
    version = next((v for v in ("10", "9") if f"icd{v}" in column.header.replace("_", "")), "")
    stated = next((c for c in b.pick("version", "number", "text") if c.distinct <= 4), None)
    if not version and stated is None:
        return False
    kind = "procedure" if _are_procedures(column, b.table) else "diagnosis"
    code = b.use(column.header, "string")
    b.stanza.provides = "procedures" if kind == "procedure" else "diagnoses"
    b.stanza.icd = {
        "code": code,
        "version": version or (b.use(stated.header, "identifier") if stated else ""),
        "kind": kind,
    }
    b.stanza.available = f"visit.ended + {b.draft.delay('coding_delay')}"
    sequence = [c.header for c in b.table.columns.values() if c.kind == "number" and "seq" in c.name]
    event = b.event(*sequence, column.header)
    b.stanza.facts[kind] = {
        "event": event,
        "code": "icd",
        "time": "visit.ended",
        "when": f"{code} is not null",
    }
    share = _spelled_as_icd(column, b.table)
    b.stanza.comments.append(f"{share:.0%} of {column.header} are spelled as ICD codes of a {kind}")
    if b.visit is None:
        b.ask("rows name no visit, after whose end the codes are known: how is it found?")
    return True


def _are_procedures(column: Column, table: Table) -> bool:
    return is_kind("procedures", table.name) or is_kind("procedures", column.name)


def _spelled_as_icd(column: Column, table: Table) -> float:
    """Share of a column's values that are spelled as codes of diagnoses or, where a name says so, of procedures."""
    return column.looks["procedure" if _are_procedures(column, table) else "icd"]


def _intensive_care(b: Builder) -> bool:
    """Stays in intensive care: a beginning and an end, and a name that says so."""
    start, end = span(b)
    numbered = any("icu" in c.name and c.distinct > 0.9 * b.table.rows for c in b.table.columns.values())
    named = is_kind("icu", b.table.name) or numbered
    if not named or start is None or end is None or b.first("item"):
        return False
    begins, ends, event = b.time(start), b.time(end), b.event()
    b.stanza.available = begins
    b.order(start, end)
    days = b.first("days", "number")
    b.stanza.facts = {
        "start": {"event": event, "code": "'ICU_ADMISSION'", "time": begins},
        "end": {
            "event": event,
            "code": "'ICU_DISCHARGE'",
            **({"value": b.use(days.header, "double"), "unit": "'d'"} if days else {}),
            "time": ends,
            "available": ends,
            "when": f"{ends} is not null",
        },
    }
    b.ask("is every row a stay in intensive care?")
    return True


def _drugs(b: Builder) -> bool:
    """Drugs by name, ordered or given."""
    by_table = is_kind("medications", b.table.name)
    called = [c for c in b.pick("drug", "text") if by_table or "drug" in c.name or "medic" in c.name]
    start = next(iter(b.moments(("start", "moment"))), None)
    if not called or start is None:
        return False
    drug = min(called, key=lambda c: not c.name.startswith(("drug", "medication")))
    name, time = b.use(drug.header, "string"), b.time(start)
    b.stanza.provides = "medications"
    b.stanza.available = late(b, start, time, "order_delay")
    b.draft.uses_drugs = True
    rest = {"time": time, "when": f"{time} is not null"}
    event = b.event(drug.header)
    b.stanza.facts = {
        "drug": {"event": event, "code": f"concat('MEDICATION//', lower({name}))", **rest},
        "treatment": {"event": event, "treatment_of": name, **rest},
    }
    b.ask(f"is {start.header} when a drug was ordered, or given?")
    return True


def _infusions(b: Builder) -> bool:
    """Items with a beginning, an end and a label elsewhere: infusions, procedures at the bedside."""
    item, (start, end) = measurements.item_of(b), span(b)
    if item is None or start is None or end is None:
        return False
    dictionary = items.find_dictionary(b.draft.database, b.draft.tables, b.table, item.header)
    if dictionary is None:
        return False
    _treatments(b, ItemUse(b.table, item.header, "null", None, b.patient, dictionary=dictionary))
    name, begins, ends = b.use(item.header, "identifier"), b.time(start), b.time(end)
    entered = b.first("known", "time")
    begun = f"{begins} + {b.draft.delay('start_delay')}"
    b.stanza.available = f"least({b.time(entered)}, {begun})" if entered else begun
    b.order(start, end)
    event = b.event(item.header)
    b.stanza.facts["start"] = {"event": event, "treatment_of": name, "time": begins}
    amount, unit = b.first("amount", "number"), b.first("unit", "text")
    if amount is not None:
        b.stanza.facts["end"] = {
            "event": event,
            "code": f"concat('{b.table.name.upper()}//', {name})",
            "value": b.use(amount.header, "double"),
            **({"unit": b.use(unit.header, "string")} if unit else {}),
            "time": ends,
            "available": f"coalesce({b.time(entered)}, {ends})" if entered else ends,
            "when": f"{ends} is not null",
        }
    b.stanza.comments.append(
        f"labels of {item.header} are in {dictionary.name}; an amount is final at the end"
    )
    b.ask("which rows were rewritten or cancelled, and state nothing?")
    return True


def _treatments(b: Builder, use: ItemUse) -> None:
    """Adds the items of each treatment group, by the labels of the dictionary."""
    patterns = dict(b.draft.shipped.drugs)
    for group, pattern in names()["treatments"].items():
        patterns[group] = f"{patterns[group]}|{pattern}" if group in patterns else pattern
    for group, of_group in items.treatments_called(b.draft.database, use, patterns):
        b.draft.treatments.setdefault(group, set()).update(of_group)


def _coded(b: Builder) -> bool:
    """What is left: a code or a word, and a time."""
    moments = b.moments(("start", "moment"))
    code = max(
        b.pick("own_code", "text", "number"),
        key=lambda c: (c.distinct > 1, is_called("careunit", c.name), round(c.filled, 1), c.name == "code"),
        default=None,
    )
    if code is None or not moments:
        return False
    kind = next((k for k in ("microbiology", "procedures", "diagnoses") if is_kind(k, b.table.name)), "")
    b.stanza.provides = kind
    delay = "coding_delay" if kind in ("procedures", "diagnoses") else "result_delay"
    time, b.stanza.available = known_moment(b, moments, delay)
    name = b.use(code.header, "identifier" if code.kind == "number" else "string")
    b.stanza.facts["row"] = {
        "event": b.event(code.header),
        "code": f"concat('{b.table.name.upper()}//', {name})",
        "time": time,
        "when": f"{name} is not null",
    }
    b.ask("what does a row mean, and when was it known?")
    return True
