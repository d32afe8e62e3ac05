"""Tree libraries: those that may grow the trees of a risk model.

Standard library only: the help of the command line reads it. ``training.tabular.tree_training`` has the code of each.
"""

from typing import Literal

TreeLibrary = Literal["xgboost", "lightgbm", "spark"]

DISPLAY_NAMES: dict[TreeLibrary, str] = {"xgboost": "XGBoost", "lightgbm": "LightGBM", "spark": "Spark ML"}
