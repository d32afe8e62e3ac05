"""The file beside the trees: what a predictor needs to answer, explain and check itself."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from data_pipeline.features import kernel, plain_inputs
from mediscale.core import tasks
from mediscale.core.concepts import by_name
from mediscale.core.privacy import SMALL_COUNT
from mediscale.core.tasks import TaskName
from mediscale.core.tree_libraries import TreeLibrary
from mediscale.inference.model_spec import Calibration, KnownAnswer, PredictorSpec
from mediscale.inference.points import PointsScore
from mediscale.storage import registry
from training.statistics import calibration as calibrated
from training.statistics.metrics import Floats
from training.tabular.tree_training import LIBRARIES
from training.tabular.usual_ranges import usual_ranges

if TYPE_CHECKING:
    import xgboost

    from training.training_examples import Examples

_PLAIN_EXAMPLES: dict[str, dict[str, float]] = {
    "age and blood pressure": {"age": 67, "blood_pressure": 140},
    "bedside": {
        "age": 81,
        "sex": 1,
        "heart_rate": 118,
        "systolic_blood_pressure": 88,
        "respiratory_rate": 28,
        "oxygen_saturation": 89,
        "temperature": 38.6,
    },
}


def spec(
    booster: "xgboost.Booster",
    train: "Examples",
    importance: dict[str, float],
    calibration: Calibration,
    thresholds: dict[str, float],
    dataset: str,
    task: TaskName,
    library: TreeLibrary,
    points: PointsScore | None,
) -> PredictorSpec:
    """``predictor.json`` of trees that were cut to the chosen rounds."""
    answers = tuple(_known_answers(booster, _medians(train), calibration, task))
    bias = answers[0].margin - sum(answers[0].contributions)
    declared = tasks.load(task)
    return PredictorSpec(
        name=registry.model_name(dataset, task),
        dataset=dataset,
        task=task,
        outcome=declared.outcome.sentence,
        library=library,
        missing_values=LIBRARIES[library].missing_values,
        may_be_asked=declared.may_be_asked,
        excluded_destinations=declared.at_risk.excluded_destinations,
        features=kernel.names(task),
        plain_inputs=plain_inputs.names(task),
        calibration=calibration,
        thresholds=thresholds,
        bias=bias,
        baseline_risk=float(calibrated.risks(np.array([bias]), calibration)[0]),
        importance=importance,
        usual_ranges=usual_ranges(train, task),
        points=points,
        known_answers=answers,
        best_iteration=booster.num_boosted_rounds() - 1,
    )


def _known_answers(
    booster: "xgboost.Booster", medians: NDArray[np.float32], calibration: Calibration, task: TaskName
) -> Iterator[KnownAnswer]:
    rows = {
        "nothing known": np.full_like(medians, np.nan),
        "medians": medians,
        **{
            name: plain_inputs.features(_request_values(values, task), task)
            for name, values in _PLAIN_EXAMPLES.items()
        },
    }
    explained = contributions(booster, np.stack(list(rows.values())))
    for (name, row), parts in zip(rows.items(), explained, strict=True):
        margin = np.array([parts.sum()])
        yield KnownAnswer(
            name=name,
            inputs=tuple(None if np.isnan(value) else float(value) for value in row),
            margin=float(margin[0]),
            risk=float(calibrated.risks(margin, calibration)[0]),
            contributions=tuple(float(part) for part in parts[:-1]),
        )


def _request_values(values: Mapping[str, float], task: TaskName) -> dict[str, float]:
    """The values that a request to a model of the task can give: one that reads no vital signs takes none."""
    inputs, concepts = plain_inputs.names(task), by_name()
    return {
        name: value
        for name, value in values.items()
        if (concepts[name].name if name in concepts else name) in inputs
    }


def contributions(booster: "xgboost.Booster", inputs: NDArray[np.float32]) -> Floats:
    """Exact SHAP values on the margin, (n, features + 1); the last column is the bias."""
    import xgboost

    rows = xgboost.DMatrix(inputs, feature_names=booster.feature_names, nthread=1)
    return np.asarray(booster.predict(rows, pred_contribs=True), dtype=np.float64)


def _medians(train: "Examples") -> NDArray[np.float32]:
    enough = np.isfinite(train.inputs).sum(axis=0) >= SMALL_COUNT
    medians = np.full(train.inputs.shape[1], np.nan, dtype=np.float32)
    medians[enough] = np.nanmedian(train.inputs[:, enough], axis=0)
    return medians
