"""Rates: how often something may happen, by name, in this process's memory."""

import time
from collections import Counter
from math import ceil

from serving.security.principal import RefusedError


class Rates:
    """Counts by name within a window of time, which ends for all names at once.

    Not the library ``limits``: its storage in memory starts a thread every ten milliseconds, 85 µs of CPU a request.
    """

    def __init__(self, rate: str) -> None:
        """``rate`` is written as 20/minute."""
        number, _, unit = rate.partition("/")
        self._most, self._seconds = int(number), {"second": 1, "minute": 60, "hour": 3600}[unit]
        self._ends, self._counts = 0.0, Counter[str]()

    def take(self, name: str) -> bool:
        """Counts one more; whether it is within the rate."""
        self._begin_window()
        self._counts[name] += 1
        return self._counts[name] <= self._most

    def is_left(self, name: str) -> bool:
        """Whether one more would be within the rate; nothing is counted."""
        self._begin_window()
        return self._counts[name] < self._most

    def _begin_window(self) -> None:
        now = time.monotonic()
        if now >= self._ends:
            self._ends = now + self._seconds
            self._counts.clear()

    def refusal(self) -> RefusedError:
        """What is answered beyond the rate."""
        seconds = max(1, ceil(self._ends - time.monotonic()))
        return RefusedError(
            429,
            f"There are more requests than this server takes of you; ask again in {seconds} seconds.",
            Retry_After=str(seconds),
        )
