"""A home with promoted models: tiny real boosters in the folder layout that training logs."""

import hashlib
import shutil
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xgboost as xgb

from data_pipeline.features import kernel
from mediscale.core.settings import Settings
from mediscale.core.tasks import Task
from mediscale.inference.model_spec import Calibration, KnownAnswer, PredictorSpec
from mediscale.storage import registry
from mediscale.storage.calls import canonical
from mediscale.storage.registry import Alias, Move

DATASET = "synthetic"
CALIBRATION = Calibration(slope=0.9, intercept=-0.1)

Promote = Callable[..., Move]


def train(task: Task, seed: int) -> xgb.Booster:
    names = list(kernel.names(task))
    chance = np.random.default_rng(seed)
    x = chance.normal(100, 40, size=(400, len(names))).astype(np.float32)
    position = {name: i for i, name in enumerate(names)}
    x[:, position["age_years"]] = chance.uniform(18, 90, 400)
    sick = x[:, position["age_years"]] / 30 - x[:, position["systolic_blood_pressure_last_24h"]] / 50
    x[chance.random(x.shape) < 0.3] = np.nan
    y = (sick + chance.normal(size=400) > np.median(sick)).astype(float)
    rows = xgb.DMatrix(x, label=y, feature_names=names)
    return xgb.train({"objective": "binary:logistic", "max_depth": 4, "seed": seed, "nthread": 1}, rows, 12)


def known_answer(booster: xgb.Booster, name: str, row: np.ndarray) -> KnownAnswer:
    matrix = xgb.DMatrix(row[None], feature_names=booster.feature_names)
    parts = booster.predict(matrix, pred_contribs=True)[0].astype(float)
    log_odds = CALIBRATION.slope * parts.sum() + CALIBRATION.intercept
    return KnownAnswer(
        name=name,
        inputs=tuple(None if np.isnan(value) else float(value) for value in row),
        margin=parts.sum(),
        risk=1 / (1 + np.exp(-log_odds)),
        contributions=tuple(parts[:-1]),
    )


def write_model(folder: Path, task: Task, seed: int) -> None:
    booster = train(task, seed)
    plain = kernel.from_values({"age": 67, "blood_pressure": 140}, task)
    answers = (
        known_answer(booster, "nothing", np.full(len(kernel.names(task)), np.nan, dtype=np.float32)),
        known_answer(booster, "plain", plain),
    )
    spec = PredictorSpec(
        name=registry.model_name(DATASET, task),
        dataset=DATASET,
        task=task,
        outcome="death in hospital" if task == "mortality" else "readmission within 30 days",
        features=kernel.names(task),
        plain_inputs=kernel.plain_inputs(task),
        calibration=CALIBRATION,
        thresholds={"clinical": 0.1, "specific": 0.9},
        bias=answers[0].margin - sum(answers[0].contributions),
        baseline_risk=0.2,
        importance={},
        known_answers=answers,
        best_iteration=11,
        key="test",
    )
    folder.mkdir(parents=True)
    booster.save_model(folder / "model.ubj")
    (folder / "predictor.json").write_text(canonical(spec))


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[Task, int], Path]:
    """Folders of two versions of each task's model."""
    root = tmp_path_factory.mktemp("models")
    tasks: tuple[Task, ...] = ("mortality", "readmission")
    folders = {(task, version): root / f"{task}-{version}" for task in tasks for version in (1, 2)}
    for (task, version), folder in folders.items():
        write_model(folder, task, seed=version)
    return folders


@pytest.fixture
def promote(settings: Settings, trained: dict[tuple[Task, int], Path]) -> Promote:
    """Moves an alias in the home's real promotion history: ``promote(task, version)``."""

    def move(
        task: Task = "mortality",
        version: int = 1,
        alias: Alias = "production",
        digest: str | None = None,
        dataset: str = DATASET,
        folder: Path | None = None,
    ) -> Move:
        folder = folder or trained[task, version]
        sequence = registry.next_sequence(settings, dataset)
        entry = Move(
            sequence=sequence,
            model=registry.model_name(dataset, task),
            task=task,
            alias=alias,
            from_version=None,
            to_version=version,
            actor="test",
            moved_at=datetime(2026, 11, 22, 8),
            reason="It is better.",
            evidence_digest=hashlib.sha256(b"evidence").hexdigest(),
            model_uri=str(folder),
            model_digest=digest or registry.folder_digest(folder),
            key=f"move-{sequence}",
        )
        return registry.record(settings, dataset, entry)

    return move


@pytest.fixture(scope="session")
def reading(
    tmp_path_factory: pytest.TempPathFactory, trained: dict[Any, Path], add_notes: Callable[[Path], None]
) -> Path:
    """A mortality version that reads notes."""
    folder = tmp_path_factory.mktemp("reading") / "model"
    shutil.copytree(trained["mortality", 1], folder)
    add_notes(folder)
    return folder
