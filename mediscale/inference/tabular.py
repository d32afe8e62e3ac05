"""A promoted version that answers: its files read after their digest was checked, its known answers recomputed.

Serving and batch scoring share it. It needs neither MLflow nor XGBoost, and unpickles nothing.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from mediscale.core.errors import StorageError
from mediscale.core.refs import ModelRef
from mediscale.core.settings import Settings
from mediscale.inference import ubjson
from mediscale.inference.model_spec import NOTES_FOLDER, PREDICTOR_FILE, KnownAnswer, PredictorSpec
from mediscale.inference.notes import NoteReader
from mediscale.inference.treeshap import TreeEnsemble
from mediscale.storage import registry

TOLERANCE = 1e-5
"""In log-odds: XGBoost sums in float32, we in float64."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Scored:
    """One row's answer. ``contributions`` are exact SHAP values in log-odds of the calibrated risk, one per feature."""

    risk: float
    contributions: Floats
    baseline: float
    """Risk that the contributions lead away from."""
    notes: float = 0.0
    """Contribution of what was written; 0 where nothing was read."""


@dataclass(frozen=True)
class Predictor:
    """One loaded version. Immutable, so requests and threads may share it."""

    model: ModelRef
    spec: PredictorSpec
    trees: TreeEnsemble
    reader: NoteReader | None = None

    def score(self, row: Floats, note_margin: float | None = None) -> Scored:
        """``row`` holds ``spec.features`` in order, NaN where missing; ``note_margin`` is what ``reader`` found, where
        there was a note to read."""
        contributions = self.trees.contributions(row)
        margin = self.trees.bias + float(contributions.sum())
        calibration = self.spec.calibration
        log_odds = calibration.slope * margin + calibration.intercept
        if note_margin is None or self.spec.notes is None or self.reader is None:
            return Scored(_sigmoid(log_odds), calibration.slope * contributions, self.spec.baseline_risk)
        together, platt = self.spec.notes, self.reader.spec.calibration
        notes = platt.slope * note_margin + platt.intercept
        usual = calibration.slope * self.trees.bias + calibration.intercept
        return Scored(
            risk=_sigmoid(together.log_odds(log_odds, notes)),
            contributions=together.table * calibration.slope * contributions,
            baseline=_sigmoid(together.log_odds(usual, together.usual)),
            notes=together.notes * (notes - together.usual),
        )


def _sigmoid(log_odds: float) -> float:
    return 1 / (1 + math.exp(-log_odds))


def load(settings: Settings, move: registry.Move) -> Predictor:
    """The version that an alias was moved to.

    Raises:
        NotFoundError: its files are gone.
        StorageError: they are not those that were promoted, or do not answer as they did in training.
        InputError: the model is of a kind that can't be explained exactly.
    """
    files = registry.checked_files(settings, move.version, move.model_uri, move.model_digest)
    try:
        spec = PredictorSpec.model_validate_json(files[PREDICTOR_FILE])
        trees = TreeEnsemble(ubjson.decode(files[spec.model_file]))
        reader = NoteReader(note_files(files)) if spec.notes else None
    except (KeyError, ValidationError) as error:
        raise StorageError(f"The files of {move.version} lack what serving reads; train it again.") from error
    predictor = Predictor(move.version, spec, trees, reader)
    _check(predictor, move)
    return predictor


def note_files(files: Mapping[str, bytes]) -> dict[str, bytes]:
    """The note model's files of a version that reads notes."""
    prefix = f"{NOTES_FOLDER}/"
    return {name.removeprefix(prefix): content for name, content in files.items() if name.startswith(prefix)}


def _check(predictor: Predictor, move: registry.Move) -> None:
    spec, trees = predictor.spec, predictor.trees
    if (spec.name, spec.task) != (move.model, move.task) or len(spec.features) != trees.n_features:
        raise StorageError(f"The files of {move.version} belong to another model; it is not served.")
    wrong = [known.name for known in spec.known_answers if not _answers(predictor, known)]
    if wrong or not spec.known_answers:
        raise StorageError(
            f"{move.version} does not answer as it did in training ({len(wrong)} of {len(spec.known_answers)} "
            "known answers differ); it is not served."
        )


def _answers(predictor: Predictor, known: KnownAnswer) -> bool:
    if not len(known.inputs) == len(known.contributions) == len(predictor.spec.features):
        return False
    row = np.array([math.nan if value is None else value for value in known.inputs])
    contributions = predictor.trees.contributions(row)
    found = (*contributions, predictor.trees.bias + contributions.sum(), predictor.score(row).risk)
    return np.allclose(found, (*known.contributions, known.margin, known.risk), rtol=0, atol=TOLERANCE)
