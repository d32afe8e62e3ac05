"""Exact SHAP values of trees: equal to XGBoost's own, and their sum is the margin."""

import json
from typing import Any

import numpy as np
import pytest
import xgboost as xgb

from mediscale.core.errors import InputError
from mediscale.inference import treeshap
from mediscale.inference.treeshap import TreeEnsemble


def data(seed: int, rows: int = 600, columns: int = 12) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, columns)).round(1)  # ties with thresholds on purpose
    risk = x[:, 0] + x[:, 1] * x[:, 2] - 0.5 * x[:, 3]
    x[rng.random(x.shape) < 0.35] = np.nan
    return x, (risk + rng.normal(size=rows) > 0.4).astype(float)


def train(seed: int, rounds: int = 25, **params: Any) -> xgb.Booster:
    x, y = data(seed)
    fixed = {"objective": "binary:logistic", "nthread": 1, "seed": seed, "eta": 0.3}
    return xgb.train(fixed | params, xgb.DMatrix(x, label=y), rounds)


def document(booster: xgb.Booster) -> dict[str, Any]:
    """XGBoost's own JSON, read."""
    return dict(json.loads(bytes(booster.save_raw("json"))))


@pytest.mark.parametrize("depth", [1, 2, 3, 4, 6])
@pytest.mark.parametrize("base_score", [0.5, 0.08])
def test_contributions_and_margins_are_those_of_xgboost(depth: int, base_score: float) -> None:
    booster = train(depth, max_depth=depth, base_score=base_score, subsample=0.8, min_child_weight=0.1)
    trees = TreeEnsemble(document(booster))
    rows = np.vstack([data(99)[0][:60], np.full((1, 12), np.nan)])
    expected = booster.predict(xgb.DMatrix(rows), pred_contribs=True)
    margins = booster.predict(xgb.DMatrix(rows), output_margin=True)
    for row, contributions, margin in zip(rows, expected, margins, strict=True):
        found = trees.contributions(row)
        assert found == pytest.approx(contributions[:-1], abs=1e-5)
        assert trees.bias == pytest.approx(contributions[-1], abs=1e-5)
        assert trees.bias + found.sum() == pytest.approx(margin, abs=1e-5)


def test_trees_without_a_split_answer_the_bias() -> None:
    booster = train(1, rounds=3, gamma=1e9)
    trees = TreeEnsemble(document(booster))
    row = np.zeros(12)
    margin = booster.predict(xgb.DMatrix(row[None]), output_margin=True)[0]
    assert not trees.contributions(row).any()
    assert trees.bias == pytest.approx(margin, abs=1e-6)


def test_numbers_of_the_json_are_those_that_xgboost_holds_to_the_last_bit() -> None:
    """Read into another booster and written again in XGBoost's binary format, the document is the same bytes."""
    booster = train(4, rounds=60)
    again = xgb.Booster(model_file=bytearray(booster.save_raw("json")))
    assert bytes(again.save_raw("ubj")) == bytes(booster.save_raw("ubj"))
    rows = data(7)[0]
    by_margin = [one.predict(xgb.DMatrix(rows), output_margin=True).tobytes() for one in (booster, again)]
    assert by_margin[0] == by_margin[1]
    model = document(booster)["learner"]["gradient_booster"]["model"]
    leaves = {np.float32(leaf.value) == leaf.value for leaf in treeshap.every_leaf(model["trees"])}
    assert leaves == {True}, "a leaf is a float32, not the decimal that stands for it"


@pytest.mark.parametrize(
    ("params", "sentence"),
    [
        ({"max_depth": 8, "min_child_weight": 0}, "deep"),
        ({"objective": "reg:squarederror"}, "binary:logistic"),
        ({"booster": "dart"}, "gbtree"),
    ],
)
def test_models_that_cannot_be_explained_exactly_are_refused(params: dict[str, Any], sentence: str) -> None:
    booster = train(2, rounds=4, **params)
    with pytest.raises(InputError, match=sentence):
        TreeEnsemble(document(booster))


def test_categorical_splits_are_refused() -> None:
    x, y = data(3)
    x[:, 0] = np.arange(len(x)) % 5
    kinds = ["c"] + ["float"] * 11
    matrix = xgb.DMatrix(x, label=y, feature_types=kinds, enable_categorical=True)
    booster = xgb.train({"objective": "binary:logistic", "nthread": 1}, matrix, 10)
    with pytest.raises(InputError, match="categories"):
        TreeEnsemble(document(booster))
