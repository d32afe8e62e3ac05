"""A small hospital with a real model, a real training set and a real prediction log, for the tests of monitoring."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from data_pipeline.features import kernel
from mediscale.core.refs import ModelRef, TableRef
from mediscale.core.settings import Settings
from mediscale.core.tables import PREDICTIONS
from mediscale.core.tasks import TaskName
from mediscale.inference import model_files
from mediscale.inference.model_spec import MODEL_FILE, Calibration
from mediscale.storage import lake, registry
from monitoring.drift import drift
from training.evaluation import calibration
from training.tabular import export
from training.training_examples import Examples

DATASET, TASK = "test", "mortality"
NAMES = kernel.names("mortality")
START = datetime(2026, 11, 1)
PLATT = Calibration(slope=1.0, intercept=0.0)
Rows = np.ndarray[Any, Any]


def _patients(n: int, seed: int) -> Rows:
    """Feature rows as the kernel gives them: severity in all measurements, some of them often not made."""
    rng = np.random.default_rng(seed)
    severity = rng.normal(size=(n, 1))
    rows = rng.normal(size=(n, len(NAMES)))
    for i, name in enumerate(NAMES):
        if name.startswith(("treatment_", "icu_", "in_", "emergency_", "prior_")) or "_" not in name:
            rows[:, i] = rows[:, i] > 1.5
    rows[:, NAMES.index("age_years")] = np.clip(64 + 14 * rng.normal(size=n), 18, 90)
    rows[:, NAMES.index("sex_female")] = rng.random(n) < 0.5
    for i, concept in enumerate(kernel.plain_inputs("mortality")[2:]):
        level = 1.0 + 0.3 * i
        value = np.exp(0.25 * (0.6 * severity[:, 0] + rng.normal(size=n))) * level
        gone = rng.random(n) < (0.05, 0.3, 0.6)[i % 3]
        for j in _of(concept):
            spread = {"min": -1, "max": 1}.get(NAMES[j].rsplit("_", 2)[-2], 0)
            rows[:, j] = value + spread * 0.1 * level * np.abs(rng.normal(size=n))
            rows[gone, j] = np.nan
    return rows.astype(np.float32)


def _of(concept: str) -> list[int]:
    return [i for i, name in enumerate(NAMES) if name.startswith(f"{concept}_")]


@dataclass
class Hospital:
    """Where it all is, and how to ask its model."""

    settings: Settings
    training_set: TableRef
    model: ModelRef
    booster: Any
    calls: int = 0

    def log(self, rows: Rows, subjects: Sequence[int | None]) -> TableRef:
        """Answers each row and logs it; the log's version that holds the answers. A second apart, from ``start`` on."""
        self.calls += 1
        whole = np.pad(rows, ((0, 0), (0, len(NAMES) - rows.shape[1])))
        risks = calibration.risks(calibration.margins(self.booster, whole.astype(np.float32)), PLATT)
        n = len(rows)
        columns = {
            "worker": [f"w{self.calls}"] * n,
            "sequence": range(n),
            "prediction_id": [f"{self.calls}-{i}" for i in range(n)],
            "predicted_at": [self.start + timedelta(seconds=i) for i in range(n)],
            "task": [TASK] * n,
            "model": [self.model.name] * n,
            "model_version": [self.model.version] * n,
            "subject_id": list(subjects),
            "prediction_time": [None if s is None else START for s in subjects],
            "events_version": [None if s is None else 1 for s in subjects],
            "risk": risks,
            "note_margin": [None] * n,
            "features": list(rows.astype(np.float64)),
        }
        schema = PREDICTIONS.arrow_schema()
        table = pa.table([pa.array(columns[field.name], field.type) for field in schema], schema=schema)
        found = lake.append(self.settings, PREDICTIONS.name, table, DATASET, f"w{self.calls}", n)
        assert found is not None
        return found

    @property
    def start(self) -> datetime:
        """Each logged window has a day of its own."""
        return START + timedelta(days=self.calls)

    def params(self, predictions: TableRef, **knobs: Any) -> drift.Params:
        return drift.Params(
            dataset=DATASET,
            task=TASK,
            model=self.model,
            training_set=self.training_set,
            predictions=predictions,
            start=self.start,
            end=self.start + timedelta(days=1),
            **knobs,
        )

    def judge(self, rows: Rows, subjects: Sequence[int | None] | None = None, **knobs: Any) -> drift.Result:
        predictions = self.log(rows, list(range(len(rows))) if subjects is None else subjects)
        return drift.run(self.params(predictions, **knobs), self.settings, f"{self.calls:08d}")


