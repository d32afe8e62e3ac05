"""Validation: checks every candidate fact by the rules of ``mediscale/core/tables.py`` and quarantines those that fail.

Each rule is declared once. Spark evaluates its predicate on every row, in the pass that writes ``facts``. Great
Expectations gets the share of rows that break it, for each table of the extract, and decides whether the extract
passes. Its data docs hold shares and counts, never a value.
"""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import Field

from data_pipeline.ingest import engine
from data_pipeline.ingest import source as sources
from data_pipeline.ingest.source import Source, SourceName
from mediscale.core.annotations import PatientCount, RuntimeInput
from mediscale.core.errors import QualityError
from mediscale.core.privacy import count
from mediscale.core.refs import Frozen, TableRef
from mediscale.core.settings import Settings
from mediscale.core.stage import SPARK, Stage
from mediscale.core.tables import FACTS, QUARANTINE, Rule
from mediscale.storage import duckdb_tables, lake, table_files

if TYPE_CHECKING:
    import duckdb
    import pandas as pd
    import pyarrow as pa

log = logging.getLogger(__name__)

MIN_FAILED_ROWS = 20
"""Fewer failed rows of a table never fail the run by their share, unless they are all the rows of the table."""


class Params(Frozen):
    source: RuntimeInput[SourceName]
    dataset: RuntimeInput[str]
    bronze: RuntimeInput[dict[str, TableRef]]
    max_quarantine_share: float = Field(0.05, ge=0, le=1)
    """The share of one table's facts that may break one rule."""


class Result(Frozen):
    facts: TableRef
    quarantine: TableRef
    docs: str
    """Folder of the data docs, relative to the home folder."""
    judged: PatientCount
    """Facts that were checked."""
    quarantined: PatientCount
    reasons: dict[str, PatientCount]
    """Facts that break each rule; a fact may break several."""


@dataclass(frozen=True)
class TableValidation:
    """Validation counts of one table of the extract: its facts, and how many of them break each rule."""

    table: str
    n_facts: int
    failed: Mapping[str, int]

    def share(self, rule: str) -> float:
        """The share of facts that break the rule, as it is checked: 0 where fewer than ``MIN_FAILED_ROWS`` do."""
        failed = self.failed.get(rule, 0)
        return failed / self.n_facts if failed >= MIN_FAILED_ROWS or failed == self.n_facts else 0.0


def run(params: Params, settings: Settings, key: str) -> Result:
    """Writes ``facts``, ``quarantine`` and the data docs.

    Raises:
        QualityError: too large a share of a table breaks a rule; facts, quarantine and docs are kept for inspection.
    """
    source = sources.load(params.source)
    with engine.connection(settings) as database:
        facts = lake.committed(settings, params.dataset, FACTS.name, key)
        if facts is None:
            rows = _judged_facts(database, settings, source, params)
            facts = table_files.write(settings, params.dataset, FACTS.name, key, rows)
        duckdb_tables.view(database, settings, facts, "judged")
        patterns = database.execute("select source, broken, count(*) from judged group by all").fetchall()
        tables = _validations(patterns)
        log.info("%s facts of %d tables are checked", count(sum(t.n_facts for t in tables)), len(tables))
        columns = ", ".join(name for name in QUARANTINE.column_names if name != "reason")
        broken = f"select {columns}, broken as reason from judged where broken is not null"
        quarantine = table_files.write(
            settings, params.dataset, QUARANTINE.name, key, engine.batches(database, broken)
        )
    docs = f"quality/{params.dataset}/{key}"
    failed_rules = validate_shares(tables, params.max_quarantine_share, str(settings.home / docs))
    if failed_rules:
        raise too_many_broken(tables, failed_rules, params)
    reasons = {rule.name: sum(table.failed.get(rule.name, 0) for table in tables) for rule in FACTS.all_rules}
    return Result(
        facts=facts,
        quarantine=quarantine,
        docs=docs,
        judged=sum(table.n_facts for table in tables),
        quarantined=sum(n for _, broken, n in patterns if broken is not None),
        reasons={name: n for name, n in reasons.items() if n},
    )


def _judged_facts(
    database: "duckdb.DuckDBPyConnection", settings: Settings, source: Source, params: Params
) -> "Iterator[pa.RecordBatch]":
    from data_pipeline.ingest import facts

    tables = facts.of_bronze(settings, source, params.bronze)
    facts.load(database, source, tables, params.dataset)
    candidates = facts.candidates(database, source, tables, params.dataset)
    columns = ", ".join(FACTS.column_names)
    yield from engine.batches(database, f"select {columns} from ({facts.judged(candidates, FACTS)})")


