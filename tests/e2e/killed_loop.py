"""Runs the loop of one task in MEDISCALE_HOME, ``with-notes`` or ``without-notes``, and kills itself with -9 at the
commit point that is named, if any."""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mediscale.core.refs import TableRef
from mediscale.core.settings import Settings
from mediscale.pipeline import runtime_inputs, steps
from mediscale.storage import duckdb_tables, registry
from mediscale.storage.calls import Output


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def dying_after(function: Callable[..., Any]) -> Callable[..., Any]:
    def wrapped(*arguments: Any, **named: Any) -> None:
        function(*arguments, **named)
        die()

    return wrapped


def shard_written(settings: Settings) -> None:
    """Between a shard's file and the commit that would make it part of the table."""
    table = Path(settings.table_uri("synthetic", "events"))

    def watch() -> None:
        while not any(table.rglob("*.parquet")):
            time.sleep(0.002)
        die()

    threading.Thread(target=watch, daemon=True).start()


def delta_committed(_settings: Settings) -> None:
    """After the commit of events, before the record that says so."""
    digest = duckdb_tables.digest

    def of_all_but_events(
        settings: Settings, ref: TableRef, earlier: Output | None = None
    ) -> tuple[int, str]:
        if ref.table == "events":
            die()
        return digest(settings, ref, earlier)

    duckdb_tables.digest = of_all_but_events


def model_registered(_settings: Settings) -> None:
    registry.register = dying_after(registry.register)


def alias_moved(_settings: Settings) -> None:
    registry.repair = dying_after(registry.repair)


RUN = "killed"
POINTS = {
    "shard_written": shard_written,
    "delta_committed": delta_committed,
    "model_registered": model_registered,
    "alias_moved": alias_moved,
}


def run(settings: Settings, notes: bool) -> None:
    """With the configuration of the undisturbed run that it is compared with (``fixtures.undisturbed_run``)."""
    which, of_source = runtime_inputs.Source(size="tiny"), {"synthetic": {"notes": notes}}
    source = runtime_inputs.prepare_source(settings, which, of_source, RUN)
    results = {steps.PREPARE_SOURCE: source.model_dump()}
    for node in steps.nodes(steps.RISK, ("mortality",)):
        config: dict[str, object] = {"task": node.task} if node.task else {}
        if node.stage == "risk_model":
            config |= {"rounds": 60}
        if node.stage == "note_model":
            config |= {
                "epochs": 1,
                "max_examples_per_epoch": 100,
                "window": 32,
                "most_windows": 1,
                "threads": 1,
            }
        upstream = [results[name] for name in node.upstream]
        finished = runtime_inputs.call(node.stage, config, upstream, settings, RUN)
        results[node.name] = finished.result.model_dump()


if __name__ == "__main__":
    where = Settings()
    if len(sys.argv) > 2:
        POINTS[sys.argv[2]](where)
    run(where, sys.argv[1] == "with-notes")
