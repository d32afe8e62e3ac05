"""MLflow flavour of a risk model: ``mlflow.pyfunc.load_model`` answers values with the risks that the server gives.

A version's ``MLmodel`` names this module as its loader. XGBoost's own flavour stands there too
(``mlflow.xgboost.load_model``): it gives the trees, whose output is not calibrated.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mediscale.inference import tabular
from mediscale.inference.tabular import Predictor

if TYPE_CHECKING:
    import pandas as pd


class RiskModel:
    """The model that MLflow wraps. It reads no notes: of a version that does, these are its risks without one."""

    def __init__(self, predictor: Predictor) -> None:
        self._predictor = predictor

    def predict(self, rows: "pd.DataFrame") -> "pd.DataFrame":
        """The risk of each row, whose columns are the version's features; a missing value is NaN."""
        import pandas as pd

        inputs = rows[list(self._predictor.spec.features)].to_numpy(dtype=np.float64)
        return pd.DataFrame(
            {"risk": self._predictor.risks(inputs), "needs_clinician_review": True}, rows.index
        )


def _load_pyfunc(path: str) -> RiskModel:
    """What MLflow calls with a version's folder."""
    return RiskModel(tabular.load_folder(Path(path)))
