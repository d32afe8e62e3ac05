"""A seeded hospital's frozen training set, shaped like ``training_set_<task>``, and one model trained on it."""

import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pytest
from deltalake import write_deltalake
from fixtures import leak_certificates

from data_pipeline.features import kernel
from mediscale.core.refs import ModelRef, TableRef
from mediscale.core.settings import Settings
from mediscale.core.tables import TRAINING_SET
from mediscale.core.tasks import TaskName
from mediscale.storage import calls, lake, registry
from mediscale.storage.calls import Call
from training import evidence_files, ray_session
from training.evaluation import evaluate
from training.tabular import risk_model

DATASET = "synthetic"
KEY = "0123456789abcdef" * 2
_SIGNAL = {
    ("age",): 0.4,
    ("systolic_blood_pressure", "heart_rate", "mean_blood_pressure"): -0.8,
    ("lactate", "creatinine", "bicarbonate"): 0.9,
    ("respiratory_rate", "oxygen_saturation", "temperature"): 0.8,
}
"""What shows a patient's risk, and its weight. As in patients, several measurements show the same: a model that loses
much where one is missing stands on the edge of the promotion gate."""


@dataclass(frozen=True)
class Hospital:
    """Rows as an Arrow table, and each row's true probability."""

    rows: pa.Table
    truth: np.ndarray
    signals: tuple[str, ...] = tuple(chain.from_iterable(_SIGNAL))
    """Beginnings of the names of inputs that show the risk."""


def _hospital(task: TaskName, subjects: int, seed: int = 0, prevalence: float = 0.05) -> Hospital:
    rng = np.random.default_rng(seed)
    stays = np.repeat(np.arange(subjects), rng.integers(1, 4, subjects))
    n = len(stays)
    latent = rng.normal(size=(n, len(_SIGNAL)))
    truth = 1 / (
        1 + np.exp(-(1.2 * latent @ np.array([*_SIGNAL.values()]) + np.log(prevalence / (1 - prevalence))))
    )
    split = rng.choice(["train", "tuning", "held_out"], subjects, p=[0.6, 0.2, 0.2])
    keys = {
        "subject_id": (stays.astype(np.int64) * 7919 + 10_000) << 18,
        "stay_id": np.arange(n, dtype=np.int64) + 500_000,
        "admission_time": np.datetime64("2149-12-31", "us") + np.arange(n) * np.timedelta64(3, "h"),
        "prediction_time": np.datetime64("2150-01-01", "us") + np.arange(n) * np.timedelta64(3, "h"),
        "boolean_value": (died := rng.random(n) < truth),
        "split": split[stays],
        "sex": np.where(stays % 2, "female", "male"),
        "age_band": np.array(["18-44", "45-64", "65-79", "80+"])[stays % 4],
        "ethnicity": np.where(stays % 10 == 0, "group b", "group a"),
    }
    days = np.timedelta64(24, "h") * (2 + stays % 19)
    keys["discharge_time"] = keys["prediction_time"] + days
    keys["outcome_time"] = np.where(died, keys["discharge_time"], np.datetime64("NaT"))
    return Hospital(
        pa.table({**keys, **{name: _column(name, latent, rng) for name in kernel.names(task)}}), truth
    )


