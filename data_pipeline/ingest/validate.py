"""Validation: checks every candidate fact by the rules of ``mediscale/core/rules.py`` and quarantines those that fail.

Each rule is declared once. The engine evaluates its predicate on every row, in the pass that writes ``facts``. Great
Expectations gets the share of rows that break it, for each table of the extract, and decides whether the extract
passes (``rule_shares``).

Of an extract that others came before, the patients are judged whose rows differ from those that silver has taken in:
their facts are appended to ``facts``, and take the place of theirs in ``quarantine``.
"""

import logging
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from data_pipeline import shards
from data_pipeline.ingest import engine, landing, patient_facts, rule_shares, silver
from data_pipeline.ingest import source as sources
from data_pipeline.ingest.absorbed_versions import AbsorbedVersions
from data_pipeline.ingest.landing import ChangedRows
from data_pipeline.ingest.patient_rows import PatientSearch
from data_pipeline.ingest.source import Source, SourceName
from mediscale.core.annotations import PatientCount, RuntimeInput
from mediscale.core.privacy import count
from mediscale.core.refs import Frozen, TableRef
from mediscale.core.settings import Settings
from mediscale.core.stage import SPARK, Context, Stage
from mediscale.core.tables import CHANGED_SUBJECTS, FACTS, QUARANTINE
from mediscale.storage import duckdb_tables, lake, table_files

if TYPE_CHECKING:
    import duckdb

log = logging.getLogger(__name__)

_ALL = pc.CountOptions(mode="all")


class Params(Frozen):
    source: RuntimeInput[SourceName]
    dataset: RuntimeInput[str]
    bronze: RuntimeInput[dict[str, TableRef]]
    max_quarantine_share: float = Field(0.05, ge=0, le=1)
    """The share of one table's facts that may break one rule."""
    landed: RuntimeInput[TableRef | None] = None
    begins: RuntimeInput[bool] = True
    absorbed: RuntimeInput[AbsorbedVersions | None] = None
    """What silver has taken in of the extracts before, which the caller looks up."""


class Result(Frozen):
    facts: TableRef
    quarantine: TableRef
    docs: str
    """Folder of the data docs, relative to the home folder; empty where rows were appended and no rule failed."""
    judged: PatientCount
    """Facts that were checked."""
    quarantined: PatientCount
    reasons: dict[str, PatientCount]
    """Facts that break each rule; a fact may break several."""
    changed: TableRef | None = None
    """The patients who were judged, where others stay as they are; None: all were."""
    absorbed: AbsorbedVersions | None = None
    """What ``facts`` is to be compared with; None: silver begins anew."""


JUDGED = "judged"
"""The fact of a version of ``facts`` that says how many facts bronze has by then (``lake.fact``)."""


def run(params: Params, settings: Settings, key: str) -> Result:
    """Writes ``facts``, ``quarantine`` and the data docs; of an appended extract ``changed_subjects``, too.

    Raises:
        QualityError: too large a share of a table breaks a rule; facts, quarantine and docs are kept for inspection.
    """
    source = sources.load(params.source)
    if params.absorbed is not None and params.absorbed.same_rules:
        rows = landing.changed_rows(
            settings,
            source,
            (params.absorbed.bronze, landing.read(settings, params.absorbed.landed)),
            (params.bronze, landing.read(settings, params.landed)),
        )
        now, was = (PatientSearch(settings, source, refs) for refs in (params.bronze, params.absorbed.bronze))
        if not now.changes_everyone(rows.added) and not was.changes_everyone(rows.gone):
            return _judge_changed(settings, params, params.absorbed, key, rows, now, was)
    return _judge_all(settings, params, source, key)


