"""Spark ML's gradient-boosted trees: grown by Spark, kept as XGBoost's model.

Spark ML has no missing values. The median of the training rows stands for one; the stored trees send a missing value
where that median goes, so that who answers needs neither Spark nor the medians.
"""

from typing import TYPE_CHECKING, Any

import numpy as np

from data_pipeline.features import kernel
from mediscale.core.settings import Settings
from mediscale.core.tasks import TaskName
from mediscale.storage import spark
from training.tabular import request_dropout, tree_format
from training.tabular.recipe import Recipe
from training.tabular.tree_format import Leaf, Node, Split

if TYPE_CHECKING:
    import xgboost
    from pyspark.ml.classification import GBTClassificationModel
    from pyspark.sql import DataFrame

    from training.statistics.metrics import Floats
    from training.training_examples import Examples, Inputs


class Growth:
    """Trees that Spark grew all at once, given out round by round."""

    missing_values = (
        "A missing value counts as the median of the training rows, or as 0 where no row has one."
    )

    def __init__(self, training: "Examples", tuning: "Examples", task: TaskName, recipe: Recipe) -> None:
        inputs, outcomes, weights = request_dropout.with_requests(training, task, recipe.seed)
        stand_ins = medians(training.inputs)
        model = fit(np.where(np.isnan(inputs), stand_ins, inputs), outcomes, weights, recipe)
        self._booster = tree_format.booster(trees(model, stand_ins), kernel.names(task), recipe.threads)
        self._tuning = tuning.inputs
        self._rounds = 0

    def grow(self) -> bool:
        """One round more; whether there was one."""
        if self._rounds == self._booster.num_boosted_rounds():
            return False
        self._rounds += 1
        return True

    def tuning_margins(self) -> "Floats":
        """Log-odds (n) of the tuning rows by the rounds so far."""
        from training.statistics import calibration

        return calibration.margins(self._booster, self._tuning, self._rounds)

    def booster(self) -> "xgboost.Booster":
        """The rounds so far as XGBoost's model."""
        return self._booster[: self._rounds]


def medians(inputs: "Inputs") -> "Inputs":
    """What stands for a missing value of each feature."""
    recorded = np.isfinite(inputs).any(axis=0)
    values = np.zeros(inputs.shape[1], dtype=np.float32)
    values[recorded] = np.nanmedian(inputs[:, recorded], axis=0)
    return values


def fit(inputs: "Inputs", outcomes: "Floats", weights: "Floats", recipe: Recipe) -> "GBTClassificationModel":
    """Spark's own model of rows without missing values (n, features).

    Spark knows no second derivatives and no regularisation of leaves: ``min_child_weight`` counts rows, ``l2`` says
    nothing. It draws the features of ``colsample`` anew at each node.
    """
    from pyspark.ml.classification import GBTClassifier

    classifier = GBTClassifier(
        weightCol="weight",
        maxIter=recipe.rounds,
        maxDepth=recipe.depth,
        maxBins=64,
        stepSize=recipe.learning_rate,
        minInstancesPerNode=max(1, round(recipe.min_child_weight)),
        subsamplingRate=recipe.subsample,
        featureSubsetStrategy=f"{recipe.colsample:.6f}",  # with a point it is a share, without it a number
        seed=recipe.seed,
    )
    rows = _rows(inputs, outcomes, weights).cache()
    try:
        model: GBTClassificationModel = classifier.fit(rows)
        return model
    finally:
        rows.unpersist()


def _rows(inputs: "Inputs", outcomes: "Floats", weights: "Floats") -> "DataFrame":
    import pyarrow as pa
    from pyspark.ml.functions import array_to_vector

    values = pa.FixedSizeListArray.from_arrays(pa.array(inputs.astype(np.float64).ravel()), inputs.shape[1])
    table = pa.table({"label": outcomes, "weight": weights, "values": values.cast(pa.list_(pa.float64()))})
    rows = spark.session(Settings()).createDataFrame(table)
    return rows.select("label", "weight", array_to_vector(rows["values"]).alias("features"))


def trees(model: "GBTClassificationModel", stand_ins: "Inputs") -> list[Node]:
    """The trees of Spark's model. Its margin is half the log-odds, and the sum of its trees by their weights."""
    roots: list[Any] = [tree._call_java("rootNode") for tree in model.trees]
    return [_node(root, 2 * weight, stand_ins) for root, weight in zip(roots, model.treeWeights, strict=True)]


def _node(node: Any, scale: float, stand_ins: "Inputs") -> Node:
    cover = node.impurityStats().count()
    if node.getClass().getSimpleName() == "LeafNode":
        return Leaf(scale * node.prediction(), cover)
    feature, threshold = node.split().featureIndex(), node.split().threshold()
    return Split(
        feature=feature,
        threshold=threshold,
        missing_left=float(stand_ins[feature]) <= threshold,
        cover=cover,
        left=_node(node.leftChild(), scale, stand_ins),
        right=_node(node.rightChild(), scale, stand_ins),
    )
