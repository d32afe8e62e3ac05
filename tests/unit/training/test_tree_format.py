"""Trees of another library, stored as XGBoost's: the server answers and explains as the library itself does."""

import json
from typing import Any

import lightgbm
import numpy as np
import pytest
import xgboost
from unit.mediscale.test_treeshap import data

from mediscale.core.errors import InputError
from mediscale.inference.treeshap import TreeEnsemble
from training.tabular import lightgbm_training, tree_format


def ensemble(booster: xgboost.Booster) -> TreeEnsemble:
    return TreeEnsemble(json.loads(bytes(booster.save_raw("json"))))


def light(seed: int, rounds: int = 40, missing: float = 0.35, **params: Any) -> lightgbm.Booster:
    x, y = data(seed)
    x = np.where(np.isnan(x) & (np.random.default_rng(seed).random(x.shape) > missing / 0.35), 0.7, x)
    fixed = {"objective": "binary", "num_threads": 1, "verbosity": -1, "min_data_in_leaf": 2, "seed": seed}
    rows = lightgbm.Dataset(x.astype(np.float32), y)
    return lightgbm.train(fixed | {"num_leaves": 8, "max_depth": 3} | params, rows, rounds)


def random_rows(n: int = 400) -> np.ndarray:
    """Of float32, with values that lie on thresholds and many that are missing."""
    rows = np.vstack([data(98, rows=n)[0], np.full((1, 12), np.nan), np.zeros((1, 12))])
    return rows.astype(np.float32)


@pytest.mark.parametrize("missing", [0.0, 0.35])
@pytest.mark.parametrize(
    "params", [{}, {"max_depth": 4, "num_leaves": 16, "bagging_fraction": 0.6, "bagging_freq": 1}]
)
def test_margins_and_shap_values_are_lightgbm_s_own(missing: float, params: dict[str, Any]) -> None:
    """Also where no training value was missing, where LightGBM takes a missing one for 0."""
    booster = light(5, missing=missing, **params)
    stored = tree_format.booster(lightgbm_training.trees(booster.dump_model()), booster.feature_name())
    trees, rows = ensemble(stored), random_rows()
    margins = booster.predict(rows, raw_score=True)
    explained = booster.predict(rows, pred_contrib=True)
    assert np.isnan(rows).mean() > 0.3
    for row, margin, contributions in zip(rows, margins, explained, strict=True):
        found = trees.contributions(row.astype(np.float64))
        assert trees.bias + found.sum() == pytest.approx(margin, abs=1e-6)
        assert found == pytest.approx(contributions[:-1], abs=1e-6)
        assert trees.bias == pytest.approx(contributions[-1], abs=1e-6)
    by_xgboost = stored.predict(xgboost.DMatrix(rows, feature_names=stored.feature_names), output_margin=True)
    assert by_xgboost == pytest.approx(margins, abs=1e-5)


def test_a_value_on_a_threshold_goes_where_it_went() -> None:
    for threshold in (0.1, 0.5, -0.3, 1e-35, 0.0, 7.000000000000001):
        for x in (np.float32(threshold), np.nextafter(np.float32(threshold), np.float32(-np.inf))):
            assert (float(x) <= threshold) == (x < np.float32(tree_format.below(threshold))), (x, threshold)


def test_a_split_of_the_missing_values_from_all_others_is_stored_too() -> None:
    """LightGBM writes a threshold of 1e300 there, which no float32 is."""
    x, y = np.where(np.arange(200) % 2, np.nan, np.arange(200.0)), (np.arange(200) % 2).astype(float)
    fixed = {"objective": "binary", "num_threads": 1, "verbosity": -1, "num_leaves": 2}
    booster = lightgbm.train(fixed, lightgbm.Dataset(x[:, None], y), 3)
    model = booster.dump_model()
    assert model["tree_info"][0]["tree_structure"]["threshold"] > 1e38
    stored = tree_format.booster(lightgbm_training.trees(model), booster.feature_name())
    trees, rows = ensemble(stored), np.array([[np.nan], [-5.0], [1e30]], dtype=np.float32)
    margins = booster.predict(rows, raw_score=True)
    assert margins[0] > margins[1] == margins[2]
    for row, margin in zip(rows, margins, strict=True):
        assert trees.bias + trees.contributions(row.astype(float)).sum() == pytest.approx(margin, abs=1e-6)
    by_xgboost = stored.predict(xgboost.DMatrix(rows, feature_names=stored.feature_names), output_margin=True)
    assert by_xgboost == pytest.approx(margins, abs=1e-6)


def test_trees_without_a_split_and_the_first_rounds_alone_are_stored_too() -> None:
    x, y = data(1)
    fixed = {"objective": "binary", "num_threads": 1, "verbosity": -1, "min_gain_to_split": 1e9}
    booster = lightgbm.train(fixed, lightgbm.Dataset(x, y), 1)
    stored = tree_format.booster(lightgbm_training.trees(booster.dump_model()), booster.feature_name())
    assert ensemble(stored).bias == pytest.approx(booster.predict(x[:1], raw_score=True)[0], abs=1e-6)
    booster = light(2)
    stored = tree_format.booster(lightgbm_training.trees(booster.dump_model()), booster.feature_name())
    first = booster.predict(x, raw_score=True, num_iteration=7)
    rows = xgboost.DMatrix(x.astype(np.float32), feature_names=stored.feature_names)
    assert stored[:7].predict(rows, output_margin=True) == pytest.approx(first, abs=1e-5)


def test_splits_on_categories_are_refused() -> None:
    x, y = data(3)
    x[:, 0] = np.arange(len(x)) % 5
    rows = lightgbm.Dataset(x, y, categorical_feature=[0])
    booster = lightgbm.train(
        {"objective": "binary", "num_threads": 1, "verbosity": -1, "min_data_per_group": 1}, rows, 10
    )
    with pytest.raises(InputError, match="categories"):
        lightgbm_training.trees(booster.dump_model())
