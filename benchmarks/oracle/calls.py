"""Evidence files, and parameters and results of the stage calls."""

from collections import defaultdict
from pathlib import Path
from typing import Any

from benchmarks.oracle.findings import Findings
from benchmarks.oracle.json_values import Groups, compare_groups, normal, read_json
from benchmarks.oracle.renames import CALL_FOLDERS, EVIDENCE_FILES, STAGES, new_model, new_text


def evidence_of(home: Path) -> Groups:
    """Model and version → its evidence, by how many evaluations came before."""
    groups: dict[str, list[Any]] = defaultdict(list)
    for path in sorted(home.glob("evidence/*/*.json")):
        if path.name in EVIDENCE_FILES:
            one = normal(read_json(path), ("evidence",))
            groups[f"{new_model(one['model']['name'])} v{one['model']['version']}"].append(one)
    return {name: sorted(many, key=lambda e: e.get("prior_evaluations", 0)) for name, many in groups.items()}


def calls_of(home: Path, part: str) -> Groups:
    """Stage, dataset and task → ``part`` of its finished calls, oldest first."""
    paths = [path for folder in CALL_FOLDERS for path in home.glob(f"lake/{folder}/*/*.json")]
    calls = [(STAGES.get(path.parent.name, path.parent.name), read_json(path)) for path in sorted(paths)]
    groups: dict[str, list[Any]] = defaultdict(list)
    for stage, call in sorted(calls, key=lambda one: str(one[1].get("started_at"))):
        about = [stage, new_text(call["params"].get("dataset", "")), call["params"].get("task", "")]
        groups["/".join(filter(None, about))].append(normal(call.get(part, {}), (stage,)))
    return groups


def drift_numbers_of(home: Path) -> Groups:
    """Model and version → what lies beside its drift reports: the numbers of every column that was judged."""
    groups: dict[str, list[Any]] = defaultdict(list)
    for path in sorted(home.glob("reports/drift/*/*.json")):
        numbers = {name: value for name, value in read_json(path).items() if name in ("columns", "missing")}
        groups[f"drift/{path.parent.name}"].append(normal(numbers, ("drift",)))
    return groups


def first_part(name: str) -> str:
    return name.split("/")[0]


def compare_evidence(findings: Findings, a: Path, b: Path) -> None:
    compare_groups(findings, "evidence files", lambda _: "evidence", evidence_of(a), evidence_of(b))


def compare_results(findings: Findings, a: Path, b: Path) -> None:
    compare_groups(findings, "stage calls", first_part, calls_of(a, "result"), calls_of(b, "result"))
    compare_groups(findings, "drift reports", first_part, drift_numbers_of(a), drift_numbers_of(b))


def compare_params(findings: Findings, a: Path, b: Path) -> None:
    compare_groups(findings, "stage calls", first_part, calls_of(a, "params"), calls_of(b, "params"))
