"""The retrain verdict: drift that lasts, and is there now.

At least k of the last n windows drifted *and* the newest one did: a single bad night does not start a training, and a
drift that is over does not either.
"""

from typing import Self

from pydantic import Field, model_validator

from mediscale.errors import UsageError
from mediscale.predictor import Task
from mediscale.refs import Frozen
from mediscale.settings import Settings
from monitoring import drift


class Params(Frozen):
    dataset: str
    task: Task
    windows: tuple[drift.Result, ...] = Field(min_length=1)
    """Judged windows of one model version, oldest first; those before the last n are not looked at."""
    k: int = Field(2, ge=1)
    n: int = Field(3, ge=1)

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
    """Reads nothing but its parameters.

    Raises:
        UsageError: the windows are of other data or tasks, of several model versions, or not in the order of time.
    """
    _refuse_mixed(params)
    last = params.windows[-params.n :]
    drifted = sum(window.drifted for window in last)
    now = "the newest one did" if last[-1].drifted else "the newest one did not"
    reason = (
        f"{drifted} of the last {len(last)} windows of {last[-1].model} drifted and {now} "
        f"(the rule: at least {params.k} of {params.n}, and the newest)"
    )
    return Result(retrain=drifted >= params.k and last[-1].drifted, reason=f"{reason}.")


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
