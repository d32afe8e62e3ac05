"""Trees of any library as XGBoost's model, the one format that is stored, explained and served.

LightGBM and Spark ML send a value left where it is at most the threshold, a float64; XGBoost where it is below the
threshold, a float32. Inputs are float32, so the float32 after the largest one that is not above the threshold splits
them alike. Leaves are rounded to float32, which moves a margin by about 1e-7.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import xgboost

_NO_PARENT = 2147483647


@dataclass(frozen=True)
class Leaf:
    value: float
    """Addition to the log-odds."""
    cover: float
    """Training rows, or their weight, that came here: exact SHAP values average over them."""


@dataclass(frozen=True)
class Split:
    feature: int
    threshold: float
    """A value of at most this goes left."""
    missing_left: bool
    """Whether a missing value goes left."""
    cover: float
    left: "Node"
    right: "Node"


Node = Leaf | Split
"""A tree, by its root."""


def below(threshold: float) -> float:
    """The float32 t such that a float32 x has ``x <= threshold`` where it has ``x < t``.

    A threshold that parts the missing values from all others may be beyond float32; the largest one stands for it.

    >>> below(0.5)
    0.5000000596046448
    """
    with np.errstate(over="ignore"):
        nearest = np.float32(threshold)
        above = nearest if float(nearest) > threshold else np.nextafter(nearest, np.float32(np.inf))
    return float(min(above, np.finfo(np.float32).max))


def booster(trees: Sequence[Node], feature_names: Sequence[str], threads: int = 1) -> "xgboost.Booster":
    """An XGBoost model of these trees, whose margin is the sum of their leaves."""
    import xgboost

    names = list(feature_names)
    nothing = xgboost.DMatrix(np.zeros((1, len(names)), np.float32), [0], feature_names=names, nthread=1)
    empty = xgboost.train({"objective": "binary:logistic", "base_score": 0.5, "nthread": 1}, nothing, 0)
    document = json.loads(bytes(empty.save_raw("json")))
    model = document["learner"]["gradient_booster"]["model"]
    model["trees"] = [_document(tree, number, len(names)) for number, tree in enumerate(trees)]
    model["tree_info"] = [0] * len(trees)
    model["iteration_indptr"] = list(range(len(trees) + 1))
    model["gbtree_model_param"]["num_trees"] = str(len(trees))
    return xgboost.Booster({"nthread": threads}, model_file=bytearray(json.dumps(document).encode()))


def _document(root: Node, number: int, n_features: int) -> dict[str, Any]:
    """XGBoost finds a right child behind its left one, so the nodes are numbered level by level."""
    nodes: list[Node] = [root]
    left, right, parent = [], [], [_NO_PARENT]
    for at, node in enumerate(nodes):  # which grows meanwhile
        is_split = isinstance(node, Split)
        left.append(len(nodes) if is_split else -1)
        right.append(len(nodes) + 1 if is_split else -1)
        if isinstance(node, Split):
            nodes += [node.left, node.right]
            parent += [at, at]
    n = len(nodes)
    return {
        "base_weights": [0.0] * n,
        "categories": [],
        "categories_nodes": [],
        "categories_segments": [],
        "categories_sizes": [],
        "default_left": [int(isinstance(node, Split) and node.missing_left) for node in nodes],
        "id": number,
        "left_children": left,
        "loss_changes": [0.0] * n,
        "parents": parent,
        "right_children": right,
        "split_conditions": [
            below(node.threshold) if isinstance(node, Split) else float(node.value) for node in nodes
        ],
        "split_indices": [node.feature if isinstance(node, Split) else 0 for node in nodes],
        "split_type": [0] * n,
        "sum_hessian": [float(node.cover) for node in nodes],
        "tree_param": {
            "num_deleted": "0",
            "num_feature": str(n_features),
            "num_nodes": str(n),
            "size_leaf_vector": "1",
        },
    }
