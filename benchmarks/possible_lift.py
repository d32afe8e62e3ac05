"""Share of the possible lift: how far above chance a model gets, as a share of what the generator's own risk gets.

    .venv/bin/python benchmarks/possible_lift.py [--seeds 5] [--size small] [--task mortality] [--notes] [--homes DIR]

The lift is the AUROC of held-out stays less 0.5. Each seed is a synthetic hospital of its own, whose records become a
frozen training set by the stages of a run; trees are grown on it as ``risk_model`` grows them, with and without the
features of charting behaviour (how often and how lately a value was charted), and on nested parts of the training
patients (the learning curve). ``--notes`` takes each hospital on to the version that a run would register, notes and
all, which takes many times as long: beside it stand its trees alone, and the points score and logistic regression of
its evidence. The means have 95 % intervals over the seeds, by Student's t; with one seed there is none. In homes that
are kept, what was done for a seed is not done again, so that the seeds can be taken one after the other.

The ceiling is what a model of mortality would get that knew the latent severity exactly, and nothing that stands in no
table: frailty, how unwell a patient looks, and whether care aims at cure are in notes alone.
"""

import argparse
import json
import math
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from data_pipeline.features import kernel
from data_pipeline.synthetic.patients import draw_subjects, simulate
from mediscale.core import tasks
from mediscale.core.refs import TableRef
from mediscale.core.settings import Settings
from mediscale.core.tasks import TaskName
from mediscale.pipeline import call, runtime_inputs, steps
from training import training_examples
from training.evaluation import oracle
from training.statistics import calibration, metrics
from training.tabular import risk_model, tree_training
from training.training_examples import Examples

FIRST_SEED = 20260101
CHARTING = ("count", "recency", "interval", "irregularity")
PARTS = (16, 8, 4, 2)
"""Of the training patients, each this part of them."""
DATASET = "possible-lift"


@dataclass(frozen=True)
class Trained:
    """What a finished run has left: the splits, the recipe, and the generator's risks of the held-out stays."""

    splits: Mapping[str, Examples]
    params: risk_model.Params
    truth: metrics.Floats

    @property
    def best(self) -> float:
        """The AUROC of the generator's own risks."""
        return metrics.point_estimate(metrics.auroc, self.splits["held_out"].outcomes, self.truth)

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
        return metrics.point_estimate(metrics.auroc, blank["held_out"].outcomes, margins)


def of_stages(
    home: Path, size: str, task: TaskName, seed: int, training: Sequence[steps.Step], notes: bool
) -> dict[str, Any]:
    """What the stages of a run leave for a hospital, by node: those up to the features, and some of training."""
    settings, results = Settings(home=home), dict[str, Any]()
    made = {"dataset": DATASET, "size": size, "seed": seed, "notes": notes}
    results[steps.PREPARE_SOURCE] = call.call("synthetic", made, settings, DATASET).result
    for node in steps.nodes((*steps.FEATURES, *training), (task,)):
        fields = call.load(node.stage).Params.model_fields
        given = {
            "dataset": DATASET,
            "task": task,
            "bootstrap": 50,
        }  # the intervals of an evidence are not read
        about = {name: value for name, value in given.items() if name in fields}
        upstream = [results[name].model_dump() for name in node.upstream if name in results]
        results[node.name] = runtime_inputs.call(node.stage, about, upstream, settings, DATASET).result
    return results


def frozen(home: Path, size: str, task: TaskName, seed: int) -> Trained:
    """A hospital without notes, as far as the frozen training set."""
    results, settings = (
        of_stages(home, size, task, seed, steps.TRAINING[:1], notes=False),
        Settings(home=home),
    )
    training_set = results[f"training_set_{task}"].training_set
    params = risk_model.Params(dataset=DATASET, task=task, training_set=training_set)
    return trained(settings, params, results[steps.PREPARE_SOURCE].oracle, results["silver"].subjects)