def _validations(patterns: list[tuple[str, str | None, int]]) -> list[TableValidation]:
    """Counts per table and rule from (table, broken rules, rows)."""
    validations = []
    for table in sorted({table for table, _, _ in patterns}):
        own = [(broken, rows) for name, broken, rows in patterns if name == table]
        counts = {
            rule.name: sum(rows for broken, rows in own if broken and rule.name in broken.split(","))
            for rule in FACTS.all_rules
        }
        validations.append(TableValidation(table, sum(rows for _, rows in own), counts))
    return validations


def validate_shares(tables: list[TableValidation], max_share: float, docs: str) -> list[str]:
    """Validates the shares with Great Expectations, writes its data docs, and returns the rules that failed."""
    import os

    os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")  # read when the library is imported
    import great_expectations as gx
    import great_expectations.expectations as gxe

    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}
    context.add_data_docs_site("docs", _site(docs))
    expectations = [
        gxe.ExpectColumnMaxToBeBetween(
            column=rule.name, max_value=max_share, description=_sentence(rule, max_share)
        )
        for rule in FACTS.all_rules
        if rule.limited
    ]
    suite = context.suites.add(gx.ExpectationSuite(name=FACTS.name, expectations=expectations))
    source = context.data_sources.add_pandas("facts")
    batch = source.add_dataframe_asset("shares").add_batch_definition_whole_dataframe("tables")
    definition = gx.ValidationDefinition(name="quality", data=batch, suite=suite)
    checkpoint = gx.Checkpoint(
        name="quality",
        validation_definitions=[context.validation_definitions.add(definition)],
        result_format="BASIC",
    )
    result = context.checkpoints.add(checkpoint).run(batch_parameters={"dataframe": _shares(tables)})
    context.build_data_docs(site_names=["docs"])
    outcomes = [outcome for run in result.run_results.values() for outcome in run.results]
    return [str(o.expectation_config.kwargs["column"]) for o in outcomes if not o.success]


def _site(folder: str) -> dict[str, Any]:
    return {
        "class_name": "SiteBuilder",
        "site_index_builder": {"class_name": "DefaultSiteIndexBuilder"},
        "store_backend": {"class_name": "TupleFilesystemStoreBackend", "base_directory": folder},
    }


def _sentence(rule: Rule, max_share: float) -> str:
    return f"{rule.name}: {rule.meaning}, but for at most {max_share:.1%} of any table's facts"


def _shares(tables: list[TableValidation]) -> "pd.DataFrame":
    """The shares of failed facts, one row per table and one column per rule."""
    import pandas as pd

    rules = {rule.name: [table.share(rule.name) for table in tables] for rule in FACTS.all_rules}
    return pd.DataFrame({"table": [t.table for t in tables], "facts": [t.n_facts for t in tables], **rules})


def too_many_broken(tables: list[TableValidation], failed_rules: list[str], params: Params) -> QualityError:
    """The error for rules that are broken too often; it tells of the worst in full and names the others."""
    worst, rule = max(
        ((table, name) for table in tables for name in failed_rules), key=lambda pair: pair[0].share(pair[1])
    )
    meaning = next(r.meaning for r in FACTS.all_rules if r.name == rule)
    others = (
        f" (broken too often as well: {', '.join(n for n in failed_rules if n != rule)})"
        if len(failed_rules) > 1
        else ""
    )
    return QualityError(
        f"{worst.failed[rule]} of the {worst.n_facts} facts in {worst.table} break the rule {rule} ({meaning}): "
        f"{worst.share(rule):.1%}, allowed are {params.max_quarantine_share:.1%}{others}. `mediscale "
        f"quarantine --dataset {params.dataset} --rule {rule}` names file and line of each: correct the extract or the "
        f"source {params.source}, or allow more with max_quarantine_share."
    )


def _summary(result: Result) -> str:
    worst = sorted(result.reasons.items(), key=lambda item: -item[1])[:3]
    reasons = ", ".join(f"{count(n)} {name}" for name, n in worst)
    return f"{result.judged:,} facts judged, {count(result.quarantined)} in quarantine ({reasons or 'none'})"


STAGE = Stage(Params, Result, run, display_name="judge every fact", summary=_summary, resources=SPARK)
