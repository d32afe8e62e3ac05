"""Training progress: step, loss and time left, logged every few seconds."""

import logging
import time
from collections.abc import Callable

_FIRST, _EVERY = 2.0, 10.0
"""Seconds until the first line, and between lines: a terminal shows the newest, a pipe shows them all."""


class StepLog:
    """Logs how far a fit is. The time left is what the remaining steps take at the pace of this process so far."""

    def __init__(
        self,
        log: logging.Logger,
        unit: str,
        total: int,
        done: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``done`` of ``total`` steps were made before, by a process that was killed."""
        self._log, self._unit, self._total, self._before, self._clock = log, unit, total, done, clock
        self._started = clock()
        self._next = self._started + _FIRST

    def step(self, done: int, loss: float) -> None:
        """Logs progress after a step, once in a while; ``done`` counts all steps so far."""
        now = self._clock()
        if now < self._next:
            return
        self._next = now + _EVERY
        left = (now - self._started) / max(1, done - self._before) * (self._total - done)
        self._log.info(
            "%s %d of %d, loss %.4f, %s left", self._unit, done, self._total, loss, _duration(left)
        )


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
