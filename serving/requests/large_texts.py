"""Large texts of requests: what one holds is read in a helper process, where it is nobody else's wait.

A body of two megabytes can be a hundred thousand names, which keep Python for half a second. The process is another one
than that of the notes, so that who sends a long body does not wait for who sends many notes.
"""

from collections.abc import Callable
from functools import partial
from typing import TypeVar

from serving.helper_process import HelperProcess
from serving.pools import Pool

R = TypeVar("R")
T = TypeVar("T", bytes, str)

SMALL = 2**12
"""Bytes or characters of a text that is read in the worker itself: whatever it holds takes about a millisecond."""
TEXTS = 16
"""Are read one after another; more than these at a time are answered 503."""


class LargeTexts:
    """Reads those of one worker process."""

    def __init__(self) -> None:
        self._process = HelperProcess()
        self._pool = Pool("large bodies", 1, TEXTS)

    async def read(self, work: Callable[[T], R], text: T, small: int = SMALL) -> R:
        """What a function of a module returns for a text.

        Raises:
            MediscaleError: as the function.
            BusyError: too many large texts wait, or the process ended meanwhile.
        """
        if len(text) <= small:
            return work(text)
        return await self._pool.run(partial(self._process.call, work, text))

    def close(self) -> None:
        """Ends the process; whoever still waits for it is refused."""
        self._process.close()
        self._pool.close()
