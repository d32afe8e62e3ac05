"""Silent period: how good a version was while it answered in shadow, by outcomes that matured since.

A shadow beside production (``mediscale canary --shadow``), ``mediscale serve --alias staging`` and batch scoring log
each answer with its version, and nobody acts on it. Only stays that the version has never seen count: a stay of its own
training set, in whatever split, says nothing of what is to come. So neither scoring the training patients again nor the
outcomes of a year ago make a silent period.
"""

from datetime import datetime

import numpy as np

from mediscale.core.refs import ModelRef, TableRef
from mediscale.core.settings import Settings
from mediscale.core.tables import TRAINING_SET
from mediscale.core.tasks import TaskName
from mediscale.storage import lake
from mediscale.storage.logged_predictions import Question
from training.evaluation import matured_outcomes
from training.evaluation.evaluation_report import SilentPeriod
from training.statistics import metrics
from training.statistics.bootstrap import Resamples

_RESAMPLES = 500
_STAY = ["subject_id", "stay_id"]


def measure(
    settings: Settings,
    predictions: TableRef,
    labels: TableRef,
    training_set: TableRef,
    model: ModelRef,
    task: TaskName,
    as_of: datetime,
) -> SilentPeriod:
    """What the log of a version says at ``as_of``, the caller's clock: outcomes that became certain later do not exist
    yet."""
    question = Question(model, task, datetime.min, as_of)
    matured = matured_outcomes.join(settings, predictions, labels, question, as_of)
    trained_on = lake.read(settings, training_set, _STAY)
    new = matured.join(trained_on, keys=_STAY, join_type="left anti").sort_by(
        [(name, "ascending") for name in TRAINING_SET.key]
    )
    y = np.asarray(new["boolean_value"].to_numpy(zero_copy_only=False), dtype=np.float64)
    with_outcome = np.unique(new["stay_id"].to_numpy()[y == 1])
    counted = {"outcomes": len(y), "events": len(with_outcome)}
    if not 0 < y.sum() < len(y):
        return SilentPeriod(**counted)
    p = np.asarray(new["risk"].to_numpy(), dtype=np.float64)
    resamples = Resamples(np.asarray(new["subject_id"].to_numpy(), dtype=np.int64), _RESAMPLES, seed=0)
    return SilentPeriod(
        **counted,
        auroc=resamples.estimate(lambda w: metrics.auroc(y, p, w)),
        calibration_intercept=resamples.estimate(lambda w: metrics.calibration_intercept(y, p, w)),
    )
