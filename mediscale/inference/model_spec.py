"""Model specification of a risk model: ``predictor.json``, the file beside its trees.

Training writes it into the logged model's folder; serving and monitoring read it and need nothing else of the
training code. Missing values are ``null`` here and NaN in arrays.
"""

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from mediscale.core.refs import Frozen
from mediscale.core.task_times import MayBeAsked
from mediscale.core.tasks import TaskName
from mediscale.core.tree_libraries import TreeLibrary
from mediscale.inference.points import PointsScore

Number = TypeVar("Number", float, NDArray[np.float64])


NOTICE = (
    "Decision support for qualified staff, from a statistical model: it does not replace clinical judgement, "
    "and no care may be given or withheld on this figure alone."
)


class Calibration(Frozen):
    """Platt scaling of the trees' output: ``risk = 1 / (1 + exp(-(slope * margin + intercept)))``."""

    slope: float
    intercept: float

    def log_odds(self, margin: Number) -> Number:
        """Calibrated log-odds of a margin, or of many."""
        return self.slope * margin + self.intercept


class Combination(Frozen):
    """Late fusion of the table model and the note model: how a version answers when a note was read.

    The log-odds are ``table * t + notes * (n - reference_mean) + intercept``, where t is the table model's calibrated
    answer and n the note model's, whose files lie beside the trees in the folder ``NOTES_FOLDER``.
    """

    table: float
    notes: float
    reference_mean: float
    """The note model's mean answer on the tuning split: what its contribution is measured from."""
    intercept: float
    thresholds: dict[str, float]
    """Operating points on the combined risk, by name; chosen on the tuning split."""

    def log_odds(self, table: Number, notes: Number) -> Number:
        """Log-odds of the combined risk, from the calibrated log-odds of both models."""
        return self.table * table + self.notes * (notes - self.reference_mean) + self.intercept


class KnownAnswer(Frozen):
    """A synthetic input row (all missing, medians, a plain request; never a patient's) and what must come out of it.

    Serving recomputes these when it loads a model and refuses one that answers otherwise.
    """

    name: str
    inputs: tuple[float | None, ...]
    """In the order of ``PredictorSpec.features``."""
    margin: float
    """Uncalibrated log-odds: sum of the leaves and the base score."""
    risk: float
    contributions: tuple[float, ...]
    """Exact SHAP values on the margin, in the order of the features; with ``PredictorSpec.bias`` they sum to it."""


class PredictorSpec(Frozen):
    """``predictor.json``: all that is needed beside ``MODEL_FILE`` to answer and to explain one row.

    Nothing in it says when, where or by which call it was made: equal models in two homes have equal files.
    """

    name: str
    """Registered model's name, ``<dataset>-<task>``. The version is given at registration, so it is not in here."""
    dataset: str
    task: TaskName
    outcome: str
    """What the risk is the risk of, in words."""
    may_be_asked: MayBeAsked
    """When a server may ask about a patient of the lake, as the task's file said when the version was trained."""
    excluded_destinations: tuple[str, ...]
    """Discharges after which it may not ask, as silver codes them, for the outcome can't happen then."""
    library: TreeLibrary = "xgboost"
    """Which library grew the trees."""
    missing_values: str = "A missing value goes the way that the split learnt."
    """What the trees do with a missing value, in a sentence: what imputation stands in them."""
    features: tuple[str, ...]
    """Inputs in the order of the trees' feature indices."""
    plain_inputs: tuple[str, ...]
    """Names that a request may use; ``data_pipeline.features.plain_inputs.features`` turns them into features."""
    calibration: Calibration
    thresholds: dict[str, float]
    """Operating points on the calibrated risk, by name; chosen on the tuning split."""
    bias: float
    """Expected margin: what the SHAP contributions are measured from."""
    baseline_risk: float
    """Calibrated risk at ``bias``."""
    importance: dict[str, float]
    """Mean absolute SHAP value of each feature on a sample of the training split."""
    usual_ranges: dict[str, tuple[float, float]] = {}
    """Of plain inputs, the middle 99 % of the newest values in the training split, in the concept's unit; rounded
    outwards, and left out where too few patients have a value (``training/tabular/usual_ranges.py``)."""
    known_answers: tuple[KnownAnswer, ...]
    best_iteration: int
    """Trees 0…best_iteration are in ``MODEL_FILE`` and all of them are used."""
    points: PointsScore | None = None
    """The transparent score that was fitted on the same rows; of older versions None."""
    notes: Combination | None = None
    """Set where the version reads clinical notes too."""
    notice: str = NOTICE
