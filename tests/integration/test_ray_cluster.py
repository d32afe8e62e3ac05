"""Two Ray workers on a real local cluster grow trees together, from their own halves of the patients."""

from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pytest
from deltalake import write_deltalake

from data_pipeline import features
from mediscale import lake
from mediscale.settings import Settings
from training import boosting

NAMES = features.names("mortality")


@pytest.fixture
def job(settings: Settings) -> boosting.Job:
    rng = np.random.default_rng(0)
    n = 600
    risk = rng.normal(size=n)
    columns = {name: np.full(n, np.nan) for name in NAMES} | {"age_years": risk}
    keys = {
        "subject_id": np.arange(n, dtype=np.int64),
        "visit_id": np.arange(n, dtype=np.int64),
        "prediction_time": np.full(n, np.datetime64("2150-01-01", "us")),
        "boolean_value": rng.random(n) < 1 / (1 + np.exp(-2 * risk)),
        "split": np.where(np.arange(n) % 4 == 3, "tuning", "train"),
        "sex": np.full(n, "female"),
        "age_band": np.full(n, "80+"),
        "ethnicity": np.full(n, "unknown"),
    }
    write_deltalake(settings.table_uri("h", "training_set_mortality"), pa.table({**keys, **columns}))
    return boosting.Job(
        home=str(settings.home),
        lake=settings.lake,
        training_set=lake.latest(settings, "h", "training_set_mortality"),
        task="mortality",
        recipe=boosting.Recipe(rounds=8, patience=8, depth=2, learning_rate=0.5, threads=1, seed=0),
    )


def test_two_workers_agree_with_one(settings: Settings, job: boosting.Job) -> None:
    before = {process.pid for process in psutil.Process().children(recursive=True)}
    pair, curves = boosting.on_ray(settings, job, workers=2, key="pair")
    single, alone = boosting.on_ray(settings, job, workers=1, key="single")
    assert pair.num_boosted_rounds() == single.num_boosted_rounds() == len(curves["log_loss_tuning"]) == 8
    assert curves["log_loss_tuning"][-1] == pytest.approx(alone["log_loss_tuning"][-1], abs=0.03)
    seen = [
        trees.trees_to_dataframe().query("Tree == 0 and Node == 0")["Cover"].item()
        for trees in (pair, single)
    ]
    assert seen[0] == pytest.approx(seen[1], rel=0.2), (
        "the first split has the weight of all patients, not of one half"
    )
    assert {process.pid for process in psutil.Process().children(recursive=True)} <= before
    assert not list(Path(settings.home, "ray").iterdir())
