"""LightGBM's gradient-boosted trees: grown by LightGBM, kept as XGBoost's model."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from data_pipeline.features import kernel
from mediscale.core.errors import InputError
from mediscale.core.tasks import TaskName
from training.tabular import request_dropout, tree_format
from training.tabular.recipe import Recipe
from training.tabular.tree_format import Leaf, Node, Split

if TYPE_CHECKING:
    import xgboost

    from training.statistics.metrics import Floats
    from training.training_examples import Examples

_DRAWS = 10


def parameters(recipe: Recipe) -> dict[str, Any]:
    """LightGBM's parameters. Trees are grown leaf by leaf, within the depth."""
    return {
        "objective": "binary",
        "max_depth": recipe.depth,
        "num_leaves": 2**recipe.depth,
        "max_bin": 63,
        "learning_rate": recipe.learning_rate,
        "min_data_in_leaf": 1,  # the weight alone decides
        "min_sum_hessian_in_leaf": recipe.min_child_weight,
        "bagging_fraction": recipe.subsample,
        "bagging_freq": 1,
        "feature_fraction": recipe.colsample,
        "feature_pre_filter": False,
        "lambda_l2": recipe.l2,
        "num_threads": recipe.threads,
        "seed": recipe.seed,
        "deterministic": True,
        "force_row_wise": True,
        "verbosity": -1,
    }


class Growth:
    """Trees that are grown round by round."""

    missing_values = (
        "A missing value goes the way that the split learnt, or counts as 0 where the split saw none missing."
    )

    def __init__(self, training: "Examples", tuning: "Examples", task: TaskName, recipe: Recipe) -> None:
        import lightgbm

        inputs, outcomes, weights = request_dropout.with_requests(training, task, recipe.seed)
        params = parameters(recipe)
        self._booster = lightgbm.Booster(
            params, lightgbm.Dataset(inputs, outcomes, weight=weights, params=params)
        )
        self._names, self._threads = kernel.names(task), recipe.threads
        self._tuning = tuning.inputs
        self._margins = np.zeros(len(tuning))

    def grow(self) -> bool:
        """One round more; whether there was a split to make.

        LightGBM adds no tree where the features that it drew give none; it draws others when it is asked again.
        """
        grown = self._booster.num_trees()
        for _ in range(_DRAWS):
            self._booster.update()
            if self._booster.num_trees() > grown:
                break
        else:
            return False
        self._margins += self._booster.predict(
            self._tuning, start_iteration=grown, num_iteration=1, raw_score=True
        )
        return True

    def tuning_margins(self) -> "Floats":
        """Log-odds (n) of the tuning rows so far."""
        return self._margins.copy()

    def booster(self) -> "xgboost.Booster":
        """The trees so far as XGBoost's model."""
        return tree_format.booster(trees(self._booster.dump_model()), self._names, self._threads)


def trees(model: Mapping[str, Any]) -> list[Node]:
    """The trees of LightGBM's JSON (``Booster.dump_model``).

    Raises:
        InputError: it splits on categories, or takes 0 for missing.
    """
    return [_node(info["tree_structure"]) for info in model["tree_info"]]


def _node(node: Mapping[str, Any]) -> Node:
    if "split_feature" not in node:
        return Leaf(node["leaf_value"], node.get("leaf_count", 1))
    if node["decision_type"] != "<=" or node["missing_type"] == "Zero":
        raise InputError("The model splits on categories or takes 0 for missing; neither can be stored.")
    return Split(
        feature=node["split_feature"],
        threshold=node["threshold"],
        # where no value was missing in training, LightGBM takes a missing one for 0
        missing_left=node["default_left"] if node["missing_type"] == "NaN" else node["threshold"] >= 0,
        cover=node["internal_count"],
        left=_node(node["left_child"]),
        right=_node(node["right_child"]),
    )
