"""The retrain verdict: drift that lasts, and is there now.

At least k of the last n judged windows drifted *and* the newest one did: a single bad night does not start a training,
and a drift that is over does not either. Windows that share predictions count once. Where outcomes have matured there
are further reasons: the answers rank patients worse than the held-out evidence promised, without overlap of intervals;
or a figure of the newest measured window, a subgroup's too, lies beyond what was promised (``performance_series``).
"""

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, Self

from pydantic import Field, NaiveDatetime, model_validator

from mediscale.core.caller import now
from mediscale.core.errors import NotFoundError, UsageError
from mediscale.core.refs import Frozen, ModelRef, TableRef
from mediscale.core.settings import Settings
from mediscale.core.stage import Context, Stage
from mediscale.core.tables import PREDICTIONS
from mediscale.core.tasks import TaskName
from mediscale.storage import calls, lake
from mediscale.storage.logged_predictions import Question
from monitoring import monitoring_inputs
from monitoring import outcomes as performance
from monitoring.drift import drift, judged_windows
from monitoring.outcomes import Performance
from monitoring.performance_figures import PerformanceAlarm


class Params(Frozen):
    dataset: str
    task: TaskName
    windows: tuple[drift.Result, ...] = Field(min_length=1)
    """Of one model version, oldest first."""
    k: int = Field(2, ge=1)
    n: int = Field(3, ge=1)
    predictions: TableRef | None = None
    """With ``labels``, ``as_of`` and ``held_out_auroc_low``: judges the outcomes of the windows' span too."""
    labels: TableRef | None = None
    as_of: NaiveDatetime | None = None
    """Outcomes that became certain later are unknown."""
    held_out_auroc_low: float | None = None
    """The least that the version's evidence promised: its estimate is of a sample too."""

    performance_alarms: tuple[PerformanceAlarm, ...] = ()
    """Of the newest window whose outcomes have all matured."""

    @model_validator(mode="after")
    def _possible(self) -> Self:
        outcomes = (self.predictions, self.labels, self.as_of, self.held_out_auroc_low)
        if None in outcomes and any(given is not None for given in outcomes):
            raise ValueError("predictions, labels, as_of and held_out_auroc_low belong together")
        if self.k > self.n:
            raise ValueError(f"k ({self.k}) must not exceed n ({self.n})")
        return self


class Result(Frozen):
    retrain: bool
    reason: str
    """One sentence."""
    performance: Performance | None = None
    """Where outcomes were asked for."""


def run(params: Params, settings: Settings, key: str) -> Result:  # noqa: ARG001 - a stage's signature
    """Weighs the windows, and the outcomes where they are given.

    Raises:
        UsageError: the windows are of other data or tasks, of several model versions, or not in the order of time.
    """
    _refuse_mixed(params)
    lasting, because = _of_windows(params)
    fallen = bool(params.performance_alarms)
    because = "; ".join([because, *(alarm.sentence for alarm in params.performance_alarms)])
    matured = _of_outcomes(params, settings)
    if matured is None or params.held_out_auroc_low is None:
        return Result(retrain=lasting or fallen, reason=f"{because}.")
    worse = matured.is_below(params.held_out_auroc_low)
    outcomes = (
        f"{matured.summary}, {'below' if worse else 'not below'} the {params.held_out_auroc_low:.3f} that held-out "
        "patients promised at least"
    )
    return Result(retrain=lasting or fallen or worse, reason=f"{because}; {outcomes}.", performance=matured)


def _of_windows(params: Params) -> tuple[bool, str]:
    model, last = params.windows[0].model, _apart(params.windows)[: params.n]
    if not last:
        return False, f"no window of {model} held predictions enough to be judged"
    drifted, newest = sum(window.drifted for window in last), last[0].drifted
    now = "the newest one did" if newest else "the newest one did not"
    rule = f"the rule: at least {params.k} of {params.n}, and the newest"
    because = f"{drifted} of the last {len(last)} judged windows of {model} drifted and {now} ({rule})"
    return drifted >= params.k and newest, because


