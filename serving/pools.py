"""Bounded pools of threads: long work keeps nothing else waiting, and is refused beyond a bound."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from mediscale.core.errors import BusyError

T = TypeVar("T")


class Pool:
    """Threads for one kind of work, and how many calls may be in it at a time, running or waiting."""

    def __init__(self, what: str, threads: int, most: int) -> None:
        """``what`` is the plural that the sentence of a refusal begins with."""
        self._what, self._most, self._calls = what, most, 0
        self._threads = ThreadPoolExecutor(threads, what.replace(" ", "-"))

    async def run(self, work: Callable[[], T]) -> T:
        """Runs a call in a thread of the pool, and returns its result.

        Raises:
            BusyError: as many calls as there may be are in the pool already; the work was not begun.
        """
        if self._calls >= self._most:
            raise BusyError(f"{self._most} {self._what} are being worked on already; ask again in a moment.")
        self._calls += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        finally:
            self._calls -= 1

    def close(self) -> None:
        """Ends the threads after what they are at."""
        self._threads.shutdown()
