"""Drift: whether a window of answered predictions still looks like the patients that the model learned from.

Three things are judged, as one family with one rate of false alarms: the values of the most important inputs where
there is a value, how often they are missing, and the risks that were answered. One column beyond its threshold is a
drifted window: a changed unit moves one measurement and not half of all columns. Inputs are held against the training
split; risks against those of the tuning split, for the model's risks on its own training rows are more extreme than on
any new patient's.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import Field, NaiveDatetime

from mediscale.core.annotations import PatientCount
from mediscale.core.errors import InputError
from mediscale.core.privacy import count
from mediscale.core.refs import Frozen, ModelRef, TableRef
from mediscale.core.settings import Settings
from mediscale.core.stage import Context, Stage
from mediscale.core.tasks import TaskName
from mediscale.inference.model_spec import PredictorSpec
from mediscale.storage import durable_files
from monitoring import monitoring_inputs
from monitoring.log_window import LogWindow

if TYPE_CHECKING:
    import numpy as np

    from mediscale.inference.tabular import Predictor
    from monitoring.drift.comparison import Calibrated, Comparison
    from monitoring.drift.prediction_window import Window
    from monitoring.drift.report import ColumnVerdict

RISK = "answered risk"
_NAMED = 5
"""Columns named in the summary."""


class Params(LogWindow):
    task: TaskName
    model: ModelRef
    training_set: TableRef
    """What the model was trained on: the reference."""
    min_predictions: int = Field(30, ge=2)
    """With fewer to judge, the verdict is that there are too few."""
    max_features: int = Field(30, ge=1)
    """Measurements watched: those that matter most to the model, each by its most important input."""
    n_resamples: int = Field(400, ge=100)
    """Windows drawn from the reference to find the thresholds."""


class ColumnDrift(Frozen):
    """One column that was judged, by Evidently's Wasserstein distance in the reference's standard deviations."""

    column: str
    values: PatientCount
    """In the window."""
    statistic: float
    threshold: float
    drifted: bool


class MissingDrift(Frozen):
    """How often one input is missing."""

    column: str
    share: float
    reference_share: float
    threshold: float
    """Largest change of the share that an undrifted window of this size shows."""
    drifted: bool


class Result(Frozen):
    dataset: str
    task: TaskName
    model: ModelRef
    start: NaiveDatetime
    end: NaiveDatetime
    n: PatientCount
    """Predictions of this version in the window."""
    judged: PatientCount
    """Of those, what was compared: a repeated question counts once, one without like in the reference not at all."""
    n_ad_hoc: PatientCount
    """Of the judged, how many were asked by plain values."""
    drifted: bool
    summary: str
    """The verdict in a sentence."""
    watched: int = 0
    """Columns judged: values, missingness and the risk."""
    share_drifted: float = 0.0
    drifted_columns: tuple[ColumnDrift, ...] = ()
    """Inputs whose values moved."""
    drifted_missing: tuple[MissingDrift, ...] = ()
    """Inputs that are missing more or less often."""
    prediction: ColumnDrift | None = None
    """The answered risks; None when too few could be compared."""
    report: str | None = None
    """Evidently's HTML, relative to the home; a JSON with the numbers of all columns lies beside it."""


class Numbers(Frozen):
    """What lies beside the report: every column that was judged, and how."""

    params: Params
    result: Result
    columns: tuple[ColumnDrift, ...]
    missing: tuple[MissingDrift, ...]


def run(params: Params, settings: Settings, key: str) -> Result:
    """Judges one window; leaves Evidently's report and the numbers of all columns under ``reports/drift``.

    Raises:
        InputError: the log's rows, or the model, do not fit the inputs that this release computes.
        StorageError: the model's files were changed, or a table is not the one referred to.
    """
    import numpy as np

    from mediscale.storage.logged_predictions import Question
    from monitoring.drift import comparison, prediction_window

    generator = np.random.default_rng(params.seed)
    predictor = _predictor(params, settings)
    spec = predictor.spec
    question = Question(params.model, params.task, params.start, params.end)
    window = prediction_window.load(settings, params.predictions, question, len(spec.features), generator)
    if len(window) < params.min_predictions:
        return _result(
            params, window, f"too few predictions ({count(len(window))} of {params.min_predictions})"
        )
    inputs = _inputs(params, settings, spec, window, generator)
    if len(inputs.window) < params.min_predictions:
        summary = (
            f"too few predictions that the reference has like for ({count(len(inputs.window))} of "
            f"{params.min_predictions})"
        )
        return _result(params, window, summary)
    risks = _risks(params, settings, predictor, window, generator)
    calibrated = comparison.calibrate(
        [inputs, *risks], params.family_wise_error_rate, params.n_resamples, generator
    )
    return _judge(params, settings, key, window, calibrated, generator)


def _predictor(params: Params, settings: Settings) -> "Predictor":
    from data_pipeline.features import kernel
    from mediscale.inference import tabular

    predictor = tabular.load(settings, params.model, params.task)
    if predictor.spec.features != kernel.names(params.task):
        raise InputError(
            f"{params.model} was not trained for {params.task} on the inputs that this release computes; "
            "train it again."
        )
    return predictor


