"""Cleaning: what nothing needs is reclaimed; what a registered version, an answer or the next night needs stays.

Delta keeps every version of a table for ever here, and each night leaves new ones. Needed are the newest version of
each table; what a registered version was made from, back to the extract; what the newest call of each stage read and
made; and the events that an answer in the prediction log was computed from, with the facts that name their lines. A
file that no needed version has is deleted. The log of the table stays whole, so that the versions still count.
"""

import re
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

from mediscale.core.refs import TableRef
from mediscale.core.settings import Settings
from mediscale.core.tables import EVENTS, PREDICTIONS
from mediscale.governance.erasure import UPKEEP
from mediscale.pipeline import call
from mediscale.storage import lake, locks, spark
from mediscale.storage.calls import Call
from mediscale.storage.lineage import Lineage

if TYPE_CHECKING:
    from pyarrow import fs

OLD_VERSIONS = "versions of tables that nothing needs"
NO_VERSION = "files of tables that no version has"
LEFT_BEHIND = "what killed processes left behind"
FIT = "where fits stand that nobody went on with for a week"

DAY = 24 * 3600.0
"""Seconds. A file that no version has may be of a commit that is still being made."""
_ARTIFACT = re.compile(r"table:(.+)@(\d+)")


@dataclass(frozen=True)
class Reclaimable:
    """A file that nothing needs."""

    kind: str
    uri: str
    size: int


def find(settings: Settings) -> list[Reclaimable]:
    """All that can be reclaimed."""
    needed = _needed(settings)
    tables = (
        _in_table(settings, d, t, needed) for d in lake.datasets(settings) for t in lake.tables(settings, d)
    )
    return [*(item for table in tables for item in table), *_in_home(settings)]


def delete(settings: Settings, items: list[Reclaimable]) -> None:
    """Deletes what was found; a file that is gone already is passed over.

    Raises:
        BusyError: a stage, an erasure or a backup is at work.
    """
    with ExitStack() as stack:
        stack.enter_context(locks.exclusive(settings, *UPKEEP))
        for dataset in lake.datasets(settings):
            stack.enter_context(call.none_running(settings, dataset))
        _delete(settings, items)


def _delete(settings: Settings, items: list[Reclaimable]) -> None:
    for item in items:
        filesystem, path = lake.filesystem(item.uri)
        folder, _, name = path.rpartition("/")
        for each in (path, f"{folder}/.{name}.crc"):
            if filesystem.get_file_info(each).is_file:
                filesystem.delete_file(each)
    spark.delete_stale_shuffles(settings)
    for name in ("checkpoints", "ray"):
        for left in sorted((p for p in (settings.home / name).rglob("*") if p.is_dir()), reverse=True):
            if not any(left.iterdir()):
                left.rmdir()


# --- what is needed ----------------------------------------------------------------------------------------------


def _needed(settings: Settings) -> dict[str, set[int]]:
    """The table versions that are needed beside the newest, by table_id."""
    lineage = Lineage(settings)
    registering = [r for r in lineage.calls if any(a.startswith("model:") for a in r.produced)]
    newest: dict[tuple[str, ...], Call] = {}
    for record in lineage.calls:
        newest[record.stage, str(record.params.get("dataset")), record.task] = record
    needed: dict[str, set[int]] = defaultdict(set)
    for record in [*lineage.upstream(registering).values(), *newest.values()]:
        for artifact in (*record.inputs, *record.produced):
            if table := _ARTIFACT.fullmatch(artifact):
                needed[table[1]].add(int(table[2]))
    for ref in _answered_from(settings):
        needed[ref.table_id].add(ref.version)
        if (silver := lineage.maker_of_rows(ref)) is not None:
            facts = TableRef.model_validate(silver.params["facts"])
            needed[facts.table_id].add(facts.version)
    return needed


def _answered_from(settings: Settings) -> Iterator[TableRef]:
    """The versions of events that answers in the prediction logs were computed from."""
    for dataset in lake.datasets(settings):
        log, events = (lake.find_latest(settings, dataset, t.name) for t in (PREDICTIONS, EVENTS))
        if log and events:
            versions = lake.read(settings, log, ["events_version"])["events_version"].drop_null().unique()
            yield from (events.model_copy(update={"version": version}) for version in versions.to_pylist())


# --- what is there -----------------------------------------------------------------------------------------------


def _in_table(
    settings: Settings, dataset: str, table: str, needed: dict[str, set[int]]
) -> Iterator[Reclaimable]:
    newest = lake.latest(settings, dataset, table)
    versions = {newest.version, *(v for v in needed.get(newest.table_id, ()) if v <= newest.version)}
    kept: set[str] = set()
    for version in versions:
        kept |= {_name(f) for f in lake.files(settings, newest.model_copy(update={"version": version}))}
    committed = {_name(unquote(path)) for path in lake.historical_paths(settings, newest)}
    root = settings.table_uri(dataset, table)
    for info in lake.list_files(root):
        name = info.base_name
        uri = f"{root}{info.path.removeprefix(lake.filesystem(root)[1])}"
        if "/_delta_log/" in info.path or not name.endswith((".parquet", ".part")):
            if name.endswith(".part") and _age(info) > DAY:
                yield Reclaimable(NO_VERSION, uri, info.size)
        elif name in kept:
            continue
        elif name in committed:
            yield Reclaimable(OLD_VERSIONS, uri, info.size)
        elif _age(info) > DAY:
            yield Reclaimable(NO_VERSION, uri, info.size)


def _name(uri: str) -> str:
    """Engines give every file of a table a name of its own, whatever its folder."""
    return uri.rpartition("/")[2]


def _age(info: "fs.FileInfo") -> float:
    """Seconds since it was written."""
    return float(time.time() - info.mtime.timestamp())


def _in_home(settings: Settings) -> Iterator[Reclaimable]:
    yield from _older(FIT, settings.home / "checkpoints", 7 * DAY)
    yield from _older(LEFT_BEHIND, settings.home / "ray", DAY)


def _older(kind: str, folder: Path, seconds: float) -> Iterator[Reclaimable]:
    for path in sorted(folder.rglob("*")):
        if path.is_file() and time.time() - path.stat().st_mtime > seconds:
            yield Reclaimable(kind, str(path), path.stat().st_size)
