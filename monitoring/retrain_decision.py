"""The retrain verdict: drift that lasts, and is there now, or outcomes that are worse than was promised.

At least k of the last n judged windows drifted *and* the newest one did: a single bad night does not start a training,
and a drift that is over does not either. Windows that share predictions count once. What became of the patients is read
from the performance series alone (``performance_series``): a figure of the newest window whose outcomes have matured, a
subgroup's too, whose whole interval lies beyond what was promised.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Self

from pydantic import Field, model_validator

from mediscale.core.errors import NotFoundError, UsageError
from mediscale.core.refs import Frozen, ModelRef
from mediscale.core.settings import Settings
from mediscale.core.stage import Context, Stage
from mediscale.core.tasks import TaskName
from mediscale.storage import calls
from monitoring import monitoring_inputs
from monitoring.drift import drift, judged_windows
from monitoring.performance_figures import PerformanceAlarm


class Params(Frozen):
    dataset: str
    task: TaskName
    windows: tuple[drift.Result, ...] = Field(min_length=1)
    """Of one model version, oldest first."""
    k: int = Field(2, ge=1)
    n: int = Field(3, ge=1)
    performance_alarms: tuple[PerformanceAlarm, ...] = ()
    """Of the newest window whose outcomes have all matured."""

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.k > self.n:
            raise ValueError(f"k ({self.k}) must not exceed n ({self.n})")
        return self


class Result(Frozen):
    retrain: bool
    reason: str
    """One sentence."""


def run(params: Params, settings: Settings, key: str) -> Result:  # noqa: ARG001 - a stage's signature
    """Weighs the windows of drift, and the alarms of the performance series.

    Raises:
        UsageError: the windows are of other data or tasks, of several model versions, or not in the order of time.
    """
    _refuse_mixed(params)
    lasting, because = _of_windows(params)
    because = "; ".join([because, *(alarm.sentence for alarm in params.performance_alarms)])
    return Result(retrain=lasting or bool(params.performance_alarms), reason=f"{because}.")


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


def retrain_inputs(settings: Settings, dataset: str, task: TaskName) -> dict[str, Any]:
    """Parameters of this stage: every window of the served version that was judged, oldest first; of a window that was
    judged twice the later judgement. With them the alarms of the version's newest performance series.

    Raises:
        NotFoundError: no version is served, or no window of it was judged.
    """
    model = monitoring_inputs.watched_version(settings, dataset, task)
    windows = judged_windows.of_version(settings, dataset, task, model)
    if not windows:
        raise NotFoundError(
            f"No window of {model}'s predictions was judged yet; run `mediscale drift` first."
        )
    return {"windows": windows, **_performance_alarms(settings, dataset, task, model)}


def _performance_alarms(settings: Settings, dataset: str, task: TaskName, model: ModelRef) -> dict[str, Any]:
    """The performance alarms of the version's newest series; nothing where there is none."""
    series = calls.newest_night(settings, "performance_series", dataset, task)
    if series is None or ModelRef.model_validate(series.params["model"]) != model:
        return {}
    return {"performance_alarms": series.result["performance_alarms"]}


def runtime_inputs(params: Mapping[str, Any], settings: Settings) -> Iterator[Context]:
    """The judged windows of the served version and the alarms of its series, where no windows are named."""
    if {"dataset", "task"} <= params.keys() and "windows" not in params:
        yield Context(retrain_inputs(settings, params["dataset"], params["task"]))


STAGE = Stage(
    Params,
    Result,
    run,
    display_name="retrain or keep",
    summary=lambda r: str(r.reason),
    runtime_inputs=runtime_inputs,
)
