"""CPU of the exact SHAP values of one row, beside XGBoost's own ``pred_contribs`` of the same row.

    python benchmarks/shap_row.py

Both have the model and the row in memory, one thread, and are asked in turns; XGBoost's matrix is made within its part,
as a server has to for each request. At each depth the values are compared first.
"""

import json
import time
from collections.abc import Callable

import numpy as np
import xgboost
from numpy.typing import NDArray

from mediscale.inference.treeshap import TreeEnsemble

FEATURES, ROWS, TREES, DEPTHS = 243, 6000, 200, (3, 4, 6)
TURNS, REPEATS = 15, 200


def main() -> None:
    for depth in DEPTHS:
        compare(depth)


def compare(depth: int) -> None:
    booster, row = trained(depth)
    trees = TreeEnsemble(json.loads(bytes(booster.save_raw("json"))))

    def ours() -> NDArray[np.float64]:
        return trees.contributions(row)

    def theirs() -> NDArray[np.float32]:
        matrix = xgboost.DMatrix(row[None], nthread=1)
        values: NDArray[np.float32] = booster.predict(matrix, pred_contribs=True)[0, :-1]
        return values

    difference = float(np.abs(ours() - theirs()).max())
    turns = np.array([[microseconds(ours), microseconds(theirs)] for _ in range(TURNS)])
    our_time, their_time = np.median(turns, axis=0)
    print(
        f"depth {depth}: ours {our_time:.0f} µs, XGBoost {their_time:.0f} µs, at most {difference:.1e} apart"
    )
    ratio = float(np.median(turns[:, 0] / turns[:, 1]))
    print(f"figure: CPU of a row's SHAP values over XGBoost's at depth {depth} = {ratio:.3f}")


def trained(depth: int) -> tuple[xgboost.Booster, NDArray[np.float64]]:
    """A model on made-up numbers, half of which are missing, and a row."""
    chance = np.random.default_rng(0)
    x = chance.normal(size=(ROWS, FEATURES))
    x[chance.random(x.shape) < 0.5] = np.nan
    y = np.nansum(x[:, :20], axis=1) + chance.normal(size=ROWS) * 3 > 0
    settings = {"objective": "binary:logistic", "max_depth": depth, "eta": 0.05, "nthread": 1}
    return xgboost.train(settings, xgboost.DMatrix(x, label=y), TREES), x[0]


def microseconds(work: Callable[[], object]) -> float:
    begun = time.thread_time()
    for _ in range(REPEATS):
        work()
    return (time.thread_time() - begun) / REPEATS * 1e6


if __name__ == "__main__":
    main()
