"""Canary analysis: what the answers of a challenger show beside those of the version in production on the very same
requests, and when it is given up. Risk models and language models go by the same signals and the same sequential test.
"""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar, Generic, TypeVar

from mediscale.core.errors import failure_location
from serving.metrics.prometheus_metrics import Metrics
from serving.traffic.followed_versions import Version
from serving.traffic.sequential_test import Signal
from serving.traffic.splits import Split, Splits

LIMIT_SECONDS = 1.0
"""How long a challenger may take, beside ``SLOW_TIMES`` as long as the version in production took."""
IN_FLIGHT = 16
"""Requests that challengers work on at a time; beyond them the version in production answers alone."""
SLOW_TIMES = 3.0
"""A challenger that takes more than so many times as long was slow."""
_SLOW = f"took more than {SLOW_TIMES:g} times as long as those of the version in production"

T = TypeVar("T")
V = TypeVar("V", bound=Version)


@dataclass(frozen=True, slots=True)
class TimedAnswer(Generic[T]):
    """What a version computed, and how long it took."""

    value: T
    seconds: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """One request that both versions were asked."""

    incumbent: int
    """The version in production."""
    seconds: tuple[float, float]
    """That the version in production and the challenger took, for equal amounts of work."""
    failure: str = ""
    """Why the challenger gave no answer; the rest is unknown then."""
    shifted: bool = False
    """It says something else."""


class CanaryAnalysis(Generic[V]):
    """Asks challengers in threads of their own, and gives one up that is broken; each kind of model has its own."""

    failed: ClassVar[str]
    """What an answer is that failed, after "3 of 40 answers"."""
    shifted: ClassVar[str]
    """What one is that says something else."""

    def __init__(self, splits: Splits[V], metrics: Metrics, clock: Callable[[], datetime]) -> None:
        self._splits, self._metrics, self._clock = splits, metrics, clock
        self._reasons: Mapping[Signal, str] = {"failed": self.failed, "slow": _SLOW, "shifted": self.shifted}
        self._at_work, self._counting = 0, threading.Lock()

    @property
    def has_room(self) -> bool:
        """Whether not too many requests are at work, some of which may hang."""
        return self._at_work < IN_FLIGHT

    def limit(self, seconds: float) -> float:
        """How long a challenger may take where the version in production took so long."""
        return LIMIT_SECONDS + SLOW_TIMES * seconds

    def start(self, computes: Sequence[Callable[[], T]]) -> list[Future[TimedAnswer[T]]]:
        """A future of each, asked one after the other in a new thread; of those after a first that fails nothing comes.

        The threads are daemons: one that hangs neither takes a pool's place nor keeps the process from ending.
        """
        futures: list[Future[TimedAnswer[T]]] = [Future() for _ in computes]
        for future in futures:
            future.set_running_or_notify_cancel()  # nobody who stops waiting cancels it
        self._add(1)
        threading.Thread(target=self._work, args=(futures, computes), name="challenger", daemon=True).start()
        return futures

    def observe(self, split: Split[V], comparison: Comparison) -> None:
        """Counts what a request showed, and gives the challenger up by the sequential test."""
        task, mode, challenger = split.traffic.task, split.traffic.mode, split.traffic.version
        signals: dict[Signal, bool] = {"failed": bool(comparison.failure)}
        if not comparison.failure:
            before, after = comparison.seconds
            signals["slow"] = after > SLOW_TIMES * before
            signals["shifted"] = comparison.shifted
            self._metrics.version_seconds.labels(task, comparison.incumbent, "control").observe(before)
            self._metrics.version_seconds.labels(task, challenger, mode).observe(after)
        for name in (name for name, bad in signals.items() if bad):
            self._metrics.bad_answers.labels(task, challenger, mode, name).inc()
        signal = split.test.observe(signals)
        if signal is not None:
            bad, n = split.test.counts(signal)
            last = f" (the last one: {comparison.failure})" if signal == "failed" else ""
            self._splits.give_up(split, f"{bad} of {n} answers {self._reasons[signal]}{last}.", self._clock())

    def _work(self, futures: Sequence[Future[Any]], computes: Sequence[Callable[[], Any]]) -> None:
        for future, compute in zip(futures, computes, strict=True):
            _settle(future, compute)
            if futures[0].exception():
                break
        self._add(-1)

    def _add(self, change: int) -> None:
        with self._counting:
            self._at_work += change


def cause(error: Exception, limit: float) -> str:
    """Why an answer did not come, for whoever is to find the fault: kind and place, without a patient's values."""
    return f"none within {limit:.1f} s" if isinstance(error, TimeoutError) else failure_location(error)


def _settle(future: Future[TimedAnswer[T]], compute: Callable[[], T]) -> None:
    begun = time.perf_counter()
    try:
        computed = compute()
    except Exception as error:
        future.set_exception(error)
    else:
        future.set_result(TimedAnswer(computed, time.perf_counter() - begun))
