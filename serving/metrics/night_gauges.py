"""Gauges of nights in ``/metrics``: how the last call of each stage ended, whichever runner made it.

The log and ``/health`` say why one failed, and what the last verification warned of.
"""

import logging
from datetime import datetime

from mediscale.core.settings import Settings
from mediscale.storage import lake, last_calls
from serving.metrics.prometheus_metrics import Metrics

log = logging.getLogger("mediscale.serving")


class NightGauges:
    """The gauges of one dataset's stages; a file is read when it is another one than before."""

    def __init__(self, settings: Settings, dataset: str, metrics: Metrics) -> None:
        self._settings, self._dataset, self._metrics = settings, dataset, metrics
        self._seen: dict[str, datetime] = {}
        self._warnings: dict[str, tuple[str, ...]] = {}

    @property
    def warnings(self) -> tuple[str, ...]:
        """The warnings of all stages' last calls."""
        return tuple(sorted(warning for of_file in self._warnings.values() for warning in of_file))

    def refresh(self) -> None:
        """Sets the gauges by the files of the folder that have changed.

        Raises:
            StorageError: the lake can't be reached. The gauges stay as they were.
        """
        from pyarrow import fs

        uri = last_calls.folder(self._settings, self._dataset)
        files, folder = lake.filesystem(uri)
        for info in files.get_file_info(fs.FileSelector(folder, allow_not_found=True)):
            if info.extension != "json" or self._seen.get(info.base_name) == info.mtime:
                continue
            if call := last_calls.read(f"{uri}/{info.base_name}"):
                self._metrics.stage_failed.labels(call.stage, call.task).set(call.failed)
                if call.succeeded_at:
                    at = call.succeeded_at.timestamp()
                    self._metrics.stage_succeeded.labels(call.stage, call.task).set(at)
                for warning in set(call.warnings).difference(self._warnings.get(info.base_name, ())):
                    log.warning("%s", warning)
                self._warnings[info.base_name] = call.warnings
                self._seen[info.base_name] = info.mtime
