"""The recipe of the trees: their hyperparameters, and those that a task's newest hyperparameter search chose."""

from typing import Any

from pydantic import Field

from mediscale.core.annotations import Digest
from mediscale.core.refs import Frozen
from mediscale.core.settings import Settings
from mediscale.core.tasks import TaskName
from mediscale.core.tree_libraries import TreeLibrary
from mediscale.storage import calls

SEARCH = "risk_tuning"
"""The stage that searches. It is known by name: what a fit does must not depend on the code of a search."""


class Recipe(Frozen):
    """How the trees are grown."""

    library: TreeLibrary = "xgboost"
    """Which library grows the trees. Those of each are stored, explained and served alike."""
    rounds: int = Field(300, ge=1, le=1000)
    """Most trees; the log loss on the tuning split ends it earlier."""
    patience: int = Field(30, ge=1)
    """Rounds without a better log loss on the tuning split before stopping."""
    depth: int = Field(3, ge=1, le=4)
    """At most 4: the server looks exact SHAP values up in tables of 4^depth entries per leaf. Of 2, 3 and 4, 3 had the
    best AUROC in cross-validation over patients of the synthetic train and tuning splits."""
    learning_rate: float = Field(0.06, gt=0, le=1)
    min_child_weight: float = Field(5.0, ge=0)
    """Least sum of the second derivatives of the loss in a leaf; near p (1 - p) for each row of risk p. Spark ML has
    none, and takes it as a number of rows."""
    subsample: float = Field(0.8, gt=0, le=1)
    """Share of the rows that a tree is grown on."""
    colsample: float = Field(0.5, gt=0, le=1)
    """Share of the features that a tree may split on."""
    l2: float = Field(5.0, ge=0)
    """L2 regularisation of the leaves' values; Spark ML has none."""
    threads: int = Field(1, ge=1)
    """Per worker. More only pays for large data on idle cores: XGBoost's threads wait for each other by spinning. Part
    of the recipe, for sums of floats depend on it in their last bits."""
    seed: int = Field(0, ge=0, lt=2**31)


class TunedSettings(Frozen):
    """What a hyperparameter search chose, as a fit takes it."""

    search: Digest
    """Key of the call that searched."""
    settings: dict[str, int | float | str]
    """Of the recipe, by name."""


def newest_search(
    settings: Settings, dataset: str, task: TaskName, stated: frozenset[str]
) -> TunedSettings | None:
    """What the newest finished search of the task chose, without the ``stated`` settings; None where there is none."""
    searches = [
        call
        for call in calls.of_stage(settings, SEARCH)
        if (call.params["dataset"], call.params["task"]) == (dataset, task)
    ]
    if not searches:
        return None
    chosen: dict[str, Any] = searches[-1].result["settings"]
    # an older release may have searched a setting that is no more
    searched = Recipe.model_fields.keys() - stated
    return TunedSettings(
        search=searches[-1].key, settings={name: v for name, v in chosen.items() if name in searched}
    )
