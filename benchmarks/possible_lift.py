"""Share of the possible lift: how far above chance a model gets, as a share of what the generator's own risk gets.

    .venv/bin/python benchmarks/possible_lift.py [--seeds 5] [--size small] [--task mortality]

Each seed is a synthetic hospital of its own, taken through `mediscale run`; the lift is the AUROC of its held-out stays
less 0.5. Beside the version that was registered stand the points score and logistic regression of its evidence, and the
trees grown again with and without the features of charting behaviour (how often and how lately a value was charted).
The means have 95 % intervals over the seeds, by Student's t; with one seed there is none.
"""

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from data_pipeline.features import kernel
from mediscale.core import tasks
from mediscale.core.refs import TableRef
from mediscale.core.settings import Settings
from mediscale.core.tasks import TaskName
from mediscale.storage import calls
from training import training_examples
from training.evaluation import calibration, metrics, oracle
from training.tabular import risk_model, tree_training
from training.training_examples import Examples

FIRST_SEED = 20260101
CHARTING = ("count", "recency", "interval", "irregularity")


def run(home: Path, size: str, task: TaskName, seed: int) -> None:
    options = ["--size", size, "--task", task, "--set", f"synthetic.seed={seed}"]
    command = [sys.executable, "-m", "mediscale", "run", *options]
    environment = {**os.environ, "MEDISCALE_HOME": str(home)}
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)


def shares(home: Path, task: TaskName) -> dict[str, float]:
    """Of each model's lift in the oracle's, on the held-out stays of a home in which one run was made."""
    settings = Settings(home=home)
    judged = calls.of_stage(settings, "evaluate")[-1]
    evidence = json.loads((home / judged.result["evidence"]).read_text())
    best = evidence["oracle"]["auroc"]["value"]
    found = {"the registered version": evidence["oracle"]["model_auroc"]["value"]}
    found |= {baseline["name"]: baseline["auroc"]["value"] for baseline in evidence["baselines"]}
    frozen = TableRef.model_validate(judged.params["training_set"])
    splits = {
        split: training_examples.load(settings, frozen, split, kernel.names(task))
        for split in ("train", "tuning", "held_out")
    }
    subjects = TableRef.model_validate(judged.params["subjects"])
    truth = oracle.probabilities(judged.params["oracle"], subjects, task, settings, splits["held_out"])
    assert truth is not None, "a synthetic hospital has its generator's risks"
    splits["held_out"] = splits["held_out"].where(np.isfinite(truth))
    params = risk_model.Params.model_validate(calls.of_stage(settings, "risk_model")[-1].params)
    charting = charting_features(task)
    found["trees"] = auroc_of_trees(splits, params, np.zeros_like(charting))
    found[f"trees without {charting.sum()} features of charting"] = auroc_of_trees(splits, params, charting)
    return {name: (auroc - 0.5) / (best - 0.5) for name, auroc in found.items()}


def charting_features(task: TaskName) -> np.ndarray:
    """Which features (n) say how a value was charted and not what it was."""
    measurements = tasks.load(task).features.measurements
    names = {f"{concept}_{stat}_{window}" for concept, stat, window in measurements if stat in CHARTING}
    return np.array([name in names for name in kernel.names(task)])


def auroc_of_trees(splits: Mapping[str, Examples], params: risk_model.Params, withheld: np.ndarray) -> float:
    """Of trees grown as ``risk_model`` grows them, on rows in which some columns (features) are missing."""
    blank = {
        split: replace(rows, inputs=np.where(withheld, np.float32(np.nan), rows.inputs))
        for split, rows in splits.items()
    }
    booster, _ = tree_training.fit(blank["train"], blank["tuning"], params.task, params.recipe)
    rounds = calibration.cross_fit(booster, blank["tuning"]).rounds
    held_out = blank["held_out"]
    margins = calibration.margins(booster, held_out.inputs, rounds)
    return float(metrics.auroc(held_out.outcomes, margins, metrics.unweighted(margins))[0])


def mean(values: Sequence[float]) -> str:
    from scipy.stats import t

    middle = float(np.mean(values))
    if len(values) < 2:
        return f"{middle:.3f} (one seed)"
    half = float(t.ppf(0.975, len(values) - 1)) * float(np.std(values, ddof=1)) / math.sqrt(len(values))
    return f"{middle:.3f} ({middle - half:.3f} to {middle + half:.3f})"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=5, help="how many, from the generator's own on (5)")
    parser.add_argument("--size", choices=("tiny", "small", "large"), default="small")
    parser.add_argument("--task", default="mortality")
    options = parser.parse_args()
    by_model: dict[str, list[float]] = {}
    for seed in range(FIRST_SEED, FIRST_SEED + options.seeds):
        with tempfile.TemporaryDirectory() as folder:
            run(Path(folder), options.size, options.task, seed)
            of_seed = shares(Path(folder), options.task)
        print(
            f"seed {seed}: {', '.join(f'{name} {share:.3f}' for name, share in of_seed.items())}", flush=True
        )
        for name, share in of_seed.items():
            by_model.setdefault(name, []).append(share)
    print(f"share of the possible lift, {options.size}, {options.task}, {options.seeds} seeds:")
    for name, values in sorted(by_model.items(), key=lambda item: -float(np.mean(item[1]))):
        print(f"  {name:<42} {mean(values)}")


if __name__ == "__main__":
    main()
