"""TreeSHAP in NumPy: the margin of a row and its exact SHAP values in one pass, without XGBoost.

A leaf contributes to a row's SHAP values only through which of its path's conditions the row meets. A path of
depth D has 2^D such outcomes, so each leaf's contributions are worked out once, when a model is loaded, and
looked up when a row comes: the idea of Fast TreeSHAP v2 (Yang 2021, arXiv:2109.09847), here on the
path-dependent values of Lundberg et al. 2020 (doi:10.1038/s42256-019-0138-9) that ``pred_contribs`` gives.
Neighbouring leaves, up to four, ask no more than D + 1 conditions together, so they share one table: half the
memory, and a third of the look-ups.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mediscale.core.errors import InputError

MAX_DEPTH = 6
"""An outcome is a byte, of one condition more than the depth. The tables grow as 4^depth; at 6 and 200 trees they take
up to 23 MB."""

Floats = NDArray[np.float64]
Indices = NDArray[np.intp]


@dataclass(frozen=True)
class _Step:
    """One condition on the way to a leaf. ``cover`` is the share of the node's training weight that goes this way."""

    node: int
    feature: int
    left: bool
    cover: float


@dataclass(frozen=True)
class Leaf:
    """A leaf of a tree: its value, and the conditions on the path to it."""

    value: float
    path: tuple[_Step, ...]


class TreeEnsemble:
    """A loaded binary tree ensemble. It is immutable, so threads may share it."""

    def __init__(self, model: Mapping[str, Any]) -> None:
        """``model`` is XGBoost's own JSON, decoded.

        Raises:
            InputError: it is not a gbtree of numeric splits with one output and depth up to ``MAX_DEPTH``.
        """
        learner = _checked(model)
        trees = learner["gradient_booster"]["model"]["trees"]
        self.feature_names: tuple[str, ...] = tuple(learner["feature_names"])
        self.n_features = int(learner["learner_model_param"]["num_feature"])
        self._read_leaves(trees)
        self.bias = _base_margin(learner) + self._expected
        """Expected margin over the training rows; what the contributions are measured from."""

    def contributions(self, row: Floats) -> Floats:
        """Exact SHAP values of one row, in log-odds; with ``bias`` they sum to its margin.

        ``row`` holds the features in the model's order, NaN where missing. Compared as float32, as XGBoost does.
        """
        values = row.astype(np.float32)
        # A missing value goes the node's default way: -inf is below every threshold, +inf below none.
        both = np.concatenate((np.fmin(values, np.inf), np.fmax(values, -np.inf)))
        met = both.take(self._source) < self._threshold
        outcome = np.packbits(met, bitorder="little")
        added = self._table.take(self._branch_start + outcome, axis=0)
        contributions = np.zeros(self.n_features)
        if len(self._used):
            contributions[self._used] = np.add.reduceat(added.take(self._entry), self._feature_start)
        return contributions

    def _read_leaves(self, trees: Sequence[Mapping[str, Any]]) -> None:
        leaves = every_leaf(trees)
        depth = max(1, *(len(leaf.path) for leaf in leaves))
        if depth > MAX_DEPTH:
            raise InputError(
                f"The model's trees are {depth} deep; up to {MAX_DEPTH} can be explained exactly."
            )
        left = np.zeros((len(leaves), depth), dtype=bool)
        player = np.full((len(leaves), depth), -1)
        cover = np.ones((len(leaves), depth))
        feature = np.full((len(leaves), depth), -1)
        for at, leaf in enumerate(leaves):
            first: dict[int, int] = {}
            for number, step in enumerate(leaf.path):
                slot = first.setdefault(step.feature, number)
                left[at, number], player[at, number] = step.left, slot
                cover[at, slot] *= step.cover
                feature[at, slot] = step.feature
        value = np.array([leaf.value for leaf in leaves])
        self._expected = float(value @ cover.prod(axis=1))
        branches = _share(leaves, feature, _shapley(value, cover, _met(left, player)))
        self._read_conditions(trees, branches.nodes)
        self._order_by_feature(branches)

    def _read_conditions(self, trees: Sequence[Mapping[str, Any]], nodes: Indices) -> None:
        """Where in a row, or behind it for a missing value that goes left, is what each of the nodes compares."""
        feature = np.concatenate([np.asarray(tree["split_indices"], dtype=np.intp) for tree in trees])
        default_left = np.concatenate([np.asarray(tree["default_left"], dtype=bool) for tree in trees])
        threshold = np.concatenate([np.asarray(tree["split_conditions"], np.float32) for tree in trees])
        self._source: Indices = (feature + default_left * self.n_features)[nodes]
        nothing_is_below = np.float32(-np.inf)
        self._threshold = np.where(nodes < 0, nothing_is_below, threshold[nodes])

    def _order_by_feature(self, branches: "_Branches") -> None:
        """Lays the tables out so that what a branch adds to its features lies together, in a line or two of the
        processor's cache, and a row's contributions are sums over neighbours once these entries are in order."""
        count, width, outcomes = branches.tables.shape
        self._table: Floats = branches.tables.transpose(0, 2, 1).reshape(-1, width)
        self._branch_start: Indices = np.arange(count) * outcomes
        features = branches.features.ravel()
        entries = np.flatnonzero(features >= 0)
        self._entry: Indices = entries[np.argsort(features[entries], kind="stable")]
        self._used, self._feature_start = np.unique(features[self._entry], return_index=True)


