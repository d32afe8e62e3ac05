"""Registered model versions, and what their MLflow runs measured."""

import json
import math
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.oracle.findings import Findings
from benchmarks.oracle.json_values import compare_json, normal, read_json
from benchmarks.oracle.renames import (
    IGNORED_METRICS,
    NOTE_FOLDERS,
    NOTE_SPEC_FILES,
    PREDICTOR_FILES,
    new_model,
)
from benchmarks.oracle.tables import in_both


class Version(NamedTuple):
    folder: Path
    run: str
    """Of MLflow; empty where it isn't known."""


Versions = dict[tuple[str, int], Version]


@cache
def versions_of(home: Path) -> Versions:
    """Name and number → the version, by MLflow's registry and the promotion history, or by folders' age."""
    found = promoted(home) | registered(home)
    return found or walked(home)


def registered(home: Path) -> Versions:
    database = home / "mlflow.db"
    if not database.is_file():
        return {}
    with closing(sqlite3.connect(f"{database.absolute().as_uri()}?mode=ro", uri=True)) as store:
        rows = store.execute("SELECT name, version, source, run_id FROM model_versions").fetchall()
        tags = store.execute(
            "SELECT name, version, value FROM model_version_tags WHERE key LIKE '%uri'"
        ).fetchall()
    uris = {(name, version): value for name, version, value in tags}
    return {
        (new_model(name), int(version)): Version(
            located(home, uris.get((name, version), source)), str(run or "")
        )
        for name, version, source, run in rows
    }


def promoted(home: Path) -> Versions:
    from deltalake import DeltaTable

    versions = {}
    for log in [*home.glob("lake/*/promotions/_delta_log"), *home.glob("lake/*/history/_delta_log")]:
        for row in DeltaTable(str(log.parent)).to_pyarrow_table().to_pylist():
            move = json.loads(row["body"]) if "body" in row else row
            uri = move.get("model_uri") or move.get("uri")
            if uri:
                name, number = new_model(move["model"]), int(move["to_version"])
                versions[name, number] = Version(located(home, uri), "")
    return versions


def walked(home: Path) -> Versions:
    specs = [
        path for name in (*PREDICTOR_FILES, *NOTE_SPEC_FILES) for path in home.glob(f"artifacts/**/{name}")
    ]
    counts: Counter[str] = Counter()
    versions = {}
    for path in sorted(specs, key=lambda path: path.stat().st_mtime):
        if path.parent.name not in NOTE_FOLDERS:
            name = new_model(read_json(path)["name"])
            counts[name] += 1
            versions[name, counts[name]] = Version(path.parent, "")
    return versions


def located(home: Path, uri: str) -> Path:
    """A model's folder in this home, wherever the home was when it was registered."""
    path = Path(uri.removeprefix("file://"))
    inside = home / "artifacts" / str(path).partition("/artifacts/")[2]
    return inside if path.is_absolute() and inside.is_dir() else home / path


def compare_versions(
    findings: Findings,
    a: Path,
    b: Path,
    compare: Callable[[Findings, str, Path, Version, Path, Version], None],
) -> None:
    homes = versions_of(a), versions_of(b)
    for one in sorted(homes[0].keys() | homes[1].keys()):
        where = f"{one[0]} v{one[1]}"
        if in_both(findings, where, *(one in home for home in homes)):
            findings.compared["versions"] += 1
            compare(findings, where, a, homes[0][one], b, homes[1][one])


def compare_runs(findings: Findings, a: Path, b: Path) -> None:
    """What MLflow's run of each registered version holds: curves, figures, and its JSON files."""
    compare_versions(findings, a, b, compare_run)


def compare_run(findings: Findings, where: str, home_a: Path, a: Version, home_b: Path, b: Version) -> None:
    findings.compared["runs"] += 1
    compare_json(findings, where, ("run",), run_of(home_a, a.run), run_of(home_b, b.run))


def run_of(home: Path, run: str) -> Any:
    if not run:
        return {}
    files = home.glob(f"artifacts/*/{run}/artifacts/*.json")
    values = {path.name: normal(read_json(path), ("run",)) for path in files}
    return {"metrics": dict(curves_of(home, run)), "files": values}


def curves_of(home: Path, run: str) -> Iterator[tuple[str, list[float]]]:
    query = "SELECT key, value, is_nan FROM metrics WHERE run_uuid = ? ORDER BY key, step, timestamp, value"
    with closing(sqlite3.connect(f"{(home / 'mlflow.db').absolute().as_uri()}?mode=ro", uri=True)) as store:
        rows = store.execute(query, (run,)).fetchall()
    curves: dict[str, list[float]] = defaultdict(list)
    for name, value, is_nan in rows:
        if name not in IGNORED_METRICS:
            curves[name].append(math.nan if is_nan else value)
    yield from curves.items()
