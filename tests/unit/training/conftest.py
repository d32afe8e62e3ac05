"""A seeded hospital's frozen training set, shaped like ``training_set_<task>``: fixtures of the training tests."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pytest
from deltalake import write_deltalake

from data_pipeline import features
from mediscale import lake
from mediscale.predictor import Task
from mediscale.refs import TableRef
from mediscale.settings import Settings
from mediscale.tables import TRAINING_SET

DATASET = "synthetic"
_SIGNAL = {"age_years": 0.8, "systolic_blood_pressure": -0.7, "lactate": 0.9, "respiratory_rate": 0.6}


@dataclass(frozen=True)
class Hospital:
    """Rows as an Arrow table, and each row's true probability."""

    rows: pa.Table
    truth: np.ndarray


def hospital(task: Task, subjects: int, seed: int = 0, prevalence: float = 0.15) -> Hospital:
    """``subjects`` patients with one to three stays; outcome by a logistic model of four inputs, 30 % values missing."""
    rng = np.random.default_rng(seed)
    stays = np.repeat(np.arange(subjects), rng.integers(1, 4, subjects))
    n = len(stays)
    latent = rng.normal(size=(n, len(_SIGNAL)))
    score = latent @ np.array(list(_SIGNAL.values()))
    truth = 1 / (1 + np.exp(-(score * 1.2 + np.log(prevalence / (1 - prevalence)))))
    frame = {name: _column(name, latent, rng) for name in features.names(task)}
    draw = rng.random(subjects)
    split = np.where(draw < 0.6, "train", np.where(draw < 0.8, "tuning", "held_out"))
    keys = {
        "subject_id": (stays.astype(np.int64) * 7919 + 10_000) << 18,
        "visit_id": np.arange(n, dtype=np.int64) + 500_000,
        "prediction_time": np.datetime64("2150-01-01", "us") + np.arange(n) * np.timedelta64(3, "h"),
        "boolean_value": rng.random(n) < truth,
        "split": split[stays],
        "sex": np.where(stays % 2, "female", "male"),
        "age_band": np.array(["18-44", "45-64", "65-79", "80+"])[stays % 4],
        "ethnicity": np.where(stays % 10 == 0, "group b", "group a"),
    }
    return Hospital(pa.table({**keys, **frame}), truth)


def _column(name: str, latent: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    signal = next((i for i, known in enumerate(_SIGNAL) if name.startswith(known)), None)
    values = (
        rng.normal(size=len(latent))
        if signal is None
        else latent[:, signal] + rng.normal(size=len(latent)) * 0.2
    )
    return np.where(rng.random(len(latent)) < 0.3, np.nan, values)


@pytest.fixture
def frozen() -> Callable[..., TableRef]:
    """Writes a hospital's rows to the lake of the settings and returns the frozen version."""

    def write(settings: Settings, task: Task, rows: pa.Table, dataset: str = DATASET) -> TableRef:
        table = f"{TRAINING_SET.name}_{task}"
        write_deltalake(settings.table_uri(dataset, table), rows, mode="overwrite", schema_mode="overwrite")
        return lake.latest(settings, dataset, table)

    return write
