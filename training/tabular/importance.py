"""Global feature importance over many patients; the server explains the risk of one patient."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import xgboost
    from matplotlib.figure import Figure

    from training.training_examples import Examples

SAMPLE = 500
_SHOWN = 20
_BLUE = "#0072b2"


def ranking(booster: "xgboost.Booster", train: "Examples", seed: int) -> dict[str, float]:
    """Mean absolute SHAP value per feature, on the margin, for a sample of the training rows.

    The values are XGBoost's own, which the package shap asks it for too: importing that takes five seconds of CPU.
    """
    import xgboost

    chosen = np.random.default_rng(seed).permutation(len(train))[:SAMPLE]
    names = booster.feature_names or []
    rows = xgboost.DMatrix(train.inputs[np.sort(chosen)], feature_names=names)
    values = booster.predict(rows, pred_contribs=True)[:, :-1]  # the last is the mean margin
    return dict(zip(names, map(float, np.abs(values).mean(axis=0)), strict=True))


def plot(ranking: Mapping[str, float]) -> "Figure":
    """Bars of the ranking. Means only: the usual beeswarm draws a dot for every patient."""
    from matplotlib.figure import Figure

    highest = sorted(ranking.items(), key=lambda feature: feature[1])[-_SHOWN:]
    figure = Figure(figsize=(8, 7), layout="constrained")
    axes = figure.subplots()
    axes.barh([name for name, _ in highest], [mean for _, mean in highest], color=_BLUE)
    axes.set_xlabel("mean absolute SHAP value (log-odds)")
    return figure
