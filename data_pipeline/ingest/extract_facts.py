"""Fact extraction: compiles a source's declaration to Spark SQL over its typed tables.

Each fact is a query of its own, which ``facts`` carries to the engine: planned together, they took the engine longer
than it needs for the rows of a night.
"""

import re
import sys
from collections.abc import Iterator, Sequence

from data_pipeline.ingest.engine import PSEUDONYM_BITS
from data_pipeline.ingest.messages import STREAMED
from data_pipeline.ingest.parsing import LOST, fold
from data_pipeline.ingest.source import Source
from data_pipeline.ingest.source_tables import Fact, PatientThrough, SourceTable
from data_pipeline.ingest.timestamps import LONGEST, YEARS
from mediscale.core.concepts import SCORE, by_name
from mediscale.core.outcomes import OUTCOME
from mediscale.core.tables import FACTS

_LARGEST = sys.float_info.max
SUBJECT, VISIT = "subject_pseudonym", "visit_pseudonym"
"""Columns that ``facts.load`` adds to a typed table: the pseudonyms of the patient and of the visit of a row."""


def rows_query(source: Source, name: str) -> str:
    """The rows of one table in the declared types, with the time when each was ``known``, and ``visit_listed``."""
    table = source.tables[name]
    available = f"cast({table.available} as timestamp_ntz) as known"
    listed = f"({_VISIT_LISTED})" if source.visits.id in table.columns else "true"
    joined = f"""
        select t_{name}.*, {available}, {listed.format(visit=source.visits.id)} as visit_listed
        from t_{name}{_joins(source, table, f"{table.available} {listed}")}"""
    return f"with visits as ({_visits(source)}) {_fill_assumptions(source, joined)}"


def visits_query(source: Source) -> str:
    """The visits of the extract: identifiers of subject and visit, when each started, was admitted and ended, whether
    its times are ``unusable``, and whether it is ``disputed`` between patients."""
    return f"select * from ({_fill_assumptions(source, _visits(source))}) where counted"


def subjects_query(source: Source) -> str:
    """The identifiers of the patients that the extract lists, as ``source_subject``."""
    declared = source.subjects
    return f"select distinct {declared.id} as source_subject from t_{declared.table} where {declared.id} is not null"


def joined_tables(source: Source, present: set[str], dataset: str) -> Iterator[tuple[str, str]]:
    """The names and the Spark SQL of the tables that facts are joined to, each after those that it reads."""
    visit = pseudonym_sql(source.visits.id, dataset)
    patient = pseudonym_sql(source.subjects.id, dataset)
    tables = {
        "concepts": _concepts(source),
        "visits": _visits(source),
        **{name: _lookup(source, name, present) for name in source.lookups},
        "patients": f"select distinct {patient} as patient from t_{source.subjects.table} "
        f"where not {source.subjects.id} rlike {_sql_string(LOST)}",
        "booked": f"select {patient} as booked_by, {visit} as booked_visit, unusable, counted, started, "
        f"coalesce(ended, started + interval {LONGEST.days} days) as last from visits where not disputed",
    }
    for name, sql in tables.items():
        yield name, _fill_assumptions(source, sql)


def fact_queries(source: Source, name: str, dataset: str, named: bool = False) -> Iterator[tuple[str, str]]:
    """The name and the Spark SQL of each fact of a table.

    It reads ``joined_tables`` and the typed table, named ``t_<table>``.
    """
    for fact_name, fact in source.tables[name].facts.items():
        yield fact_name, _fill_assumptions(source, _fact(source, dataset, name, fact_name, fact, named))


def judged_query() -> str:
    """The Spark SQL of the facts with ``broken``, the names of the rules that each breaks, null for nearly all.

    The table ``facts`` has the rows of ``fact_queries`` with the ``flags`` of what each breaks alone, as
    ``patient_listing`` describes them.
    """
    return f"""
        with compared as ({_COMPARED})
        select * except (visit_id), own_visit as visit_id, {FACTS.broken_rules} as broken from (
          select * except (flags), flags + {FACTS.flags(of_row=False)} as flags from (
            select * from facts left join compared on number = compared_number))
    """


_COMPARED = f"""
    select number as compared_number, nth > 1 and not differing as repeated,
      differing and (attribute is not null or nth > 1) as contradicted
    from (
      select *,
        row_number() over (partition by subject_id, event_id, available_time, item order by line, file) as nth,
        coalesce(if(attribute = 'sex', false, min(time) over one <> max(time) over one), false)
          or coalesce(min(code) over one <> max(code) over one, false)
          or coalesce(min(numeric_value) over one <> max(numeric_value) over one, false) as differing
      from (
        select *,
          case when attribute in ('birth', 'sex') then 0 when attribute is null then event_id
            else visit_id end as entity,
          case when attribute in ('birth', 'sex') then '' when attribute is null or file rlike '{STREAMED}'
            then cast(available_time as string) else file end as scope
        from facts where recurring or event_id is null or attribute is not null)
      window one as (partition by subject_id, attribute, entity, item, scope))"""
