"""Risk model inference: a registered version, after its files' digest and its known answers were checked.

Serving, batch scoring, evaluation and monitoring share it: what is judged is what answers. It needs neither MLflow nor
XGBoost, and unpickles nothing.
"""

import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from mediscale.core.errors import InputError, StorageError
from mediscale.core.refs import ModelRef
from mediscale.core.settings import Settings
from mediscale.core.tasks import TaskName
from mediscale.inference import model_files
from mediscale.inference.model_files import MODEL_FILE, PREDICTOR_FILE
from mediscale.inference.model_spec import Calibration, KnownAnswer, PredictorSpec
from mediscale.inference.notes import NoteReader, Reader
from mediscale.inference.points import PointsScore, PointsTable
from mediscale.inference.treeshap import TreeEnsemble

TOLERANCE = 1e-5
"""In log-odds: XGBoost sums in float32, we in float64."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Scored:
    """The prediction for one row.

    ``contributions`` are exact SHAP values in log-odds of the calibrated risk, one per feature."""

    risk: float
    log_odds: float
    """Of the risk."""
    contributions: Floats
    baseline: float
    """Risk that the contributions lead away from."""
    notes: float = 0.0
    """Contribution of what was written; 0 where nothing was read."""


@dataclass(frozen=True)
class Predictor:
    """A loaded version. It is immutable, so requests and threads may share it."""

    model: ModelRef
    spec: PredictorSpec
    trees: TreeEnsemble | PointsTable
    reader: Reader | None = None

    def score(self, row: Floats, note_margin: float | None = None) -> Scored:
        """``row`` holds ``spec.features`` in order, NaN where missing; ``note_margin`` is what ``reader`` found, where
        there was a note to read."""
        contributions = self.trees.contributions(row)
        margin = self.trees.bias + float(contributions.sum())
        calibration = self.spec.calibration
        table = calibration.log_odds(margin)
        if note_margin is None or self.spec.notes is None or self.reader is None:
            return Scored(_sigmoid(table), table, calibration.slope * contributions, self.spec.baseline_risk)
        together = self.spec.notes
        notes = self.reader.spec.calibration.log_odds(note_margin)
        expected = calibration.log_odds(self.trees.bias)
        log_odds = together.log_odds(table, notes)
        return Scored(
            risk=_sigmoid(log_odds),
            log_odds=log_odds,
            contributions=together.table * calibration.slope * contributions,
            baseline=_sigmoid(together.log_odds(expected, together.reference_mean)),
            notes=together.notes * (notes - together.reference_mean),
        )

    def score_rows(self, rows: NDArray[np.floating], note_margins: Floats | None = None) -> Iterator[Scored]:
        """``score`` of each row (n, features); ``note_margins`` (n) is NaN where there was no note to read."""
        margins = np.full(len(rows), np.nan) if note_margins is None else note_margins
        for row, margin in zip(rows.astype(np.float64), margins.tolist(), strict=True):
            yield self.score(row, None if math.isnan(margin) else margin)

    def risks(self, rows: NDArray[np.floating], note_margins: Floats | None = None) -> Floats:
        """The risk (n) of each row."""
        return np.array([scored.risk for scored in self.score_rows(rows, note_margins)], dtype=np.float64)

    def log_odds(self, rows: NDArray[np.floating]) -> Floats:
        """Calibrated log-odds (n) of each row by its values alone."""
        return np.array([scored.log_odds for scored in self.score_rows(rows)], dtype=np.float64)


def _sigmoid(log_odds: float) -> float:
    return 1 / (1 + math.exp(-log_odds))


def load(
    settings: Settings,
    model: ModelRef,
    task: TaskName,
    reader_of: Callable[[Mapping[str, bytes]], Reader] = NoteReader,
) -> Predictor:
    """Loads a registered version of a task's model; ``reader_of`` makes the reader of notes from its files by name.

    Raises:
        NotFoundError: its files are gone.
        StorageError: they are not those that were registered, or do not answer as they did in training.
        InputError: the model is of a kind that can't be explained exactly.
    """
    predictor = _read(model, model_files.read_verified(settings, model), reader_of)
    _check(predictor, task)
    return predictor


def load_folder(folder: Path) -> Predictor:
    """Loads a version from its folder alone, to answer values and no notes; no record says what its digest must be.

    Raises:
        NotFoundError: its files are gone.
        StorageError: they do not answer as they did in training.
        InputError: the model is of a kind that can't be explained exactly.
    """
    model = ModelRef(name=folder.name, version=0, uri=str(folder), digest="")
    predictor = _read(model, model_files.answering_files(folder))
    _check_answers(predictor)
    return predictor


def _read(
    model: ModelRef,
    files: Mapping[str, bytes],
    reader_of: Callable[[Mapping[str, bytes]], Reader] | None = None,
) -> Predictor:
    try:
        spec = PredictorSpec.model_validate_json(files[PREDICTOR_FILE])
        trees = TreeEnsemble(_decoded(files[MODEL_FILE]))
        reader = reader_of(model_files.note_model_files(files)) if spec.notes and reader_of else None
    except (KeyError, ValidationError) as error:
        raise StorageError(f"The files of {model} lack what serving reads; train it again.") from error
    return Predictor(model, spec, trees, reader)


def load_points_score(settings: Settings, model: ModelRef, task: TaskName) -> Predictor:
    """The points score of a registered version as a predictor of its own, for where the version can't be loaded. Its
    name says what it is, so that its answers are never taken for the version's.

    Raises:
        NotFoundError: the version's files are gone.
        StorageError: they are not those that were registered, or hold no points score of the task.
    """
    files = model_files.read_verified(settings, model)
    try:
        spec = PredictorSpec.model_validate_json(files[PREDICTOR_FILE])
    except (KeyError, ValidationError) as error:
        raise StorageError(f"The files of {model} lack what serving reads; train it again.") from error
    if spec.points is None or (spec.name, spec.task) != (model.name, task):
        raise StorageError(f"The files of {model} hold no points score of {task}.")
    return _by_points(model, spec, spec.points)


def points_score_of(predictor: Predictor) -> Predictor | None:
    """The points score of a loaded version, for when it fails while it answers; None where its files hold none."""
    points = predictor.spec.points
    return None if points is None else _by_points(predictor.model, predictor.spec, points)


def _by_points(model: ModelRef, spec: PredictorSpec, points: PointsScore) -> Predictor:
    table = PointsTable(points, spec.features)
    clinical = {name: at for name, at in spec.thresholds.items() if name == "clinical"}
    own = spec.model_copy(
        update={
            "calibration": Calibration(slope=1, intercept=0),
            "thresholds": clinical | points.thresholds,  # the others were chosen on the trees' risks
            "bias": table.bias,
            "baseline_risk": _sigmoid(table.bias),
            "notes": None,
        }
    )
    return Predictor(model.model_copy(update={"name": f"{model.name}-points-score"}), own, table)


def _decoded(content: bytes) -> Any:
    try:
        return json.loads(content)
    except ValueError as error:
        raise InputError(f"{MODEL_FILE} ({len(content)} bytes) could not be read as JSON.") from error


def _check(predictor: Predictor, task: TaskName) -> None:
    if (predictor.spec.name, predictor.spec.task) != (predictor.model.name, task):
        raise _of_another(predictor.model)
    _check_answers(predictor)


def _of_another(model: ModelRef) -> StorageError:
    return StorageError(f"The files of {model} belong to another model; it is not served.")


def _check_answers(predictor: Predictor) -> None:
    model, spec = predictor.model, predictor.spec
    if len(spec.features) != predictor.trees.n_features:
        raise _of_another(model)
    wrong = [answer.name for answer in spec.known_answers if not _answers(predictor, answer)]
    if wrong or not spec.known_answers:
        raise StorageError(
            f"{model} does not answer as it did in training ({len(wrong)} of {len(spec.known_answers)} "
            "known answers differ); it is not served."
        )


def _answers(predictor: Predictor, answer: KnownAnswer) -> bool:
    if not len(answer.inputs) == len(answer.contributions) == len(predictor.spec.features):
        return False
    row = np.array([math.nan if value is None else value for value in answer.inputs])
    contributions = predictor.trees.contributions(row)
    outputs = (*contributions, predictor.trees.bias + contributions.sum(), predictor.score(row).risk)
    return np.allclose(outputs, (*answer.contributions, answer.margin, answer.risk), rtol=0, atol=TOLERANCE)
