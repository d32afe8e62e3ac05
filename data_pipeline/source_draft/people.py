"""Stanzas of the tables that list patients and visits: who was born, came, left and died when."""

from typing import Any

from data_pipeline.source_draft import measurements
from data_pipeline.source_draft.builder import Builder, Draft, Stanza, span
from data_pipeline.source_draft.profiles import Column, Kind, Table, identifier


def patients(draft: Draft, table: Table) -> Stanza:
    """The table that lists the patients: birth, sex, race, death."""
    b = Builder(draft, table)
    b.stanza.required = True
    b.stanza.available = _birth_fact(b, draft.patient) or _no_birth(b)
    _persons(b, draft.patient, b.stanza.available)
    if death := b.first("death", "time", "date"):
        b.stanza.facts["death"] = death_of(b, death)
    return b.stanza


def _no_birth(b: Builder) -> str:
    if b.draft.relative:
        return "{origin}"
    b.ask("no column looks like a birth: from when is what this table says known?")
    return "timestamp_ntz'1900-01-01 00:00:00'"


def _birth_fact(b: Builder, event: str) -> str:
    """Adds the fact of a birth; its expression, empty where no column tells it."""
    if born := _birth(b):
        b.stanza.facts["birth"] = _known_at({"event": event, "code": "'MEDS_BIRTH'", "time": born}, born)
    return born


def _birth(b: Builder) -> str:
    """The expression of the birth; empty where no column tells it."""
    if (birth := b.first("birth", "time", "date")) is not None:
        b.stanza.comments.append(f"birth is {birth.header}")
        return b.time(birth)
    if (year := b.first("birth_year", "number")) is not None:
        b.stanza.comments.append(f"birth is {year.header}: a year alone, taken as its middle")
        return f"make_date(int({b.use(year.header, 'double')}), 7, 1)"
    age, year = b.first("anchor_age", "number"), b.first("anchor_year", "number")
    if age is not None and year is not None:
        b.stanza.comments.append(
            f"birth is {year.header} less {age.header}: a year alone, taken as its middle"
        )
        return f"make_date(int({b.use(year.header, 'double')} - {b.use(age.header, 'double')}), 7, 1)"
    return ""


def _persons(b: Builder, event: str, at: str) -> None:
    """Sex and race, and an age where there is no birth."""
    if sex := b.first("sex", "text", "number"):
        name = b.words(sex, "sex")
        code = f"concat('GENDER//', {name}_category)"
        b.stanza.facts["sex"] = _known_at(
            {"event": event, "code": code, "time": at, "when": f"{name}_category in ('F', 'M')"}, at
        )
    if race := b.first("race", "text"):
        name = b.use(race.header, "word")
        b.stanza.facts["race"] = _known_at(
            {"event": event, "code": f"concat('RACE//', {name})", "time": at, "when": f"{name} is not null"},
            at,
        )
    if "birth" not in b.stanza.facts and (age := b.first("age", "number")):
        name = b.use(age.header, "double")
        b.stanza.facts["age"] = _known_at(
            {"event": event, "code": "'AGE'", "value": name, "unit": "'a'", "time": at}, at
        )


def _known_at(fact: dict[str, Any], at: str) -> dict[str, Any]:
    return {**fact, "available": at}


def visits(draft: Draft, table: Table) -> tuple[Stanza, dict[str, str]]:
    """The table that lists the visits, and the expressions of their times."""
    b = Builder(draft, table)
    b.stanza.required = True
    start, end = span(b)
    if start is None:
        b.ask("no column looks like the beginning of a visit; say when each began")
    admitted = (
        b.time(start) if start else ("{origin}" if draft.relative else "timestamp_ntz'1900-01-01 00:00:00'")
    )
    ended = b.time(end) if end else _length_of_stay(b, admitted) or "cast(null as timestamp)"
    arrival = b.first("emergency", "time")
    started = f"least({admitted}, {b.time(arrival)})" if arrival else admitted
    b.stanza.available = admitted
    if start and end:
        b.order(start, end)
    when = _visit_facts(b, admitted, ended)
    _ends(b, ended)
    if arrival:
        at = b.time(arrival)
        fact = {"event": draft.visit, "code": "'ED_REGISTRATION'", "time": at}
        b.stanza.facts["emergency"] = {**_known_at(fact, at), "when": f"{at} is not null"}
    if table.name == draft.keys.subjects:
        _birth_fact(b, draft.visit)
        _persons(b, draft.visit, admitted)
        measurements.of_columns(b, admitted, admitted)
        _outcome(b)
        if draft.patient != draft.visit and len(draft.keys.visit) == 1 and "discharge" in b.stanza.facts:
            _rest(b, ended)
    elif race := b.first("race", "text"):
        name = b.use(race.header, "word")
        b.stanza.facts["race"] = {
            "event": draft.visit, "code": f"concat('RACE//', {name})", "time": admitted, "when": f"{name} is not null",
        }  # fmt: skip
    listed = {
        "table": table.name,
        "id": draft.visit,
        "started": started,
        "admitted": admitted,
        "ended": ended,
    }
    return b.stanza, listed | ({"when": when} if when else {})


