"""Gauges of model performance in ``/metrics``: the newest windows of the served versions' performance tables."""

import math
from collections.abc import Iterator, Mapping
from datetime import UTC
from typing import Any

from mediscale.core.errors import NotFoundError
from mediscale.core.refs import TableRef
from mediscale.core.settings import Settings
from mediscale.core.tables import PERFORMANCE
from mediscale.core.tasks import TaskName
from mediscale.storage import lake
from serving.metrics.prometheus_metrics import PERFORMANCE_LABELS, Metrics

Labels = tuple[str, ...]
_COLUMN = {
    "performance": "estimate",
    "performance_low": "low",
    "performance_high": "high",
    "performance_alarm": "alarm",
}
"""By gauge what it shows."""


class PerformanceGauges:
    """The gauges of one dataset's tasks; they are set where a table has changed, or another version is served."""

    def __init__(self, settings: Settings, dataset: str, metrics: Metrics) -> None:
        self._settings, self._dataset, self._metrics = settings, dataset, metrics
        self._seen: dict[TaskName, tuple[TableRef, int]] = {}
        self._shown: dict[TaskName, set[Labels]] = {}

    def refresh(self, served: Mapping[TaskName, int]) -> None:
        """Follows the tables of the tasks, each with the version that is served.

        Raises:
            StorageError: a table can't be read. The gauges stay as they were.
        """
        for task, version in served.items():
            try:
                table = lake.latest(self._settings, self._dataset, f"{PERFORMANCE.name}_{task}")
            except NotFoundError:  # nobody has measured yet
                continue
            if self._seen.get(task) != (table, version):
                self._show(task, table, version)
                self._seen[task] = table, version

    def _show(self, task: TaskName, table: TableRef, version: int) -> None:
        import pyarrow.compute as pc

        of_version = pc.field("model_version") == version
        rows = lake.dataset(self._settings, table).to_table(filter=of_version).to_pylist()
        newest = {_labels(task, row): row for row in _newest(rows)}
        for labels, row in newest.items():
            for name, column in _COLUMN.items():
                value = row[column]
                self._metrics.performance[name].labels(*labels).set(math.nan if value is None else value)
        # Gauges that processes share can't be removed.
        for labels in self._shown.get(task, set()) - newest.keys():
            for name, gauge in self._metrics.performance.items():
                gauge.labels(*labels).set(0 if name == "performance_alarm" else math.nan)
        self._shown[task] = set(newest)
        if rows:
            as_of = max(row["as_of"] for row in rows).replace(tzinfo=UTC)
            self._metrics.performance_known.labels(task).set(as_of.timestamp())


def _newest(rows: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The rows of the newest window of each basis (measured or estimated)."""
    newest: dict[str, Any] = {}
    for row in rows:
        newest[row["basis"]] = max(row["window_start"], newest.get(row["basis"], row["window_start"]))
    return (row for row in rows if row["window_start"] == newest[row["basis"]])


def _labels(task: TaskName, row: Mapping[str, Any]) -> Labels:
    labels = {"task": task, **row}
    return tuple(str(labels[name]) for name in PERFORMANCE_LABELS)
