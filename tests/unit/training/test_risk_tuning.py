"""What a trial of the hyperparameter search measures is what a fit gives, and who gets what a search chose."""

from datetime import UTC, datetime
from typing import get_args

import numpy as np
import pytest
from unit.training.test_calibration import _examples

from mediscale.core.settings import Settings
from mediscale.core.tree_libraries import DISPLAY_NAMES, TreeLibrary
from mediscale.pipeline import runtime_inputs
from mediscale.storage import calls
from mediscale.storage.calls import Call
from training.statistics import calibration, metrics
from training.tabular import risk_model, risk_tuning, tree_training, xgboost_training
from training.tabular.recipe import SEARCH, Recipe, TunedSettings

TABLE = {"dataset": "synthetic", "table": "training_set_mortality", "table_id": "t", "version": 0}
GIVEN = {"dataset": "synthetic", "task": "mortality", "training_set": TABLE}


def test_the_search_space_holds_the_default_settings_and_the_recipe_takes_its_bounds() -> None:
    space = risk_tuning.space(("xgboost", "lightgbm"))
    for name, distribution in space.items():
        assert distribution._contains(distribution.to_internal_repr(getattr(Recipe(), name))), name
    for end in ("low", "high"):
        Recipe.model_validate(
            {name: getattr(drawn, end) for name, drawn in space.items() if name != "library"}
        )


def test_a_trial_grows_the_trees_of_a_fit_and_stops_where_it_stops() -> None:
    train, tuning = _examples(600, seed=0), _examples(300, seed=1)
    recipe = Recipe(rounds=200, patience=20, depth=2, learning_rate=0.3, subsample=0.7, colsample=0.6, seed=3)
    booster, curves = xgboost_training.train(train, tuning, "mortality", recipe)
    trial = tree_training.GrownTrees(train, tuning, "mortality", recipe)
    while not trial.grow(7):
        assert trial.rounds < 200
    assert trial.rounds == len(curves["log_loss_tuning"]) < 200
    fitted = calibration.cross_fit(booster, tuning)
    assert trial.risks() == pytest.approx(calibration.cross_calibrated(fitted.margins, tuning), abs=1e-9)
    loss = metrics.point_estimate(metrics.log_loss, tuning.outcomes, trial.risks())
    assert trial.loss() == loss < 0.6


def test_trees_of_lightgbm_are_judged_as_their_stored_form_answers() -> None:
    train, tuning = _examples(600, seed=0), _examples(300, seed=1)
    recipe = Recipe(library="lightgbm", rounds=200, patience=20, depth=2, learning_rate=0.3, seed=3)
    trial = tree_training.GrownTrees(train, tuning, "mortality", recipe)
    assert trial.grow(200)
    booster, curves = tree_training.fit(train, tuning, "mortality", recipe)
    assert booster.num_boosted_rounds() == trial.rounds == len(curves["log_loss_tuning"]) < 200
    fitted = calibration.cross_fit(booster, tuning)
    assert trial.risks() == pytest.approx(calibration.cross_calibrated(fitted.margins, tuning), abs=1e-6)
    again, _ = tree_training.fit(train, tuning, "mortality", recipe)
    assert again.save_raw("ubj") == booster.save_raw("ubj")
    assert trial.loss() < 0.6


def test_no_patient_s_own_outcome_calibrates_their_risk() -> None:
    tuning = _examples(300, seed=1)
    margins = tuning.inputs[:, 0].astype(np.float64)
    half = calibration.halves(tuning)
    risk = calibration.cross_calibrated(margins, tuning)
    flipped = np.where(half == 0, 1 - tuning.outcomes, tuning.outcomes)
    other = calibration.cross_calibrated(margins, type(tuning)(**{**vars(tuning), "outcomes": flipped}))
    assert (other[half == 0] == risk[half == 0]).all()
    assert (other[half == 1] != risk[half == 1]).all()


def searched(settings: Settings, key: str, day: int, **chosen: float) -> None:
    """Leaves the record of a finished search."""
    estimate = {"value": 0.3, "low": 0.2, "high": 0.4}
    choice = {"name": "chosen settings", "settings": chosen, "log_loss": estimate, "difference": estimate}
    result = {
        "search": key, "settings": chosen, "choices": [choice], "trials": 2, "stopped_early": 0, "cpu_minutes": 0.1,
    }  # fmt: skip
    risk_tuning.Result.model_validate(result)
    calls.write(
        settings,
        Call(
            stage=SEARCH, key=key, run_id="r", params=GIVEN, code="", lock="", result=result, inputs=(), produced=(),
            outputs=(), started_at=datetime(2026, 1, day, tzinfo=UTC), seconds=1.0,
        ),
    )  # fmt: skip


def test_a_fit_takes_what_the_newest_search_of_its_task_chose_and_a_person_s_word_goes_before(
    settings: Settings,
) -> None:
    def params(**given: object) -> risk_model.Params:
        return risk_model.Params.model_validate(
            runtime_inputs.filled("risk_model", {**GIVEN, **given}, [], settings)
        )

    assert params().tuned is None
    assert params().recipe == Recipe()
    searched(settings, "a" * 32, 1, depth=2, learning_rate=0.1)
    searched(settings, "b" * 32, 2, depth=4, learning_rate=0.05)
    assert params().tuned == TunedSettings(search="b" * 32, settings={"depth": 4, "learning_rate": 0.05})
    assert params().recipe == Recipe(depth=4, learning_rate=0.05)
    assert params(depth=3, rounds=9).recipe == Recipe(depth=3, learning_rate=0.05, rounds=9)
    assert params(task="readmission").tuned is None
    assert params(dataset="elsewhere").tuned is None


def test_every_library_has_its_code_and_its_name() -> None:
    assert set(DISPLAY_NAMES) == set(tree_training.LIBRARIES) == set(get_args(TreeLibrary))
