"""Share of the possible lift: how far above chance a model gets, as a share of what the generator's own risk gets.

    .venv/bin/python benchmarks/possible_lift.py [--seeds 5] [--size small] [--task mortality] [--patients 24000]

Each seed is a synthetic hospital of its own, taken through `mediscale run`; the lift is the AUROC of its held-out stays
less 0.5. Beside the version that was registered stand the points score and logistic regression of its evidence, and the
trees grown again with and without the features of charting behaviour (how often and how lately a value was charted).
The means have 95 % intervals over the seeds, by Student's t; with one seed there is none.

Two more parts say what is in the way of the rest. The learning curve is one larger hospital without notes
(``--patients``; 0 leaves it out): the same recipe on nested parts of its training patients, judged on the same held-out
ones. The ceiling is what a model of mortality would get that knew the latent severity exactly, and nothing that stands
in no table.
"""

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from data_pipeline.features import kernel
from data_pipeline.synthetic.patients import draw_subjects, simulate
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
PARTS = (32, 16, 8, 4, 2, 1)
"""Of the training patients, each this part of them."""


@dataclass(frozen=True)
class Trained:
    """What a finished run has left: the splits, the recipe, and the generator's risks of the held-out stays."""

    splits: Mapping[str, Examples]
    params: risk_model.Params
    truth: metrics.Floats

    @property
    def best(self) -> float:
        """The AUROC of the generator's own risks."""
        outcomes = self.splits["held_out"].outcomes
        return float(metrics.auroc(outcomes, self.truth, metrics.unweighted(self.truth))[0])

    def share(self, auroc: float) -> float:
        return (auroc - 0.5) / (self.best - 0.5)

    def auroc_of_trees(self, train: Examples, withheld: np.ndarray) -> float:
        """Of trees grown as ``risk_model`` grows them, on rows in which some columns (features) are missing."""
        rows = {**self.splits, "train": train}
        blank = {
            split: replace(of, inputs=np.where(withheld, np.float32(np.nan), of.inputs))
            for split, of in rows.items()
        }
        booster, _ = tree_training.fit(blank["train"], blank["tuning"], self.params.task, self.params.recipe)
        rounds = calibration.cross_fit(booster, blank["tuning"]).rounds
        margins = calibration.margins(booster, blank["held_out"].inputs, rounds)
        return float(metrics.auroc(blank["held_out"].outcomes, margins, metrics.unweighted(margins))[0])


def run(home: Path, task: TaskName, *settings: str) -> None:
    command = [sys.executable, "-m", "mediscale", "run", "--task", task, *settings]
    environment = {**os.environ, "MEDISCALE_HOME": str(home)}
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)


def trained(home: Path, task: TaskName) -> Trained:
    settings = Settings(home=home)
    judged = calls.of_stage(settings, "evaluate")[-1]
    frozen = TableRef.model_validate(judged.params["training_set"])
    splits = {
        split: training_examples.load(settings, frozen, split, kernel.names(task))
        for split in ("train", "tuning", "held_out")
    }
    subjects = TableRef.model_validate(judged.params["subjects"])
    truth = oracle.probabilities(judged.params["oracle"], subjects, task, settings, splits["held_out"])
    assert truth is not None, "a synthetic hospital has its generator's risks"
    stated = np.isfinite(truth)
    splits["held_out"] = splits["held_out"].where(stated)
    params = risk_model.Params.model_validate(calls.of_stage(settings, "risk_model")[-1].params)
    return Trained(splits, params, truth[stated])


def shares(home: Path, task: TaskName) -> dict[str, float]:
    """Of each model's lift in the oracle's, on the held-out stays of a home in which one run was made."""
    judged = calls.of_stage(Settings(home=home), "evaluate")[-1]
    evidence = json.loads((home / judged.result["evidence"]).read_text())
    found = {"the registered version": evidence["oracle"]["model_auroc"]["value"]}
    found |= {baseline["name"]: baseline["auroc"]["value"] for baseline in evidence["baselines"]}
    this, charting = trained(home, task), charting_features(task)
    train = this.splits["train"]
    found["trees"] = this.auroc_of_trees(train, np.zeros_like(charting))
    found[f"trees without {charting.sum()} features of charting"] = this.auroc_of_trees(train, charting)
    return {name: this.share(auroc) for name, auroc in found.items()}


