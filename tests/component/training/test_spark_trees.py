"""Trees of Spark ML, stored as XGBoost's: the server answers and explains as Spark and the shap package do."""

import json

import numpy as np
import pytest
from unit.mediscale.test_treeshap import data
from unit.training.test_calibration import _examples

from mediscale.inference.treeshap import TreeEnsemble
from training.statistics import calibration, metrics
from training.tabular import spark_training, tree_format, tree_training
from training.tabular.recipe import Recipe


@pytest.mark.usefixtures("spark")
def test_margins_and_shap_values_of_stored_trees_are_spark_s_and_the_shap_package_s_own() -> None:
    """Also on rows with missing values, for which Spark is given the named medians."""
    import shap
    from pyspark.ml.linalg import Vectors

    x, y = data(6, rows=300, columns=6)
    inputs = x.astype(np.float32)
    stand_ins = spark_training.medians(inputs)
    recipe = Recipe(rounds=5, depth=3, learning_rate=0.3, min_child_weight=3, subsample=0.8, seed=2)
    filled = np.where(np.isnan(inputs), stand_ins, inputs)
    model = spark_training.fit(filled, y, np.ones(len(y)), recipe)
    names = [f"f{i}" for i in range(6)]
    stored = tree_format.booster(spark_training.trees(model, stand_ins), names)
    trees = TreeEnsemble(json.loads(bytes(stored.save_raw("json"))))
    rows = np.vstack([data(97, rows=25, columns=6)[0], np.full((1, 6), np.nan)]).astype(np.float32)
    for_spark = np.where(np.isnan(rows), stand_ins, rows).astype(np.float64)
    assert np.isnan(rows).mean() > 0.3
    explained = shap.TreeExplainer(model).shap_values(for_spark)
    for row, given, contributions in zip(rows, for_spark, explained, strict=True):
        found = trees.contributions(row.astype(np.float64))
        margin = 2 * float(model.predictRaw(Vectors.dense(given)).toArray()[1])
        assert trees.bias + found.sum() == pytest.approx(margin, abs=1e-6)
        assert found == pytest.approx(2 * contributions, abs=1e-5)
    assert np.abs(explained).max() > 0.1


@pytest.mark.usefixtures("spark")
def test_trees_of_spark_are_judged_as_their_stored_form_answers() -> None:
    """Spark grows them all at once; a trial takes them round by round and stops as it would with any library."""
    train, tuning = _examples(300, seed=0), _examples(150, seed=1)
    recipe = Recipe(library="spark", rounds=8, patience=8, depth=2, learning_rate=0.5, min_child_weight=2)
    trial = tree_training.GrownTrees(train, tuning, "mortality", recipe)
    assert not trial.grow(5)
    assert trial.growth.booster().num_boosted_rounds() == 5
    assert trial.grow(100)
    booster = trial.growth.booster()
    assert booster.num_boosted_rounds() == trial.rounds == 8
    margins = calibration.margins(booster, tuning.inputs)
    assert metrics.point_estimate(metrics.auroc, tuning.outcomes, margins) > 0.65
    assert trial.growth.tuning_margins() == pytest.approx(margins, abs=1e-6)
    assert trial.losses[-1] < trial.losses[0]