def _length_of_stay(b: Builder, admitted: str) -> str:
    """The end of a visit by its length in days; empty where no column has that."""
    if (days := b.first("days", "number")) is None:
        return ""
    b.ask(f"is {days.header} the length of the visit in days?")
    return f"{admitted} + make_dt_interval(cast({b.use(days.header, 'double')} as int))"


def _rest(b: Builder, ended: str) -> None:
    """The columns of an encounter's row that are left, numbers and words, known at the end of the visit."""
    kinds: tuple[tuple[str, Kind, str], ...] = (("numbers", "number", "double"), ("words", "text", "word"))
    for name, kind, typed in kinds:
        columns = [b.use(header, typed) for header in b.unused_columns(kind)]
        if not columns:
            continue
        value = {"value": "column_value"} if kind == "number" else {}
        spelled = "column_name" if kind == "number" else "column_name, '//', column_text"
        b.stanza.facts[name] = {
            "event": f"concat_ws('|', {b.draft.visit}, column_name)",
            "code": f"concat('ENCOUNTER//', {spelled})",
            "unpivot": columns,
            **value,
            "time": ended,
            "available": ended,
        }
        b.ask(f"which of {name} are known before the end of the visit, which later, and which is an outcome?")


def _outcome(b: Builder) -> None:
    """Asks of a column that may be what is to be predicted; such a column is never taken as anything else."""
    if (outcome := b.first("outcome")) is not None:
        b.ask(
            f"is {outcome.header} an outcome? Then state it as a fact of the code OUTCOME//{identifier(outcome.header)}"
        )


_URGENCIES = frozenset({"OBSERVATION", "EMERGENCY", "URGENT", "ELECTIVE", "NEWBORN"})


def _kinds(b: Builder) -> tuple[Column | None, Column | None]:
    """The column that tells how urgent an admission was, else the first of its kind, and the one that tells
    outpatients, which may be another: Eintrittsart says emergency, and Fallart says outpatient."""
    columns = b.pick("admission_kind", "text", "number")
    lists = {c.header: b.vocabulary(c, "admission_kind")[0].keys() for c in columns}
    urgency = next((c for c in columns if lists[c.header] & _URGENCIES), next(iter(columns), None))
    return urgency, next((c for c in columns if "OUTPATIENT" in lists[c.header]), None)


def _visit_facts(b: Builder, admitted: str, ended: str) -> str:
    """Admission and discharge; returns which rows list a hospital visit, where the kinds of visit tell."""
    kind, setting = _kinds(b)
    when, admission = "", "'HOSPITAL_ADMISSION//OTHER'"
    if setting is not None:
        when = f"{b.words(setting, 'admission_kind')}_category not in ('OUTPATIENT', 'OTHER')"
        b.stanza.comments.append(f"{setting.header} tells hospital visits from others")
    if kind is not None:
        name = b.words(kind, "admission_kind")
        lists = b.stanza.vocabularies[name]
        admission = (
            f"concat('HOSPITAL_ADMISSION//', if({name}_category = 'INPATIENT', 'OTHER', {name}_category))"
            if "INPATIENT" in lists
            else f"concat('HOSPITAL_ADMISSION//', coalesce({name}_category, 'OTHER'))"
        )
        b.ask(f"are the categories of {kind.header} what admissions are here?")
    fact = {"event": b.draft.visit, "code": admission, "time": admitted, "available": admitted}
    b.stanza.facts["admission"] = fact | ({"when": when} if when else {})
    if ended.startswith("cast(null"):
        b.ask("no column looks like the end of a visit: without it nothing at discharge can be predicted")
        return when
    left, discharge = b.first("discharge_to", "text", "number"), "'HOSPITAL_DISCHARGE//OTHER'"
    if left is not None:
        name = b.words(left, "discharge_to")
        discharge = f"concat('HOSPITAL_DISCHARGE//', coalesce({name}_category, 'OTHER'))"
    else:
        b.ask("no column says where patients went: a death in hospital is then known by its time alone")
    ends = f"{ended} is not null"
    b.stanza.facts["discharge"] = {
        "event": b.draft.visit, "code": discharge, "time": ended, "available": ended,
        "when": f"{when} and {ends}" if when else ends,
    }  # fmt: skip
    return when


def death_of(b: Builder, column: Column) -> dict[str, Any]:
    """The fact of a death; a date is known at its end."""
    died = f"{b.time(column)} + interval 1 day" if column.kind == "date" else b.time(column)
    b.stanza.comments.append(f"death is {column.header}, filled in {column.filled:.0%} of the rows")
    if column.kind == "date":
        b.ask("a death in hospital needs its time, or the discharge has to say it: is that so here?")
    return {
        "event": b.draft.patient,
        "code": "'MEDS_DEATH'",
        "time": died,
        "available": died,
        "when": f"({died}) is not null",
    }


def _ends(b: Builder, ended: str) -> None:
    """A death and a flag of it that the visit's row states, each known when it happened."""
    if death := b.first("death", "time"):
        b.stanza.facts["death"] = death_of(b, death)
    if flag := b.first("flag", "number"):
        name = b.use(flag.header, "double")
        b.stanza.facts["expire_flag"] = {
            "event": b.draft.visit, "code": "'HOSPITAL_EXPIRE_FLAG'", "value": name, "time": ended, "available": ended,
            "when": f"raw_{name} is not null and {ended} is not null",
        }  # fmt: skip