def _judge_all(settings: Settings, params: Params, source: Source, key: str) -> Result:
    with engine.connection(settings) as database:
        facts = lake.find_commit(settings, params.dataset, FACTS.name, key)
        if facts is None:
            rows = _judged_facts(database, settings, source, params)
            file = table_files.write_file(settings, params.dataset, FACTS.name, rows, FACTS.arrow_schema())
            facts = table_files.commit(
                settings, params.dataset, FACTS.name, key, [file], FACTS.arrow_schema(), {JUDGED: file.rows}
            )
        duckdb_tables.view(database, settings, facts, "judged")
        patterns = database.execute("select source, broken, count(*) from judged group by all").fetchall()
        columns = ", ".join(name for name in QUARANTINE.column_names if name != "reason")
        broken = f"select {columns}, broken as reason from judged where broken is not null"
        quarantine = table_files.write(
            settings, params.dataset, QUARANTINE.name, key, engine.batches(database, broken)
        )
    docs = _check_shares(settings, params, key, patterns)
    return _result(settings, params, facts, quarantine, docs)


def _judge_changed(
    settings: Settings,
    params: Params,
    absorbed: AbsorbedVersions,
    key: str,
    rows: ChangedRows,
    now: PatientSearch,
    was: PatientSearch,
) -> Result:
    """Judges the patients whom changed rows are about, as they are now and as they were."""
    if not rows.added and not rows.gone:
        quarantine = _quarantine(settings, params, absorbed, key, rows.moved)
        return _result(settings, params, absorbed.facts, quarantine, absorbed.docs)
    subjects = pa.concat_arrays([now.about(rows.added), was.about(rows.gone)]).unique()
    patients = now.rows_of(rows.added, subjects)
    ids = engine.pseudonyms(patients.subjects, params.dataset)
    judged = patient_facts.judge(settings, now.source, patients.bronze, params.dataset)
    leave = _quarantined_at(settings, absorbed, rows.places_before(patients.places()))
    before = len(leave) + _usable_facts(settings, absorbed.facts, ids)
    total = lake.fact(settings, absorbed.facts, JUDGED) - before + len(judged)
    newest = lake.latest(settings, params.dataset, FACTS.name)
    facts = table_files.write(
        settings, params.dataset, FACTS.name, key, judged.to_batches(), {JUDGED: total}, onto=newest
    )
    listed = pa.RecordBatch.from_arrays([ids], schema=CHANGED_SUBJECTS.arrow_schema())
    changed = table_files.write(settings, params.dataset, CHANGED_SUBJECTS.name, key, [listed])
    enter = patient_facts.quarantined(judged)
    quarantine = _quarantine(settings, params, absorbed, key, rows.moved, leave, enter)
    patterns = [
        (row["source"], row["broken"], row["broken_count"])
        for row in judged.group_by(["source", "broken"]).aggregate([("broken", "count", _ALL)]).to_pylist()
    ]
    docs = _check_shares(settings, params, key, patterns, night=True)
    return _result(settings, params, facts, quarantine, docs, changed)


def _quarantined_at(settings: Settings, absorbed: AbsorbedVersions, places: pa.Table) -> pa.Table:
    """The entries of quarantine whose rows stood at these places."""
    before = lake.read(settings, absorbed.quarantine, QUARANTINE.column_names)
    own = before.join(places, ["source", "file", "line"], join_type="left semi")
    return own.select(QUARANTINE.column_names).cast(QUARANTINE.arrow_schema())


def _usable_facts(settings: Settings, ref: TableRef, subjects: pa.Array) -> int:
    """How many usable facts some patients had: of each in the newest commit that judged the patient."""
    from data_pipeline.ingest import facts

    own = pc.field("subject_id").isin(subjects)
    judged = facts.judged_last(settings, ref, ["broken"], own)
    return sum(rows["broken"].null_count for rows in judged)


def _quarantine(
    settings: Settings,
    params: Params,
    absorbed: AbsorbedVersions,
    key: str,
    moved: pa.Table,
    leave: pa.Table | None = None,
    enter: pa.Table | None = None,
) -> TableRef:
    """The quarantine before without the facts that ``leave``, with those that ``enter``; rows of changed files may
    stand on other lines."""
    before = lake.read(settings, absorbed.quarantine, QUARANTINE.column_names)
    stays = before if leave is None else shards.except_all(before, leave)
    stays = _on_new_lines(stays, moved)
    now = stays if enter is None else pa.concat_tables([stays, enter])
    if not len(shards.except_all(now, before)) and not len(shards.except_all(before, now)):
        return absorbed.quarantine
    return table_files.write(settings, params.dataset, QUARANTINE.name, key, now.to_batches())