def _apart(windows: tuple[drift.Result, ...]) -> list[drift.Result]:
    """The newest judged window, the newest that ended before it began, and so on: a bad night in three windows is one
    witness."""
    apart: list[drift.Result] = []
    for window in reversed(windows):
        if window.judged and (not apart or window.end <= apart[-1].start):
            apart.append(window)
    return apart


def _of_outcomes(params: Params, settings: Settings) -> Performance | None:
    if params.predictions is None or params.labels is None or params.as_of is None:
        return None
    span = params.windows[0].start, max(window.end for window in params.windows)
    question = Question(params.windows[0].model, params.task, *span)
    return performance.measure(settings, params.predictions, params.labels, question, params.as_of)


def _refuse_mixed(params: Params) -> None:
    strangers = sum((w.dataset, w.task) != (params.dataset, params.task) for w in params.windows)
    if strangers:
        raise UsageError(
            f"{strangers} of {len(params.windows)} windows are not of {params.dataset}'s {params.task}; "
            "give only that task's windows."
        )
    versions = {window.model for window in params.windows}
    if len(versions) > 1:
        raise UsageError(
            f"The windows are of {len(versions)} model versions; give only those of the version that is served."
        )
    starts = [window.start for window in params.windows]
    if starts != sorted(starts):
        raise UsageError("The windows are not in the order of time; give the oldest first.")


def retrain_inputs(settings: Settings, dataset: str, task: TaskName, now: datetime) -> dict[str, Any]:
    """Parameters of this stage: every window of the served version that was judged, oldest first; of a window that was
    judged twice the later judgement. With them the outcomes that are certain ``now``, where there are labels.

    Raises:
        NotFoundError: no version is served, or no window of it was judged.
    """
    model = monitoring_inputs.version(settings, dataset, task)
    windows = judged_windows.of_version(settings, dataset, task, model)
    if not windows:
        raise NotFoundError(
            f"No window of {model}'s predictions was judged yet; run `mediscale drift` first."
        )
    alarms = _performance_alarms(settings, dataset, task, model)
    return {"windows": windows, **alarms, **_matured_outcomes(settings, dataset, task, model, now)}


def _performance_alarms(settings: Settings, dataset: str, task: TaskName, model: ModelRef) -> dict[str, Any]:
    """Of the version's newest series, where there is one."""
    series = calls.newest_night(settings, "performance_series", dataset, task)
    if series is None or ModelRef.model_validate(series.params["model"]) != model:
        return {}
    return {"performance_alarms": series.result["performance_alarms"]}


def _matured_outcomes(
    settings: Settings, dataset: str, task: TaskName, model: ModelRef, now: datetime
) -> dict[str, Any]:
    labelled = calls.newest_night(settings, "labels", dataset, task)
    promised = [
        m.result["metrics"].get("auroc_low")
        for m in calls.of_stage(settings, "evaluate")
        if ModelRef.model_validate(m.params["model"]) == model
    ]
    if labelled is None or not promised or promised[-1] is None:
        return {}
    return {
        "predictions": lake.latest(settings, dataset, PREDICTIONS.name),
        "labels": labelled.result["labels"],
        "as_of": now,
        "held_out_auroc_low": promised[-1],
    }


def runtime_inputs(given: Mapping[str, Any], settings: Settings) -> Iterator[Context]:
    """The judged windows of the served version and the outcomes that are certain now, where no windows are named."""
    if {"dataset", "task"} <= given.keys() and "windows" not in given:
        yield Context(retrain_inputs(settings, given["dataset"], given["task"], now()))


STAGE = Stage(
    Params,
    Result,
    run,
    display_name="retrain or keep",
    summary=lambda r: str(r.reason),
    runtime_inputs=runtime_inputs,
)
