"""Evidently's judgement of a window and its report, made from columns that hold no patient's row.

Evidently plots the values of a small window one by one. So every column is shuffled by itself, which its statistics do
not see, and its values are those of its grid's cells.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mediscale.core import atomic_files
from monitoring.drift.null_distribution import Floats

if TYPE_CHECKING:
    import pandas as pd
    from evidently.core.report import Snapshot


@dataclass(frozen=True)
class Column:
    """What one column is judged by: values without gaps on either side, and a threshold for it alone."""

    reference: Floats
    window: Floats
    threshold: float


@dataclass(frozen=True)
class ColumnVerdict:
    """Evidently's word on a column."""

    statistic: float
    drifted: bool


@dataclass(frozen=True)
class Report:
    """Evidently's word on every column, and its page."""

    columns: dict[str, ColumnVerdict]
    snapshot: "Snapshot"

    def save(self, path: Path) -> None:
        """Leaves the HTML at ``path``, whole or not at all."""
        with atomic_files.replacing(path) as part:
            self.snapshot.save_html(str(part))


def judge(columns: Mapping[str, Column], generator: np.random.Generator) -> Report:
    """Runs Evidently's report: a normed Wasserstein distance per column, each with its own threshold."""
    import evidently
    from evidently import DataDefinition, Dataset
    from evidently.metrics import ValueDrift

    definition = DataDefinition(numerical_columns=list(columns))
    metrics = [
        ValueDrift(column=name, method="wasserstein", threshold=column.threshold)
        for name, column in columns.items()
    ]
    reference = {name: column.reference for name, column in columns.items()}
    window = {name: column.window for name, column in columns.items()}
    snapshot = evidently.Report(metrics, include_tests=True).run(
        current_data=Dataset.from_pandas(_frame(window, generator), definition),
        reference_data=Dataset.from_pandas(_frame(reference, generator), definition),
    )
    return Report(columns=_judged(snapshot.dict()), snapshot=snapshot)


def _frame(columns: Mapping[str, Floats], generator: np.random.Generator) -> "pd.DataFrame":
    """Columns of different lengths side by side, the shorter ones filled up with gaps that Evidently drops."""
    import pandas as pd

    return pd.DataFrame({name: pd.Series(generator.permutation(values)) for name, values in columns.items()})


def _judged(snapshot: Mapping[str, Any]) -> dict[str, ColumnVerdict]:
    values = {metric["config"]["column"]: float(metric["value"]) for metric in snapshot["metrics"]}
    tests = {test["metric_config"]["params"]["column"]: test["status"] for test in snapshot["tests"]}
    return {
        name: ColumnVerdict(
            statistic=value, drifted=str(getattr(tests[name], "value", tests[name])) == "FAIL"
        )
        for name, value in values.items()
    }