def _on_new_lines(quarantine: pa.Table, moved: pa.Table) -> pa.Table:
    if not len(moved):
        return quarantine
    joined = quarantine.join(moved, ["source", "file", "line"])
    line = pc.coalesce(joined["new_line"], joined["line"])
    there = joined.drop_columns("new_line").set_column(joined.column_names.index("line"), "line", line)
    return there.select(QUARANTINE.column_names).cast(QUARANTINE.arrow_schema())


def _check_shares(
    settings: Settings,
    params: Params,
    key: str,
    patterns: list[tuple[str, str | None, int]],
    night: bool = False,
) -> str:
    """Has Great Expectations judge the shares of facts that break each rule; the folder of its data docs.

    A night of which no share is above the bound has no docs and is not asked about: importing the library takes longer
    than most nights.
    """
    tables = rule_shares.validations(patterns)
    log.info("%s facts of %d tables are checked", count(sum(t.n_facts for t in tables)), len(tables))
    if night and not rule_shares.is_any_share_above(tables, params.max_quarantine_share):
        return ""
    failed = rule_shares.failed_rules(tables, params.max_quarantine_share)
    docs = f"quality/{params.dataset}/{key}"
    rule_shares.write_data_docs(tables, params.max_quarantine_share, str(settings.home / docs))
    if failed:
        raise rule_shares.too_many_broken(
            tables, failed, params.max_quarantine_share, params.dataset, params.source
        )
    return docs


def _result(
    settings: Settings,
    params: Params,
    facts: TableRef,
    quarantine: TableRef,
    docs: str,
    changed: TableRef | None = None,
) -> Result:
    """Counts what bronze has by now, whoever was judged in this call."""
    broken = pc.value_counts(
        lake.read(settings, quarantine, ["reason"])["reason"].combine_chunks()
    ).to_pylist()
    reasons = {
        rule.name: sum(one["counts"] for one in broken if rule.name in one["values"].split(","))
        for rule in FACTS.all_rules
    }
    return Result(
        facts=facts,
        quarantine=quarantine,
        docs=docs,
        judged=lake.fact(settings, facts, JUDGED),
        quarantined=sum(one["counts"] for one in broken),
        reasons={name: n for name, n in reasons.items() if n},
        changed=changed,
        absorbed=params.absorbed,
    )


def runtime_inputs(params: Mapping[str, Any], settings: Settings) -> Iterator[Context]:
    """Gives what silver has taken in before, where the extract is appended to it: first as the newest call saw it, so
    that what was judged then is not judged again."""
    if params.get("begins", True) or "dataset" not in params:
        return
    before = landing.newest_call(settings, "validate", params["dataset"])
    if before is not None and "absorbed" in before.params:
        yield Context({"absorbed": before.params["absorbed"]})
    yield Context({"absorbed": silver.absorbed(settings, params["dataset"])})


def _judged_facts(
    database: "duckdb.DuckDBPyConnection", settings: Settings, source: Source, params: Params
) -> "Iterator[pa.RecordBatch]":
    from data_pipeline.ingest import facts

    tables = facts.of_bronze(settings, source, params.bronze)
    pieces = facts.count_pieces(settings, params.bronze)
    yield from facts.judged_rows(database, source, tables, params.dataset, pieces)


def _summary(result: Result) -> str:
    worst = sorted(result.reasons.items(), key=lambda item: -item[1])[:3]
    reasons = ", ".join(f"{count(n)} {name}" for name, n in worst)
    return f"{count(result.judged)} facts judged, {count(result.quarantined)} in quarantine ({reasons or 'none'})"


STAGE = Stage(
    Params,
    Result,
    run,
    display_name="judge every fact",
    summary=_summary,
    resources=SPARK,
    runtime_inputs=runtime_inputs,
)
