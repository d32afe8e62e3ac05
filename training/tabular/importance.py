"""What the model goes by, over many patients; what it went by for one patient is the server's to say."""

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import xgboost
    from matplotlib.figure import Figure

    from training.training_examples import Examples

SAMPLE = 500
_SHOWN = 20


def explain(booster: "xgboost.Booster", train: "Examples", seed: int) -> Any:
    """A shap ``Explanation`` on the margin, for a sample of the training rows."""
    import shap

    chosen = np.random.default_rng(seed).permutation(len(train))[:SAMPLE]
    values = shap.TreeExplainer(booster)(train.inputs[np.sort(chosen)])
    values.feature_names = booster.feature_names
    return values


def ranking(explanation: Any) -> dict[str, float]:
    """Mean absolute SHAP value per feature."""
    means = np.abs(explanation.values).mean(axis=0)
    return dict(zip(explanation.feature_names, map(float, means), strict=True))


def plot(explanation: Any) -> "Figure":
    """Bars of the ranking. Means only: the usual beeswarm draws a dot for every patient."""
    import shap
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 7), layout="constrained")
    axes = shap.plots.bar(explanation, max_display=_SHOWN, show=False, ax=figure.subplots())
    axes.set_xlabel("mean absolute SHAP value (log-odds)")
    return figure
