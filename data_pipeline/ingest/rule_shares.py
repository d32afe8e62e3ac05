"""Rule shares: the share of each table's facts that breaks each rule, as Great Expectations judges them.

Its data docs hold shares and counts, never a value.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mediscale.core.errors import QualityError
from mediscale.core.table import Rule
from mediscale.core.tables import FACTS

if TYPE_CHECKING:
    import pandas as pd
    from great_expectations import ExpectationSuite

MIN_FAILED_ROWS = 20
"""Fewer failed rows of a table never fail the run by their share, unless they are all the rows of the table."""


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


def validations(patterns: list[tuple[str, str | None, int]]) -> list[TableValidation]:
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


def is_any_share_above(tables: list[TableValidation], max_share: float) -> bool:
    """Whether Great Expectations would find a rule that is broken too often."""
    limited = [rule.name for rule in FACTS.all_rules if rule.limited]
    return any(table.share(rule) > max_share for table in tables for rule in limited)


def failed_rules(tables: list[TableValidation], max_share: float) -> list[str]:
    """Has Great Expectations judge the shares, and returns the rules that failed."""
    _, batch = _batch()
    judged = batch.get_batch({"dataframe": _shares(tables)}).validate(
        _suite(max_share), result_format="BOOLEAN_ONLY"
    )
    return [str(o.expectation_config.kwargs["column"]) for o in judged.results if not o.success]


def too_many_broken(
    tables: list[TableValidation], failed: list[str], max_share: float, dataset: str, source: str
) -> QualityError:
    """The error for rules that are broken too often; it tells of the worst in full and names the others."""
    worst, rule = max(
        ((table, name) for table in tables for name in failed), key=lambda pair: pair[0].share(pair[1])
    )
    meaning = next(r.meaning for r in FACTS.all_rules if r.name == rule)
    others = (
        f" (broken too often as well: {', '.join(n for n in failed if n != rule)})" if len(failed) > 1 else ""
    )
    return QualityError(
        f"{worst.failed[rule]} of the {worst.n_facts} facts in {worst.table} break the rule {rule} ({meaning}): "
        f"{worst.share(rule):.1%}, allowed are {max_share:.1%}{others}. `mediscale "
        f"quarantine --dataset {dataset} --rule {rule}` names file and line of each: correct the extract or the "
        f"source {source}, or allow more with max_quarantine_share."
    )


def write_data_docs(tables: list[TableValidation], max_share: float, folder: str) -> None:
    """Writes the pages of Great Expectations, which take it longer than judging does."""
    import great_expectations as gx

    context, batch = _batch()
    context.add_data_docs_site("docs", _site(folder))
    suite = context.suites.add(_suite(max_share))
    definition = gx.ValidationDefinition(name="quality", data=batch, suite=suite)
    checkpoint = gx.Checkpoint(
        name="quality",
        validation_definitions=[context.validation_definitions.add(definition)],
        result_format="BASIC",
    )
    context.checkpoints.add(checkpoint).run(batch_parameters={"dataframe": _shares(tables)})
    context.build_data_docs(site_names=["docs"])


def _batch() -> tuple[Any, Any]:
    """A context of Great Expectations without files, and its definition of the batch of shares."""
    import os

    os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")  # read when the library is imported
    import great_expectations as gx

    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}
    asset = context.data_sources.add_pandas("facts").add_dataframe_asset("shares")
    return context, asset.add_batch_definition_whole_dataframe("tables")


def _suite(max_share: float) -> "ExpectationSuite":
    from great_expectations import ExpectationSuite
    from great_expectations import expectations as gxe

    expectations = [
        gxe.ExpectColumnMaxToBeBetween(
            column=rule.name, max_value=max_share, description=_sentence(rule, max_share)
        )
        for rule in FACTS.all_rules
        if rule.limited
    ]
    return ExpectationSuite(name=FACTS.name, expectations=expectations)


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