def _inputs(
    params: Params,
    settings: Settings,
    spec: PredictorSpec,
    window: "Window",
    generator: "np.random.Generator",
) -> "Comparison":
    """The watched inputs, held against the training split."""
    from monitoring.drift import comparison, match_reference
    from training import training_examples

    train = training_examples.load(settings, params.training_set, "train", spec.features)
    matched = match_reference.match_reference(window, train, params.task, generator)
    names = comparison.monitored_features(spec, params.max_features)
    at = [spec.features.index(name) for name in names]
    return comparison.compare(names, window, window.inputs[:, at], matched, matched.inputs[:, at])


def _risks(
    params: Params,
    settings: Settings,
    predictor: "Predictor",
    window: "Window",
    generator: "np.random.Generator",
) -> "list[Comparison]":
    """The answered risks, held against what the model answers on the tuning split; none when too few compare.

    Of a version that reads notes it is what the values alone would have answered: whether a caller sends notes is not
    the patients' doing, and would look like drift.
    """
    from monitoring.drift import comparison, match_reference
    from training import training_examples

    tuning = training_examples.load(settings, params.training_set, "tuning", predictor.spec.features)
    matched = match_reference.match_reference(window, tuning, params.task, generator)
    if len(matched.window) < comparison.LEAST_VALUES:
        return []
    usual = predictor.risks(matched.inputs)
    answered = window.risks if predictor.reader is None else predictor.risks(window.inputs)
    return [comparison.compare((RISK,), window, answered[:, None], matched, usual[:, None])]


def _judge(
    params: Params,
    settings: Settings,
    key: str,
    window: "Window",
    calibrated: "Sequence[Calibrated]",
    generator: "np.random.Generator",
) -> Result:
    from monitoring.drift import report

    path = f"reports/drift/{params.model.name}-v{params.model.version}/{params.start:%Y%m%dT%H%M%S}-{key[:8]}.html"
    column_values = dict(column for each in calibrated for column in each.columns())
    reported = report.judge(column_values, generator)
    judged = reported.columns
    columns = tuple(column for each in calibrated for column in _columns(each, judged))
    missing = tuple(column for each in calibrated for column in _missing(each, judged))
    kept = calibrated[0].comparison
    result = _result(params, window, _summary(columns, missing, len(kept.window))).model_copy(
        update={
            "judged": len(kept.window),
            "n_ad_hoc": int((kept.window.patients < 0).sum()),
            "watched": len(judged),
            "drifted": any(column.drifted for column in judged.values()),
            "share_drifted": sum(column.drifted for column in judged.values()) / len(judged),
            "drifted_columns": tuple(c for c in columns if c.drifted and c.column != RISK),
            "drifted_missing": tuple(c for c in missing if c.drifted),
            "prediction": next((c for c in columns if c.column == RISK), None),
            "report": path,
        }
    )
    reported.save(settings.home / path)
    numbers = Numbers(params=params, result=result, columns=columns, missing=missing)
    durable_files.replace((settings.home / path).with_suffix(".json"), numbers.model_dump_json(indent=1))
    return result


def _columns(calibrated: "Calibrated", judged: "Mapping[str, ColumnVerdict]") -> Iterator[ColumnDrift]:
    for i, name in enumerate(calibrated.comparison.names):
        if name in judged:
            yield ColumnDrift(
                column=name,
                values=int(calibrated.comparison.values()[i]),
                statistic=judged[name].statistic,
                threshold=float(calibrated.thresholds.shift[i]),
                drifted=judged[name].drifted,
            )


def _missing(calibrated: "Calibrated", judged: "Mapping[str, ColumnVerdict]") -> Iterator[MissingDrift]:
    from monitoring.drift.comparison import MISSING

    share, usual = calibrated.comparison.shares()
    for i, name in enumerate(calibrated.comparison.names):
        if name + MISSING in judged:
            yield MissingDrift(
                column=name,
                share=float(share[i]),
                reference_share=float(usual[i]),
                threshold=float(calibrated.thresholds.missing[i]),
                drifted=judged[name + MISSING].drifted,
            )


def _summary(columns: Sequence[ColumnDrift], missing: Sequence[MissingDrift], rows: int) -> str:
    from monitoring.drift.comparison import MISSING

    moved = [column.column for column in columns if column.drifted]
    moved += [column.column + MISSING for column in missing if column.drifted]
    watched = len(columns) + len(missing)
    usual = f"beyond what an undrifted window of {rows:,} predictions shows"
    if not moved:
        return f"quiet: none of {watched} watched columns is {usual}"
    named = ", ".join(moved[:_NAMED]) + (", …" if len(moved) > _NAMED else "")
    verb = "is" if len(moved) == 1 else "are"
    return f"drifted: {len(moved)} of {watched} watched columns {verb} {usual} ({named})"


def _result(params: Params, window: "Window", summary: str) -> Result:
    return Result(
        dataset=params.dataset,
        task=params.task,
        model=params.model,
        start=params.start,
        end=params.end,
        n=window.predictions,
        judged=0,
        n_ad_hoc=0,
        drifted=False,
        summary=summary,
    )


def runtime_inputs(params: Mapping[str, Any], settings: Settings) -> Iterator[Context]:
    """The served version, its training set and the prediction log, where no log is named."""
    if {"dataset", "task"} <= params.keys() and "predictions" not in params:
        model = ModelRef.model_validate(params["model"]) if "model" in params else None
        yield Context(monitoring_inputs.drift_inputs(settings, params["dataset"], params["task"], model))


STAGE = Stage(
    Params,
    Result,
    run,
    display_name="look for drift",
    summary=lambda r: str(r.summary),
    runtime_inputs=runtime_inputs,
)
