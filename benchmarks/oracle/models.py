"""Trees, their answers and SHAP values, specs, and the weights of note models."""

import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from benchmarks.oracle.findings import Findings, compare_arrays
from benchmarks.oracle.json_values import compare_json, first_file, normal, read_json
from benchmarks.oracle.renames import (
    KEYS,
    NOTE_FOLDERS,
    NOTE_SPEC_FILES,
    PREDICTOR_FILES,
    TREE_FILES,
    new_table,
    new_text,
    table_base,
)
from benchmarks.oracle.tables import in_both, in_order, read_table, tables_of
from benchmarks.oracle.versions import Version, compare_versions


def compare_models(findings: Findings, a: Path, b: Path) -> None:
    compare_versions(findings, a, b, compare_model)


def compare_model(findings: Findings, where: str, home_a: Path, a: Version, home_b: Path, b: Version) -> None:
    folders = a.folder, b.folder
    if not in_both(findings, f"{where} files", *(folder.is_dir() for folder in folders)):
        if not any(folder.is_dir() for folder in folders):
            findings.differ(where, "its files are in neither home")
        return
    specs = [first_file(folder, PREDICTOR_FILES) for folder in folders]
    if in_both(findings, f"{where} predictor", *map(bool, specs)):
        compare_predictors(
            findings, where, (home_a, home_b), folders, [read_json(path) for path in specs if path]
        )
    notes = [note_folder(folder) for folder in folders]
    if in_both(findings, f"{where} note model", *map(bool, notes)):
        compare_note_models(findings, f"{where} notes", *(folder for folder in notes if folder))


def compare_predictors(
    findings: Findings, where: str, homes: Sequence[Path], folders: Sequence[Path], specs: Sequence[Any]
) -> None:
    """The spec, the trees, and what they answer on the training set."""
    compare_json(findings, where, ("predictor",), *(normal(spec, ("predictor",)) for spec in specs))
    files = [first_file(folder, TREE_FILES) for folder in folders]
    if not in_both(findings, f"{where} trees", *map(bool, files)):
        return
    findings.compared["tree models"] += 1
    boosters = [booster_of(path) for path in files if path]
    compare_json(findings, where, ("trees",), *(json.loads(b.save_raw("json"))["learner"] for b in boosters))
    answers = [answered(*one) for one in zip(homes, boosters, specs, strict=True)]
    if not in_both(findings, f"{where} rows that it can answer", *map(bool, answers)):
        if not any(answers):
            findings.differ(where, "the training sets of both homes lack its inputs")
        return
    findings.compared["rows"] += len(next(iter(answers[0].values())))
    for name in (name for name in answers[0] if name in answers[1]):
        compare_arrays(findings, f"{where} {name}", answers[0][name], answers[1][name], "row {}:".format)


def booster_of(path: Path) -> Any:
    import xgboost

    return xgboost.Booster(model_file=str(path))


def answered(home: Path, booster: Any, spec: Mapping[str, Any]) -> dict[str, pa.Array]:
    """Margin, risk and contributions of every row of the training set; empty where it lacks an input."""
    import xgboost

    rows = training_set(home, spec["dataset"], spec["task"])
    names = booster.feature_names or list(spec["features"])
    if rows is None or set(names) - set(rows.column_names):
        return {}
    inputs = np.column_stack([rows[name].to_numpy().astype(np.float32) for name in names])
    matrix = xgboost.DMatrix(inputs, feature_names=booster.feature_names, nthread=1)
    margins = booster.predict(matrix, output_margin=True)
    parts = booster.predict(matrix, pred_contribs=True)
    platt = spec["calibration"]
    risks = 1 / (1 + np.exp(-(platt["slope"] * margins.astype(np.float64) + platt["intercept"])))
    columns = {"margin": margins, "risk": risks}
    columns |= {f"contribution of {name}": parts[:, at] for at, name in enumerate((*names, "the bias"))}
    return {name: pa.array(np.ascontiguousarray(values)) for name, values in columns.items()}


@cache
def training_set(home: Path, dataset: str, task: str) -> pa.Table | None:
    """Its newest version, sorted by its key."""
    name = new_text(dataset), new_table(f"training_set_{task}")
    folders = tables_of(home).get(name)
    if folders is None:
        return None
    base = table_base(name[1])
    rows = read_table(folders, base)
    return in_order(rows, [key for key in KEYS[base] if key in rows.column_names])


def note_folder(folder: Path) -> Path | None:
    """Where a version's note model is: its own folder, or one beside the trees."""
    places = (folder, *(folder / name for name in NOTE_FOLDERS))
    return next((place for place in places if first_file(place, NOTE_SPEC_FILES)), None)


def compare_note_models(findings: Findings, where: str, a: Path, b: Path) -> None:
    findings.compared["note models"] += 1
    specs = [first_file(folder, NOTE_SPEC_FILES) for folder in (a, b)]
    compare_json(
        findings, where, ("notes",), *(normal(read_json(path), ("notes",)) for path in specs if path)
    )
    compared = {".safetensors": compare_weights, ".onnx": compare_graphs}
    for name in ("model.safetensors", "model.onnx", "tokenizer.json", "config.json"):
        files = a / name, b / name
        if in_both(findings, f"{where} {name}", *(path.is_file() for path in files)):
            findings.compared["bytes"] += files[0].stat().st_size
            compared.get(files[0].suffix, compare_bytes)(findings, f"{where} {name}", *files)


def compare_bytes(findings: Findings, where: str, a: Path, b: Path) -> None:
    if a.read_bytes() != b.read_bytes():
        findings.differ(where, f"{a.stat().st_size:,} bytes → {b.stat().st_size:,} other bytes")


def compare_weights(findings: Findings, where: str, a: Path, b: Path) -> None:
    from safetensors.numpy import load_file

    compare_tensors(findings, where, load_file(a), load_file(b))


def compare_graphs(findings: Findings, where: str, a: Path, b: Path) -> None:
    """ONNX files must be the same bytes; where they are not, their weights say how far apart they are."""
    import onnx
    from onnx import numpy_helper

    compare_bytes(findings, where, a, b)
    weights = (
        {one.name: numpy_helper.to_array(one) for one in onnx.load(path).graph.initializer} for path in (a, b)
    )
    compare_tensors(findings, where, *weights)


Tensors = Mapping[str, NDArray[Any]]


def compare_tensors(findings: Findings, where: str, a: Tensors, b: Tensors) -> None:
    for name in sorted(a.keys() | b.keys()):
        if in_both(findings, f"{where} {name}", name in a, name in b):
            if a[name].shape != b[name].shape:
                findings.differ(f"{where} {name}", f"shape {a[name].shape} → {b[name].shape}")
            x, y = (pa.array(side[name].ravel()) for side in (a, b))
            compare_arrays(findings, f"{where} {name}", x, y, "weight {}:".format)
