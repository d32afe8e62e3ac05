"""Monotone constraints: whatever a hospital's few rows say, a sicker value never lowers the risk of death."""

import numpy as np
import pytest

from data_pipeline.features import kernel
from mediscale.core import tasks
from mediscale.core.tree_libraries import TreeLibrary
from training.statistics import calibration
from training.tabular import monotone_constraints, tree_training
from training.tabular.recipe import Recipe
from training.training_examples import Examples

MONOTONE = tasks.load("mortality").features.monotone
VALUES = {
    "lactate": np.linspace(0.5, 15, 30),
    "gcs_motor": np.arange(1, 7.0),
    "heart_rate": np.linspace(40, 180, 30),
}


def misleading(patients: int, seed: int) -> Examples:
    """Stays in which a high lactate and a low motor score went with survival, as did a slow heart."""
    chance, names = np.random.default_rng(seed), list(kernel.names("mortality"))
    inputs = chance.normal(size=(patients, len(names))).astype(np.float32)
    logit = np.full(patients, -1.0)
    for plain, values in VALUES.items():
        drawn = chance.choice(values, patients)
        for name in names:
            if name.startswith(plain) and "_trend_" not in name and "_count_" not in name:
                inputs[:, names.index(name)] = drawn
        logit += (-1 if plain == "lactate" else 1) * (drawn - values.mean()) / values.std()
    times = np.full(patients, np.datetime64("2150-01-01", "us"))
    died = (chance.random(patients) < 1 / (1 + np.exp(-logit))).astype(float)
    return Examples(np.arange(patients), times, died, inputs, {}, times)


@pytest.mark.parametrize("library", ["xgboost", "lightgbm"])
def test_an_answer_rises_and_falls_only_as_the_task_says(library: TreeLibrary) -> None:
    train, tuning = misleading(1500, 0), misleading(300, 1)
    recipe = Recipe(library=library, rounds=60)
    booster, _ = tree_training.fit(train, tuning, "mortality", recipe)

    def steps(plain: str) -> np.ndarray:
        """How the log-odds change from one value to the next, beside the other values of some patients."""
        rows = np.repeat(tuning.inputs[:50], len(VALUES[plain]), axis=0)
        columns = np.flatnonzero(np.isfinite(kernel.from_values({plain: 1.0}, "mortality")))
        rows[:, columns] = np.tile(VALUES[plain], 50)[:, None]
        return np.diff(calibration.margins(booster, rows).reshape(50, -1), axis=1)

    assert (steps("lactate") >= 0).all()
    assert (steps("gcs_motor") <= 0).all()
    assert (steps("heart_rate") > 0).any(), "of a value that harms in both directions the rows decide"


def test_only_what_a_plain_value_fills_is_constrained() -> None:
    sign = dict(zip(kernel.names("mortality"), monotone_constraints.signs("mortality"), strict=True))
    assert sign["age_years"] == sign["lactate_max_stay"] == sign["lactate_last_stay"] == 1
    assert sign["gcs_eye_min_24h"] == sign["oxygen_saturation_mean_6h"] == -1
    assert sign["lactate_count_stay"] == sign["lactate_trend_stay"] == sign["sodium_last_stay"] == 0
    assert set(MONOTONE.rising) | set(MONOTONE.falling) < set(kernel.plain_inputs("mortality"))
    assert set(monotone_constraints.signs("readmission")) == {0}
