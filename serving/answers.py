"""From a request's values, or a patient's record, to an answer and the lines of the log that hold it."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from functools import cache

from mediscale.predictor import Task
from serving import schemas
from serving.patients import Known
from serving.prediction_log import Prediction
from serving.predictors import Floats, Served
from serving.schemas import Answer, Factor, TaskRisk, Threshold, Values


def of_values(
    asked: Values, served: Mapping[Task, Served], prediction_id: str, now: datetime
) -> tuple[Answer, list[Prediction]]:
    """Every served task's risk from plain values; tasks may know different inputs."""
    given = frozenset(asked.given)
    risks, logged = [], []
    for version in served.values():
        row = version.row_of_values(asked.given)
        scored = version.predictor.score(row)
        risks.append(_risk(version, scored.risk, version.explainer.of_values(scored.contributions, given)))
        logged.append(_logged(prediction_id, now, version, scored.risk, row))
    inputs = _inputs(*(version.predictor.spec.plain_inputs for version in served.values()))
    missing = tuple([name for name in inputs if name not in given])
    return Answer(prediction_id, tuple(risks), missing, schemas.out_of_range(asked.out_of_range)), logged


def of_patient(
    known: Known, served: Mapping[Task, Served], prediction_id: str, now: datetime
) -> tuple[Answer, list[Prediction]]:
    """Every served task's risk from what the lake knew of a patient at a time."""
    risks, logged, absent = [], [], []
    for task, version in served.items():
        row = version.row(known.rows[task])
        scored = version.predictor.score(row)
        risks.append(_risk(version, scored.risk, version.explainer.of_patient(scored.contributions, row)))
        logged.append(_logged(prediction_id, now, version, scored.risk, row, known))
        absent.append(version.explainer.inputs_without_value(row))
    missing = _common(absent)
    return Answer(prediction_id, tuple(risks), missing, (), known.prediction_time), logged


def _risk(version: Served, risk: float, factors: tuple[Factor, ...]) -> TaskRisk:
    spec = version.predictor.spec
    thresholds = tuple(Threshold(name, at, risk >= at) for name, at in spec.thresholds.items())
    return TaskRisk(
        task=spec.task,
        outcome=spec.outcome,
        risk=risk,
        baseline_risk=spec.baseline_risk,
        model=version.model.name,
        version=version.model.version,
        thresholds=thresholds,
        factors=factors,
    )


def _logged(
    prediction_id: str, now: datetime, version: Served, risk: float, row: Floats, known: Known | None = None
) -> Prediction:
    return Prediction(
        prediction_id=prediction_id,
        predicted_at=now,
        task=version.predictor.spec.task,
        model=version.model.name,
        model_version=version.model.version,
        risk=risk,
        features=row,
        subject_id=known.subject_id if known else None,
        prediction_time=known.prediction_time if known else None,
        events_version=known.events_version if known else None,
    )


@cache
def _inputs(*of_tasks: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for inputs in of_tasks for name in inputs))


def _common(absent: Iterable[tuple[str, ...]]) -> tuple[str, ...]:
    """Inputs that no task found: the windows of one may hold what those of another do not."""
    first, *others = absent
    return tuple(name for name in first if all(name in other for other in others))
