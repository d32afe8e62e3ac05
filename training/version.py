"""A registered version as training and evaluation use it: its trees, its spec, and its note model where it has one."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mediscale.core.refs import ModelRef
from mediscale.core.settings import Settings
from mediscale.inference import tabular
from mediscale.inference.collate import Tokens
from mediscale.inference.model_spec import PREDICTOR_FILE, PredictorSpec
from mediscale.inference.notes import NoteReader
from mediscale.storage import registry
from training.evaluation import calibration, metrics
from training.evaluation.metrics import Floats

if TYPE_CHECKING:
    import xgboost

    from training.training_examples import Inputs

_THREADS = 2


@dataclass(frozen=True)
class Version:
    """From files whose digest was checked."""

    booster: "xgboost.Booster"
    spec: PredictorSpec
    reader: NoteReader | None

    def table(self, inputs: "Inputs") -> Floats:
        """Calibrated log-odds (n) by the values alone."""
        platt = self.spec.calibration
        return platt.slope * calibration.margins(self.booster, inputs) + platt.intercept

    def notes(self, stays: Sequence[Sequence[Tokens]]) -> Floats:
        """Calibrated log-odds (n) by the notes alone, each stay given as its windows; NaN where nothing was written."""
        assert self.reader is not None
        found, platt = np.full(len(stays), np.nan), self.reader.spec.calibration
        written = [i for i, pieces in enumerate(stays) if any(map(len, pieces))]
        found[written] = self.reader.margins([stays[i] for i in written]) * platt.slope + platt.intercept
        return found

    def risks(self, table: Floats, notes: Floats | None = None) -> Floats:
        """Risks (n) as served: by both where a note was read, by the values where not."""
        if notes is None or self.spec.notes is None:
            return metrics.sigmoid(table)
        return metrics.sigmoid(np.where(np.isnan(notes), table, self.spec.notes.log_odds(table, notes)))


def load(settings: Settings, model: ModelRef, model_uri: str, model_digest: str) -> Version:
    """
    Raises:
        NotFoundError: its files are gone.
        StorageError: they were changed, or the note model does not answer as it did in training.
    """
    import xgboost

    files = registry.checked_files(settings, model, model_uri, model_digest)
    spec = PredictorSpec.model_validate_json(files[PREDICTOR_FILE])
    booster = xgboost.Booster({"nthread": 1}, model_file=bytearray(files[spec.model_file]))
    return Version(booster, spec, NoteReader(tabular.note_files(files), _THREADS) if spec.notes else None)
