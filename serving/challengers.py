"""Challengers: versions that answer beside the one in production, each compared with it on the very same request.

Both are asked in one thread, one after the other, so that what else the machine does falls on both. The version in
production is asked first: its answer is there when the challenger's fails, is no probability or does not come in time.
"""

import asyncio
import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from datetime import datetime

from mediscale.core.tasks import TaskName
from serving.prediction_log import Prediction
from serving.prometheus_metrics import Metrics
from serving.schemas import Answer, TaskRisk
from serving.sequential_test import Signal
from serving.splits import Split, Splits

LIMIT_SECONDS = 1.0
"""How long a challenger may take, beside ``SLOW_TIMES`` as long as the version in production took."""
IN_FLIGHT = 16
"""Requests that challengers work on at a time; beyond them the version in production answers alone."""
SLOW_TIMES = 3.0
"""A challenger that takes more than so many times as long was slow."""
SHIFT_ODDS = math.log(4)
"""A risk whose odds differ by more than this factor from those of the version in production is another one."""

Computed = tuple[Answer, list[Prediction]]
Compute = Callable[[], Computed]


@dataclass(frozen=True, slots=True)
class _Timed:
    computed: Computed
    seconds: float


class Challengers:
    """Asks them, and gives one up that is broken."""

    def __init__(self, splits: Splits, metrics: Metrics, clock: Callable[[], datetime]) -> None:
        self._splits, self._metrics, self._clock = splits, metrics, clock
        self._at_work = _AtWork()

    @property
    def have_room(self) -> bool:
        """Whether not too many requests are at work, some of which may hang."""
        return self._at_work.count < IN_FLIGHT

    async def answer(self, incumbent: Compute, challengers: Sequence[tuple[Split, Compute]]) -> Computed:
        """The answer and rows for the log: the challengers' in place of the version in production's, or beside it.

        Raises:
            Exception: whatever asking the version in production raises, and never because of a challenger.
        """
        computes = [incumbent, *(compute for _, compute in challengers)]
        first, *others = self._at_work.start(computes)
        timed = await asyncio.wrap_future(first)
        computed = timed.computed
        for (split, _), future in zip(challengers, others, strict=True):
            before = _risk_of(split.traffic.task, computed[0])
            if before is None:  # nothing that was given is an input of the task, or it may not be asked then
                continue
            if (
                before.model != split.traffic.model
            ):  # a points score answered: nothing that it can be held against
                continue
            outcome = await _outcome(future, LIMIT_SECONDS + SLOW_TIMES * timed.seconds)
            self._judge(split, before, timed.seconds, outcome)
            computed = _merged(split, computed, outcome)
            if isinstance(
                outcome, TimeoutError
            ):  # the thread hangs: what it would have asked next is not judged
                break
        return computed

    def _judge(self, split: Split, before: TaskRisk, seconds: float, outcome: _Timed | Exception) -> None:
        """Observes what both versions took and said, and gives the challenger up by the sequential test."""
        failure = _failure(split, outcome)
        signals: dict[Signal, bool] = {"failed": failure is not None}
        if isinstance(outcome, _Timed) and failure is None:
            after = _risk_of(split.traffic.task, outcome.computed[0])
            assert after is not None  # else it failed
            signals["slow"] = outcome.seconds > SLOW_TIMES * seconds
            signals["shifted"] = abs(_log_odds(after.risk) - _log_odds(before.risk)) > SHIFT_ODDS
            self._metrics.version_seconds.labels(before.task, before.version, "control").observe(seconds)
            of_challenger = self._metrics.version_seconds.labels(
                before.task, after.version, split.traffic.mode
            )
            of_challenger.observe(outcome.seconds)
        for name in (name for name, bad in signals.items() if bad):
            of = before.task, split.traffic.version, split.traffic.mode
            self._metrics.bad_answers.labels(*of, name).inc()
        signal = split.test.observe(signals)
        if signal is not None:
            self._splits.give_up(split, _REASONS[signal].format(*split.test.counts(signal)), self._clock())


_REASONS: Mapping[Signal, str] = {
    "failed": "{} of {} answers failed, were no probability or did not come in time.",
    "slow": f"{{}} of {{}} answers took more than {SLOW_TIMES:g} times as long as those of the version in production.",
    "shifted": "{} of {} risks had odds more than 4 times above or below those of the version in production.",
}


class _AtWork:
    """Threads in which versions are asked one after the other. They are daemons: one that hangs neither takes a pool's
    place nor keeps the process from ending."""

    def __init__(self) -> None:
        self.count, self._counting = 0, threading.Lock()

    def start(self, computes: Sequence[Compute]) -> "list[Future[_Timed]]":
        """A future of each, in a new thread; of those after a first one that fails nothing comes."""
        futures: list[Future[_Timed]] = [Future() for _ in computes]
        for future in futures:
            future.set_running_or_notify_cancel()  # nobody who stops waiting cancels it
        self._add(1)
        threading.Thread(target=self._work, args=(futures, computes), name="challenger", daemon=True).start()
        return futures

    def _work(self, futures: "Sequence[Future[_Timed]]", computes: Sequence[Compute]) -> None:
        for future, compute in zip(futures, computes, strict=True):
            _settle(future, compute)
            if futures[0].exception():
                break
        self._add(-1)

    def _add(self, change: int) -> None:
        with self._counting:
            self.count += change


def _settle(future: "Future[_Timed]", compute: Compute) -> None:
    begun = time.perf_counter()
    try:
        computed = compute()
    except Exception as error:
        future.set_exception(error)
    else:
        future.set_result(_Timed(computed, time.perf_counter() - begun))


async def _outcome(future: "Future[_Timed]", seconds: float) -> _Timed | Exception:
    try:
        return await asyncio.wait_for(asyncio.wrap_future(future), seconds)
    except Exception as error:
        return error


def _failure(split: Split, outcome: _Timed | Exception) -> str | None:
    if isinstance(outcome, Exception):
        return type(outcome).__name__
    risk = _risk_of(split.traffic.task, outcome.computed[0])
    if (
        risk is None
        or not 0 <= risk.risk <= 1
        or not all(math.isfinite(f.contribution) for f in risk.factors)
    ):
        return "NoProbability"
    return None


def _merged(split: Split, computed: Computed, outcome: _Timed | Exception) -> Computed:
    """A canary's answer takes the place of the other one, a shadow's is only logged."""
    answer, logged = computed
    task = split.traffic.task
    if isinstance(outcome, Exception) or _failure(split, outcome) is not None:
        return computed
    theirs, rows = outcome.computed
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