def _column(name: str, latent: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    signal = next((i for i, known in enumerate(_SIGNAL) if name.startswith(known)), None)
    noise = rng.normal(size=len(latent))
    values = noise if signal is None else latent[:, signal] + 0.6 * noise
    return np.where(rng.random(len(latent)) < 0.3, np.nan, values)


def _freeze(settings: Settings, task: TaskName, rows: pa.Table) -> TableRef:
    table = f"{TRAINING_SET.name}_{task}"
    write_deltalake(settings.table_uri(DATASET, table), rows, mode="overwrite", schema_mode="overwrite")
    return lake.latest(settings, DATASET, table)


@pytest.fixture(scope="session")
def local_ray(tmp_path_factory: pytest.TempPathFactory) -> Iterator[frozenset[psutil.Process]]:
    """A cluster of this machine with room for two workers, which fits and searches join; gives the processes that other
    tests had started before."""
    others = frozenset(psutil.Process().children(recursive=True))
    with ray_session.cluster(Settings(home=tmp_path_factory.mktemp("ray")), 2):
        yield others


@pytest.fixture
def hospital() -> Callable[..., Hospital]:
    """Makes patients with one to three stays each: outcome by a logistic model of four inputs, 30 % values missing."""
    return _hospital


@pytest.fixture
def freeze() -> Callable[..., TableRef]:
    """Writes a hospital's rows to the lake and returns the frozen version."""
    return _freeze


def _validated(settings: Settings) -> TableRef:
    """The quarantine of an extract that was landed and validated, as the records of both calls have it."""
    quarantine = TableRef(dataset=DATASET, table="quarantine", table_id="q", version=0)
    landed = {
        "patients": TableRef(dataset=DATASET, table="bronze_patients", table_id="b", version=0).model_dump()
    }
    results: dict[str, dict[str, object]] = {
        "bronze": {"bronze": landed, "unlisted_words": {}},
        "validate": {"quarantine": quarantine.model_dump(), "judged": 5000, "quarantined": 40,
                     "reasons": {"value_plausible": 40}},
    }  # fmt: skip
    for stage, result in results.items():
        record = Call(
            stage=stage, key=stage, run_id="made up", params={"bronze": landed}, code="", lock="", result=result,
            inputs=(), produced=(), outputs=(), started_at=datetime(2150, 1, 1, tzinfo=UTC), seconds=1.0,
        )  # fmt: skip
        calls.write(settings, record)
    return quarantine


@dataclass(frozen=True)
class World:
    """A home in which one version was trained and judged."""

    settings: Settings
    hospital: Hospital
    training: risk_model.Params
    model: ModelRef
    run_id: str
    """Of MLflow's run that trained it."""
    judging: evaluate.Params
    judged: evaluate.Result


@pytest.fixture(scope="session")
def _first_world(tmp_path_factory: pytest.TempPathFactory) -> World:
    settings = Settings(home=tmp_path_factory.mktemp("trained"))
    hospital = _hospital("mortality", 2500, seed=1)
    frozen = _freeze(settings, "mortality", hospital.rows)
    training = risk_model.Params(
        dataset=DATASET, task="mortality", training_set=frozen, rounds=120, learning_rate=0.1
    )
    model = risk_model.run(training, settings, KEY).model
    run_id = registry.client(settings).get_model_version(model.name, str(model.version)).run_id
    certificate, digest = evidence_files.write(settings, leak_certificates.passed(frozen))
    judging = evaluate.Params(
        dataset=DATASET,
        task="mortality",
        quarantine=_validated(settings),
        source="mimic_iii",
        model=model,
        training_set=frozen,
        certificate=certificate,
        certificate_digest=digest,
        bootstrap=200,
    )
    return World(settings, hospital, training, model, run_id, judging, evaluate.run(judging, settings, KEY))


_LOCATIONS = {"experiments": "artifact_location", "logged_models": "artifact_location"}
"""Columns of MLflow's store with absolute paths. Runs keep theirs: its client remembers their places by id alone."""


def _move_artifacts(old: Path, new: Path) -> None:
    """Lets the copy's MLflow store say where the copy's files lie, as if it had been made there."""
    with closing(sqlite3.connect(new / "mlflow.db")) as store, store:
        for table, column in _LOCATIONS.items():
            store.execute(f"UPDATE {table} SET {column} = replace({column}, ?, ?)", (str(old), str(new)))


@pytest.fixture
def world(_first_world: World, tmp_path: Path) -> World:
    """The trained home, copied: a home may be moved, and each test may change its own."""
    home = tmp_path / "home"
    shutil.copytree(_first_world.settings.home, home)
    _move_artifacts(_first_world.settings.home, home)
    return replace(_first_world, settings=Settings(home=home))