"""Of facts whose event has several rows or which have one truth, whether each repeats another, and whether it is
contradicted. Of what has one truth, none of several that differ counts; of rows that tell one event differently at one
moment the first does. In a stream, whose rows stand in partitions, a later message corrects the visit."""


def _fill_assumptions(source: Source, sql: str) -> str:
    """The SQL with each ``{name}`` of the source replaced by what it stands for."""
    for name, interval in source.intervals.items():
        sql = sql.replace(f"{{{name}}}", interval)
    return sql


def tables_joined(source: Source) -> set[str]:
    """The tables that the rows of others are joined to."""
    listing = {source.subjects.table, source.visits.table, *(one.table for one in source.lookups.values())}
    return listing | {
        table.patient_through.table for table in source.tables.values() if table.patient_through
    }


def needed_tables(source: Source, *names: str) -> tuple[str, ...]:
    """The tables, and those through which their rows find their patients."""
    through = (source.tables[name].patient_through for name in names)
    return tuple(dict.fromkeys((*names, *(other.table for other in through if other))))


def with_patient(source: Source, name: str, through: PatientThrough) -> str:
    """The rows of a table with the patient of their key; of a key of several patients nobody is the patient."""
    subject, key = source.subjects.id, through.key
    owner = ", ".join(
        f"if(count(distinct {subject}) = 1, max({column}), null) as {column}" for column in (subject, SUBJECT)
    )
    owners = (
        f"select {key} as through_key, {owner} from t_{through.table} where {key} is not null group by {key}"
    )
    return (
        f"select rows_of.* except ({SUBJECT}), owners.* except (through_key) "
        f"from t_{name} as rows_of left join ({owners}) as owners on {key} = through_key"
    )


def pseudonym_sql(identifier: str, dataset: str) -> str:
    """The pseudonym of an identifier (an SQL expression): a hash of 53 bits, which JSON holds exactly; null stays null.

    It hides nothing from somebody who knows the identifiers. It keeps datasets apart, and UUIDs out of the lake's keys.
    """
    return f"if({identifier} is null, null, xxhash64(concat_ws('|', '{dataset}', {identifier})) & {PSEUDONYM_BITS})"


_VISIT_LISTED = "{visit} is null or visit.visit_key is not null"
"""Whether the visit that a row names is listed, as that of the row's patient and of no other."""


def _visits(source: Source) -> str:
    declared = source.visits
    times = [
        f"max(cast({getattr(declared, t)} as timestamp_ntz)) as {t}" for t in ("started", "admitted", "ended")
    ]
    key = f"{source.subjects.id}, {declared.id}"
    booked = (
        f"select {key}, {', '.join(times)}, bool_or(untimely or interval_inverted) as mistimed, "
        f"bool_or(coalesce({declared.when or 'true'}, false)) as counted "
        f"from t_{declared.table} where {declared.id} is not null group by {key}"
    )
    return (
        f"select *, mistimed or coalesce(ended < admitted or ended > admitted + interval {LONGEST.days} days, false) "
        f"as unusable, "
        f"count(1) over (partition by {declared.id}) > 1 as disputed from ({booked})"
    )


def _lookup(source: Source, name: str, present: set[str]) -> str:
    lookup = source.lookups[name]
    if lookup.table not in present:  # an optional table that this extract lacks knows nothing
        nothing = ", ".join(f"cast(null as string) as {alias}" for alias in lookup.columns)
        return f"select cast(null as string) as {name}_key, {nothing} where false"
    columns = ", ".join(f"{expression} as {alias}" for alias, expression in lookup.columns.items())
    return f"select {lookup.key} as {name}_key, {columns} from t_{lookup.table} group by {lookup.key}"


def _concepts(source: Source) -> str:
    """One row per item of the source that measures a concept, with a map from its units to numbers of conversions."""
    numbers = {sql: number for number, sql in enumerate(_conversions(source))}
    rows = []
    for name, measures in source.concepts.items():
        concept = by_name()[name]
        normal = ", ".join(f"{edge}D" for edge in concept.normal or ()) or "null, null"
        for measure in measures:
            units = ", ".join(
                f"lower({_sql_string(fold(unit))}), {numbers[sql]}" for unit, sql in measure.units.items()
            )
            rest = (
                f"'{concept.code}', '{concept.unit}', {concept.low}D, {concept.high}D, {normal}, map({units})"
            )
            rows += [f"(upper({_sql_string(fold(item))}), {rest})" for item in measure.items]
    columns = "concept_item, concept_code, concept_unit, low, high, normal_low, normal_high, conversions"
    none = "('', '', '', 0D, 0D, 0D, 0D, map('', 0))"
    return f"select * from values {', '.join(rows) or none} as listed({columns}) where concept_item <> ''"