@pytest.fixture
def patients() -> Callable[..., Rows]:
    """``patients(n, seed=…)``: feature rows of n patients."""
    return _patients


@pytest.fixture(scope="session")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Hospital:
    settings = Settings(home=tmp_path_factory.mktemp("home"))
    rows = _patients(2500, seed=1)
    outcomes = _outcomes(rows)
    split = np.where(np.arange(len(rows)) < 2000, "train", "tuning")
    booster = _fit(rows[:2000], outcomes[:2000])
    _save(settings.home / "model", booster, rows[:2000], outcomes[:2000])
    digest = model_files.digest(settings.home / "model")
    model = ModelRef(name=registry.model_name(DATASET, TASK), version=3, uri="model", digest=digest)
    return Hospital(settings, _training_set(settings, rows, outcomes, split), model, booster)


def _outcomes(rows: Rows) -> Rows:
    rng = np.random.default_rng(2)
    log_odds = np.nansum(np.log(rows[:, _of("creatinine")[:1] + _of("lactate")[:1]]), axis=1) - 5
    age = rows[:, NAMES.index("age_years")]
    return (rng.random(len(rows)) < 1 / (1 + np.exp(-(log_odds + 0.05 * (age - 64))))).astype(np.float64)


def _fit(rows: Rows, outcomes: Rows) -> Any:
    import xgboost

    seen = xgboost.DMatrix(rows, outcomes, feature_names=list(NAMES))
    parameters = {"objective": "binary:logistic", "max_depth": 3, "nthread": 1, "seed": 0, "eta": 0.1}
    return xgboost.train(parameters, seen, 30)


def _save(folder: Path, booster: Any, rows: Rows, outcomes: Rows) -> None:
    folder.mkdir()
    n = len(rows)
    times = np.full(n, START, "datetime64[us]")
    train = Examples(np.arange(n), times, outcomes, rows, {}, times)
    shap = np.abs(export.contributions(booster, rows[:500])[:, :-1]).mean(axis=0)
    importance = {name: float(v) for v, name in sorted(zip(shap, NAMES, strict=True), reverse=True)}
    task: TaskName = "mortality"
    spec = export.spec(booster, train, importance, PLATT, {}, DATASET, task)
    booster.save_model(folder / MODEL_FILE)
    (folder / "predictor.json").write_text(spec.model_dump_json())


def _training_set(settings: Settings, rows: Rows, outcomes: Rows, split: Any) -> TableRef:
    n = len(rows)
    keys = {
        "subject_id": pa.array(10_000 + np.arange(n)),
        "visit_id": pa.array(np.arange(n)),
        "prediction_time": pa.array([START] * n, pa.timestamp("us")),
        "boolean_value": pa.array(outcomes == 1),
        "split": pa.array(split.tolist()),
        **{name: pa.array(["unknown"] * n) for name in ("sex", "age_band", "ethnicity")},
    }
    measured = {name: pa.array(rows[:, i].astype(np.float64)) for i, name in enumerate(NAMES)}
    found = lake.append(settings, f"training_set_{TASK}", pa.table(keys | measured), DATASET, "test", 1)
    assert found is not None
    return found