def _checked(model: Mapping[str, Any]) -> Mapping[str, Any]:
    try:
        learner: Mapping[str, Any] = model["learner"]
        kind, objective = learner["gradient_booster"]["name"], learner["objective"]["name"]
        if (kind, objective) != ("gbtree", "binary:logistic"):
            raise InputError(
                f"Only gbtree models of binary:logistic can be served, not {kind} of {objective}."
            )
        trees = learner["gradient_booster"]["model"]["trees"]
        categorical = any(len(tree["categories_nodes"]) for tree in trees)
    except (KeyError, TypeError) as error:
        raise InputError("The file does not hold an XGBoost tree model.") from error
    if categorical:
        raise InputError("The model splits on categories; only numeric features can be explained exactly.")
    return learner


def _base_margin(learner: Mapping[str, Any]) -> float:
    base = float(learner["learner_model_param"]["base_score"].strip("[]"))
    if not 0 < base < 1:
        raise InputError("The model was trained on one outcome only; its log-odds are infinite.")
    return math.log(base / (1 - base))


def every_leaf(trees: Sequence[Mapping[str, Any]]) -> list[Leaf]:
    """The leaves of all trees of an XGBoost model's JSON, tree by tree."""
    leaves: list[Leaf] = []
    offset = 0
    for tree in trees:
        plain = {name: np.asarray(tree[name], dtype=kind).tolist() for name, kind in _READ.items()}
        leaves += _walk(plain, 0, offset, ())
        offset += len(plain["left_children"])
    return leaves


_READ = {
    "left_children": np.int32,
    "right_children": np.int32,
    "split_indices": np.int32,
    "split_conditions": np.float32,
    "sum_hessian": np.float32,
}
"""As XGBoost holds them: the digits of its JSON give each float32 back; read as a float64 they are another number."""


def _walk(tree: Mapping[str, list[Any]], node: int, offset: int, path: tuple[_Step, ...]) -> Iterator[Leaf]:
    if tree["left_children"][node] == -1:
        yield Leaf(tree["split_conditions"][node], path)
        return
    weight = tree["sum_hessian"][node]
    if weight <= 0:
        raise InputError(
            "A node of the model was reached by no training weight, so its values can't be explained."
        )
    for side in ("left", "right"):
        child = tree[f"{side}_children"][node]
        cover = tree["sum_hessian"][child] / weight
        step = _Step(offset + node, tree["split_indices"][node], side == "left", cover)
        yield from _walk(tree, child, offset, (*path, step))