def _conversions(source: Source) -> list[str]:
    """The expressions by which units are converted, first the one that leaves a value as it is: nearly all rows need no
    other, and a case is looked for in this order."""
    every = {sql for measures in source.concepts.values() for m in measures for sql in m.units.values()}
    return sorted(every, key=lambda sql: (sql != "value", sql))


def _sql_string(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _fact(source: Source, dataset: str, name: str, fact_name: str, fact: Fact, named: bool) -> str:
    table, named_fact = source.tables[name], f"'{fact_name}' as fact, " if named else ""
    treatment = ", treatment" if fact.treatment_of else ""
    dated = f"time >= timestamp_ntz'{YEARS[0]}-01-01' and time < timestamp_ntz'{YEARS[1]}-01-01'"
    return f"""
        select {SUBJECT} as subject_id, if({dated}, time, null) as time, code, numeric_value, text_value,
          if({dated} and known >= time - interval {LONGEST.days} days, greatest(time, known), null) as available_time,
          {VISIT} as visit_id, unit, '{name}' as source,
          if(({fact.event}) is null, null, xxhash64('{dataset}', '{name}', '{fact_name}', {fact.event}{treatment}))
            as event_id, false as retracted,
          {named_fact}file, line, item, low, high, unit_unknown, unreadable, marked_error, untimely, interval_inverted,
          miscoded, rounded, voided, uninformative, between_steps
        from ({_events(source, fact, _select_rows(source, table, name, fact))})"""


def _select_rows(source: Source, table: SourceTable, name: str, fact: Fact) -> str:
    """The rows of a fact with its time, the time when it was known, and its number and text as the row gives them.

    A row with a time that can't be read is kept whatever ``when`` says, so that it is quarantined and not lost.
    """
    number, written, bound, void = _number(fact)
    of_text = f"{fact.result}_unit" if fact.result else "cast(null as string)"
    available = fact.available or table.available
    expressions = " ".join(map(str, (*fact.model_dump().values(), table.available)))
    rows = f"t_{name}"
    if fact.unpivot:
        rows = f"(select * from t_{name}, {_unpivoted(table, fact.unpivot)} where column_text is not null)"
    return f"""
        select *, cast({fact.time} as timestamp_ntz) as time, cast({available} as timestamp_ntz) as known,
          cast({number} as double) as number, {bound} as bound, {void} as voided,
          {written} is not null and ({number}) is null and not {void} as unreadable,
          cast({fact.unit or "null"} as string) as column_unit, {of_text} as unit_of_text,
          cast({fact.text or bound} as string) as text_value,
          cast({fact.concept_of or "null"} as string) as item, cast({fact.code or "null"} as string) as own_code,
          cast({fact.treatment_of or "null"} as string) as treated,
          coalesce({fact.error or "false"}, false) as marked_error
        from {rows}{_joins(source, table, expressions)} where ({fact.when or "true"}) or untimely"""


def _unpivoted(table: SourceTable, columns: Sequence[str]) -> str:
    """The columns of a wide row as rows of their names, texts and numbers."""
    parts = (
        f"('{column}', raw_{column}, {column})"
        if table.columns.get(column) == "double"
        else f"('{column}', cast({column} as string), cast(null as double))"
        for column in columns
    )
    return f"lateral (values {', '.join(parts)}) as stacked(column_name, column_text, column_value)"


def _number(fact: Fact) -> tuple[str, str, str, str]:
    """The expressions of a fact's number, of the text that holds it, of its bound, and of whether the row voids it.

    A number of which two columns tell differently, also where one of them is a bound, is none.
    """
    value = fact.value or "cast(null as double)"
    if (
        fact.value and fact.written
    ):  # an expression may grow without end, which no text that is read as a number does
        value = f"if(abs({value}) <= {_LARGEST}D, {value}, null)"
    own_text = "column_text" if fact.value == "column_value" else f"raw_{fact.value}"
    written = fact.written or (own_text if fact.value else "cast(null as string)")
    void = f"coalesce({fact.void or 'false'}, false)"
    if not fact.result:
        return value, written, "cast(null as string)", void
    result = fact.result
    own = f"if(abs(({value}) - {result}_number) > abs({value}) / 1000, null, coalesce({value}, {result}_number))"
    beyond = f"({result}_bound = '<' and ({value}) > {result}_number + abs({result}_number) / 1000)"
    beyond += f" or ({result}_bound = '>' and ({value}) < {result}_number - abs({result}_number) / 1000)"
    number = f"if({result}_bound is null, {own}, if({beyond}, null, {result}_number))"
    return number, f"coalesce({written}, {result})", f"{result}_bound", f"({result}_void or {void})"


def _joins(source: Source, table: SourceTable, text: str) -> str:
    """The joins to the visit and to the lookups that ``text`` mentions."""
    joins = ""
    if "visit." in text:
        key, subject = source.visits.id, source.subjects.id
        times = ", ".join(f"if(counted, {t}, null) as {t}" for t in ("started", "admitted", "ended"))
        columns = f"{key} as visit_key, {subject} as visitor, {times}"
        joins += f" left join (select {columns} from visits where not disputed) as visit"
        joins += f" on {key} = visit_key and {subject} = visitor"
    for name, key in table.lookups.items():
        if f"{name}." in text:
            joins += f" left join {name} on {key or source.lookups[name].key} = {name}_key"
    return joins


def _events(source: Source, fact: Fact, rows: str) -> str:
    """The rows that are events, with code, value and unit, and what the validation rules use."""
    if fact.concept_of:
        return _measurements(source, fact, rows)
    unconverted = "number as numeric_value, column_unit as unit, false as unit_unknown"
    unbounded = "cast(null as double) as low, cast(null as double) as high, false as uninformative"
    unbounded += f", {_is_flag('own_code')} and number not in (0, 1) as between_steps"
    if fact.treatment_of:
        code = "concat('TREATMENT//', treatment) as code"
        groups = f"lateral view explode({_treatment_groups(source)}) listed as treatment"
        return f"select *, {code}, {unconverted}, {unbounded} from ({rows}) {groups}"
    return f"select *, own_code as code, {unconverted}, {unbounded}, cast(null as string) as treatment from ({rows})"


def _is_flag(code: str) -> str:
    """Whether the value of a code's events is 0 or 1."""
    return f"coalesce({code} = 'HOSPITAL_EXPIRE_FLAG' or {code} like '{OUTCOME}//%', false)"


def _treatment_groups(source: Source) -> str:
    """The treatment groups of ``treated``, an item or a drug's name, as an array."""
    groups = []
    for group, treatment in source.treatments.items():
        items = ", ".join(f"upper({_sql_string(item)})" for item in treatment.items)
        tests = [f"upper(treated) in ({items})"] if items else []
        tests += [f"lower(treated) rlike {_sql_string(treatment.drugs)}"] if treatment.drugs else []
        groups.append(f"if({' or '.join(tests)}, '{group}', null)")
    return f"array_compact(array({', '.join(groups)}))"


def _measurements(source: Source, fact: Fact, rows: str) -> str:
    """The rows whose item measures a concept, converted to its unit; others only where the fact gives them a code."""
    converted = (re.sub(r"\bvalue\b", "number", sql) for sql in _conversions(source))
    cases = " ".join(f"when {number} then {sql}" for number, sql in enumerate(converted))
    conversion = "conversions[lower(coalesce(column_unit, unit_of_text, ''))] as conversion"
    # "<5 mg/dL" beside the unit mmol/L: which of the two it is can't be told.
    unlike = "unit_of_text is not null and conversions[unit_of_text] is distinct from conversion"
    scored = f"concept_unit = '{SCORE}' and numeric_value <> floor(numeric_value)"
    telling = """case bound
        when '<' then numeric_value <= normal_low or (normal_low = 0 and numeric_value <= normal_high)
        else numeric_value >= normal_high end"""
    return f"""
        select *, concept_item is not null and bound is not null and not coalesce({telling}, false) as uninformative,
          coalesce({scored}, {_is_flag("code")} and numeric_value not in (0, 1)) as between_steps
        from (
          select *,
            if(concept_item is null, {fact.otherwise or "null"}, concept_code) as code,
            if(concept_item is null, number, case conversion {cases} end) as numeric_value,
            if(concept_item is null, coalesce(column_unit, unit_of_text), concept_unit) as unit,
            concept_item is not null and (conversion is null or {unlike}) as unit_unknown,
            cast(null as string) as treatment
          from (select *, {conversion}
            from ({rows}) {"left" if fact.otherwise else "inner"} join concepts on upper(item) = concept_item)
          where number is not null or (concept_item is not null and (unreadable or voided)))"""