def learning_curve(home: Path, task: TaskName) -> dict[int, float]:
    """Share of the possible lift by number of training patients; fewer ones are among the more."""
    this, none = trained(home, task), np.zeros(len(kernel.names(task)), dtype=bool)
    train = this.splits["train"]
    patients = np.random.default_rng(0).permutation(np.unique(train.subjects))
    curve = {}
    for part in PARTS:
        chosen = patients[: len(patients) // part]
        rows = train.where(np.isin(train.subjects, chosen))
        curve[len(chosen)] = this.share(this.auroc_of_trees(rows, none))
    return curve


def charting_features(task: TaskName) -> np.ndarray:
    """Which features (n) say how a value was charted and not what it was."""
    measurements = tasks.load(task).features.measurements
    names = {f"{concept}_{stat}_{window}" for concept, stat, window in measurements if stat in CHARTING}
    return np.array([name in names for name in kernel.names(task)])


def ceiling() -> float:
    """The share of who knows severity, age, burden of disease and syndrome exactly, and nothing that no table has."""
    import xgboost

    chance = np.random.default_rng(0)
    subjects = draw_subjects(chance, 100_000, 1)
    visits = simulate(chance, subjects)
    rows, burden = visits.at_risk, subjects.burden[visits.subject]
    latent = np.column_stack([visits.severity[:, :2], visits.age, burden, visits.syndrome])[rows]
    truth, fitted = visits.death_probability[rows], np.arange(rows.sum()) % 2 == 0
    learnt = xgboost.train(
        {"objective": "reg:logistic", "max_depth": 5, "learning_rate": 0.1, "nthread": 1},
        xgboost.DMatrix(latent[fitted], truth[fitted]),
        150,
    ).predict(xgboost.DMatrix(latent[~fitted]))
    model, best = (expected_auroc(risks, truth[~fitted]) for risks in (learnt, truth[~fitted]))
    return (model - 0.5) / (best - 0.5)


def expected_auroc(score: np.ndarray, probability: np.ndarray) -> float:
    """Over outcomes drawn with these probabilities, whose noise the comparison does not need."""
    by_score = probability[np.argsort(score)]
    survivors_below = np.cumsum(1 - by_score) - (1 - by_score)
    return float((by_score * survivors_below).sum() / (by_score.sum() * (1 - by_score).sum()))


def interval(values: Sequence[float]) -> str:
    from scipy.stats import t

    middle = float(np.mean(values))
    if len(values) < 2:
        return f"{middle:.3f} (one seed)"
    half = float(t.ppf(0.975, len(values) - 1)) * float(np.std(values, ddof=1)) / math.sqrt(len(values))
    return f"{middle:.3f} ({middle - half:.3f} to {middle + half:.3f})"


def over_seeds(seeds: int, size: str, task: TaskName) -> None:
    by_model: dict[str, list[float]] = {}
    for seed in range(FIRST_SEED, FIRST_SEED + seeds):
        with tempfile.TemporaryDirectory() as folder:
            run(Path(folder), task, "--size", size, "--set", f"synthetic.seed={seed}")
            of_seed = shares(Path(folder), task)
        said = ", ".join(f"{name} {share:.3f}" for name, share in of_seed.items())
        print(f"seed {seed}: {said}", flush=True)
        for name, share in of_seed.items():
            by_model.setdefault(name, []).append(share)
    print(f"share of the possible lift, {size}, {task}, {seeds} seeds:")
    for name, values in sorted(by_model.items(), key=lambda item: -float(np.mean(item[1]))):
        print(f"  {name:<42} {interval(values)}")
    for name, values in by_model.items():
        print(f"figure: share of the possible lift of {name} = {np.mean(values):.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=5, help="how many, from the generator's own on (5)")
    parser.add_argument("--size", choices=("tiny", "small", "large"), default="small")
    parser.add_argument("--task", default="mortality")
    parser.add_argument("--patients", type=int, default=24_000, help="of the learning curve's hospital")
    options = parser.parse_args()
    if options.seeds:
        over_seeds(options.seeds, options.size, options.task)
    if options.patients:
        with tempfile.TemporaryDirectory() as folder:
            hospital = (f"synthetic.patients={options.patients}", "synthetic.notes=false")
            run(Path(folder), options.task, *(word for one in hospital for word in ("--set", one)))
            curve = learning_curve(Path(folder), options.task)
        for patients, share in curve.items():
            print(f"figure: share of the possible lift of trees on {patients} patients = {share:.3f}")
    if options.task == "mortality":
        print(f"figure: share of the possible lift that is in the tables = {ceiling():.3f}")


if __name__ == "__main__":
    main()
