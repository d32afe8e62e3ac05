"""Challengers: risk models that answer beside the one in production, each compared with it on the very same request.

Both are asked in one thread, one after the other, so that what else the machine does falls on both. The version in
production is asked first: its answer is there when the challenger's fails, is no probability or does not come in time.
"""

import asyncio
import math
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import replace

from mediscale.core.tasks import TaskName
from serving.log.logged_answers import Prediction
from serving.risk.served import ServedVersion
from serving.schemas import Answer, TaskRisk
from serving.traffic.canary_analysis import CanaryAnalysis, Comparison, TimedAnswer, cause
from serving.traffic.splits import Split

SHIFT_ODDS = math.log(4)
"""A risk whose odds differ by more than this factor from those of the version in production is another one."""

Computed = tuple[Answer, list[Prediction]]
Compute = Callable[[], Computed]


class Challengers(CanaryAnalysis[ServedVersion]):
    """Risk models that answer beside the one in production."""

    failed = "failed, were no probability or did not come in time"
    shifted = "were risks with odds more than 4 times above or below those of the version in production"

    async def answer(
        self, incumbent: Compute, challengers: Sequence[tuple[Split[ServedVersion], Compute]]
    ) -> Computed:
        """The answer and rows for the log: the challengers' in place of the version in production's, or beside it.

        Raises:
            Exception: whatever asking the version in production raises, and never because of a challenger.
        """
        computes = [incumbent, *(compute for _, compute in challengers)]
        first, *others = self.start(computes)
        timed = await asyncio.wrap_future(first)
        computed = timed.value
        for (split, _), future in zip(challengers, others, strict=True):
            before = _risk_of(split.traffic.task, computed[0])
            # The task may not be asked then or has no input here, or a points score answered: nothing to compare with.
            if before is None or before.model != split.traffic.model:
                continue
            limit = self.limit(timed.seconds)
            outcome = await _outcome(future, limit)
            self.observe(split, _comparison(split, before, timed.seconds, outcome, limit))
            computed = _merged(split, computed, outcome)
            # The thread hangs, so that what it would have asked next is not judged.
            if isinstance(outcome, TimeoutError):
                break
        return computed


async def _outcome(
    future: "Future[TimedAnswer[Computed]]", seconds: float
) -> TimedAnswer[Computed] | Exception:
    try:
        return await asyncio.wait_for(asyncio.wrap_future(future), seconds)
    except Exception as error:
        return error


def _comparison(
    split: Split[ServedVersion],
    before: TaskRisk,
    seconds: float,
    outcome: TimedAnswer[Computed] | Exception,
    limit: float,
) -> Comparison:
    if isinstance(outcome, Exception):
        return Comparison(before.version, (seconds, math.inf), cause(outcome, limit))
    after = _probability(split, outcome)
    if after is None:
        return Comparison(before.version, (seconds, math.inf), "no probability")
    shifted = abs(_log_odds(after.risk) - _log_odds(before.risk)) > SHIFT_ODDS
    return Comparison(before.version, (seconds, outcome.seconds), shifted=shifted)


def _probability(split: Split[ServedVersion], outcome: TimedAnswer[Computed] | Exception) -> TaskRisk | None:
    """The challenger's risk; None where it raised, gave none, or one that is no probability."""
    if isinstance(outcome, Exception):
        return None
    risk = _risk_of(split.traffic.task, outcome.value[0])
    if risk is None or not 0 <= risk.risk <= 1:
        return None
    return risk if all(math.isfinite(factor.contribution) for factor in risk.factors) else None


def _merged(
    split: Split[ServedVersion], computed: Computed, outcome: TimedAnswer[Computed] | Exception
) -> Computed:
    """A canary's answer takes the place of the other one, a shadow's is only logged."""
    answer, logged = computed
    task = split.traffic.task
    if isinstance(outcome, Exception) or _probability(split, outcome) is None:
        return computed
    theirs, rows = outcome.value
    if split.traffic.mode == "shadow":
        return answer, [*logged, *(replace(row, arm="shadow") for row in rows)]
    risks = tuple(
        _risk_of(task, theirs) or risk if risk.task == task else risk for risk in answer.predictions
    )
    return replace(answer, predictions=risks), [*(row for row in logged if row.task != task), *rows]


def _risk_of(task: TaskName, answer: Answer) -> TaskRisk | None:
    return next((risk for risk in answer.predictions if risk.task == task), None)


def _log_odds(risk: float) -> float:
    bounded = min(max(risk, 1e-6), 1 - 1e-6)
    return math.log(bounded / (1 - bounded))