def trained(settings: Settings, params: risk_model.Params, file: str | None, subjects: TableRef) -> Trained:
    splits = {
        split: training_examples.load(settings, params.training_set, split, kernel.names(params.task))
        for split in ("train", "tuning", "held_out")
    }
    truth = oracle.probabilities(file, subjects, params.task, settings, splits["held_out"])
    assert truth is not None, "a synthetic hospital has its generator's risks"
    stated = np.isfinite(truth)
    splits["held_out"] = splits["held_out"].where(stated)
    return Trained(splits, params, truth[stated])


def shares_of_trees(this: Trained) -> dict[str, float]:
    """Of trees' lift in the generator's: on all features, without those of charting, on parts of the patients."""
    train, charting = this.splits["train"], charting_features(this.params.task)
    patients = np.random.default_rng(0).permutation(np.unique(train.subjects))
    found = {
        "trees": this.auroc_of_trees(train, np.zeros_like(charting)),
        f"trees without {charting.sum()} features of charting": this.auroc_of_trees(train, charting),
    }
    for part in PARTS:
        rows = train.where(np.isin(train.subjects, patients[: len(patients) // part]))
        found[f"trees on 1/{part} of the patients"] = this.auroc_of_trees(rows, np.zeros_like(charting))
    return {name: this.share(auroc) for name, auroc in found.items()}


def shares_with_notes(home: Path, size: str, task: TaskName, seed: int) -> dict[str, float]:
    """The same of the version that a run would register, notes and all, beside its trees and its baselines."""
    training = [step for step in steps.TRAINING if step.stage not in ("leakage", "promotion")]
    judged = of_stages(home, size, task, seed, training, notes=True)[f"evaluate_{task}"]
    evidence = json.loads((home / judged.evidence).read_text())
    found = {"the version with notes": evidence["oracle"]["model_auroc"]["value"]}
    if evidence["notes"]:
        found["its trees alone"] = evidence["notes"]["table_auroc"]["value"]
    found |= {baseline["name"]: baseline["auroc"]["value"] for baseline in evidence["baselines"]}
    best = evidence["oracle"]["auroc"]["value"]
    return {name: (auroc - 0.5) / (best - 0.5) for name, auroc in found.items()}


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


def interval(values: Sequence[float], digits: int = 3) -> str:
    from scipy.stats import t

    middle = float(np.mean(values))
    if len(values) < 2:
        return f"{middle:.{digits}f} (one seed)"
    half = float(t.ppf(0.975, len(values) - 1)) * float(np.std(values, ddof=1)) / math.sqrt(len(values))
    return f"{middle:.{digits}f} ({middle - half:.{digits}f} to {middle + half:.{digits}f})"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=5, help="how many, from the generator's own on (5)")
    parser.add_argument("--size", choices=("tiny", "small", "large"), default="small")
    parser.add_argument("--task", default="mortality")
    parser.add_argument("--notes", action="store_true", help="the version with notes, too")
    parser.add_argument("--homes", type=Path, help="folder that keeps the hospitals, each a home of its own")
    options = parser.parse_args()
    by_model: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for seed in range(FIRST_SEED, FIRST_SEED + options.seeds):
            about = (options.homes or Path(scratch)) / str(seed), options.size, options.task, seed
            of_seed = shares_with_notes(*about) if options.notes else shares_of_trees(frozen(*about))
            said = ", ".join(f"{name} {share:.3f}" for name, share in of_seed.items())
            print(f"seed {seed}: {said}", flush=True)
            for name, share in of_seed.items():
                by_model.setdefault(name, []).append(share)
    print(f"share of the possible lift, {options.size}, {options.task}, {options.seeds} seeds:")
    for name, values in by_model.items():
        print(f"  {name:<42} {interval(values)}")
        print(f"figure: share of the possible lift, {name} = {np.mean(values):.3f}")
    if options.task == "mortality":
        print(f"figure: share of the possible lift that is in the tables = {ceiling():.3f}")


if __name__ == "__main__":
    main()