def _met(left: NDArray[np.bool_], player: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether all conditions of a player are met, by leaf, outcome and player, shape ``[leaves, 2^D, D]``.

    The players of a leaf's game are its path's features; one that is named twice plays at its first step.
    """
    leaves, depth = left.shape
    outcome = np.arange(2**depth)
    met = np.ones((leaves, 2**depth, depth), dtype=bool)
    for step in range(depth):
        went_left = (outcome >> (depth - 1 - step)) & 1 == 1
        real = np.nonzero(player[:, step] >= 0)[0]
        met[real, :, player[real, step]] &= went_left[None, :] == left[real, step][:, None]
    return met


def _shapley(value: Floats, cover: Floats, met: NDArray[np.bool_]) -> Floats:
    """Shapley values of the game ``v(S) = value · ∏ met over S · ∏ cover outside S``. [leaves, 2^D, D].

    A coalition's product is a term of ``∏ (cover_j + met_j t)``, and its power of t the coalition's size. Unused
    places have cover = met = 1: players who change nothing, and who leave the others' values as they are.
    """
    depth = cover.shape[1]
    weight = [math.factorial(m) * math.factorial(depth - m - 1) / math.factorial(depth) for m in range(depth)]
    result = np.empty(met.shape)
    for player in range(depth):
        terms = np.zeros((*met.shape[:2], depth))
        terms[:, :, 0] = 1
        for other in range(depth):
            if other != player:
                grown = np.roll(terms, 1, axis=2) * met[:, :, other, None]
                terms = terms * cover[:, None, other, None] + grown
        gain = met[:, :, player] - cover[:, None, player]
        result[:, :, player] = value[:, None] * gain * (terms @ weight)
    return result


class _Branches(NamedTuple):
    """Neighbouring leaves as one: their ``width = depth + 1`` nodes and features, and what they add to each of these
    together, by the outcome of the nodes' conditions."""

    nodes: Indices
    """[branches, 8], a bit of the outcome each, the first one the lowest; -1 where a branch has fewer."""
    features: Indices
    """[branches, width]; -1 where a branch has fewer."""
    tables: Floats
    """[branches, width, 2^width]"""


def _share(leaves: Sequence[Leaf], feature: Indices, tables: Floats) -> _Branches:
    """Adds the leaves' tables [leaves, 2^D, D] up by the node two levels above the deepest leaves."""
    depth = feature.shape[1]
    width = depth + 1
    branches: dict[tuple[_Step, ...], tuple[int, dict[int, int], dict[int, int]]] = {}
    branch = np.zeros(len(leaves), dtype=np.intp)
    node, place = np.zeros((2, *feature.shape), dtype=np.intp)
    for at, leaf in enumerate(leaves):
        above = leaf.path[: max(1, depth - 2)]
        branch[at], nodes, features = branches.setdefault(above, (len(branches), {}, {}))
        for number, step in enumerate(leaf.path):
            node[at, number] = nodes.setdefault(step.node, len(nodes))
            place[at, number] = features.setdefault(step.feature, len(features))
    outcome = np.arange(2**width)
    of_leaf = np.zeros((len(leaves), 2**width), dtype=np.intp)
    for number in range(depth):
        of_leaf <<= 1
        of_leaf |= outcome >> node[:, number, None] & 1
    shared = _Branches(
        np.full((len(branches), 8), -1, dtype=np.intp),
        np.full((len(branches), width), -1, dtype=np.intp),
        np.zeros((len(branches), width, 2**width)),
    )
    for number, nodes, features in branches.values():
        shared.nodes[number, : len(nodes)] = list(nodes)
        shared.features[number, : len(features)] = list(features)
    player, slot = np.nonzero(feature >= 0)
    added = tables[player[:, None], of_leaf[player], slot[:, None]]
    np.add.at(shared.tables, (branch[player], place[player, slot]), added)
    return shared
