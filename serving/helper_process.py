"""Helper processes: processes of a worker for work on notes and on large bodies, which keeps no other request waiting.

One C call over a megabyte of text keeps every thread of its process from going on, the one that answers among them, and
the network of a version that reads notes takes a core. The worker starts a process when it first needs it, and a new
one where that was killed. It ends with its worker, however that ends, because it sees its connection close.

Calls and results are pickled by ``multiprocessing.connection``, between two processes of ours and nobody else: their
socket has no name, and neither ever reads a pickle from a file.
"""

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from queue import SimpleQueue
from typing import Any, TypeVar, TypeVarTuple, cast

from mediscale.core.errors import BusyError, MediscaleError, RemoteError, failure_location

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

NICENESS = 10
"""By how much the process gives way to those that answer."""
SECONDS = 60.0
"""A call that takes longer is given up: the longest note or body takes one, and others wait for it."""


class HelperProcess:
    """A process as its worker sees it: one call at a time."""

    def __init__(self) -> None:
        self._calling = threading.Lock()
        self._running: tuple[subprocess.Popen[bytes], Connection] | None = None
        self._closed = False

    @property
    def pid(self) -> int | None:
        """None where none runs: before the first call, and after the last."""
        return self._running[0].pid if self._running else None

    def call(self, work: Callable[[*Ts], T], *arguments: *Ts) -> T:
        """What a function of a module returns for the arguments there; both travel, so that they must be small.

        Raises:
            MediscaleError: as the function.
            RemoteError: the function failed otherwise.
            BusyError: the process ended meanwhile, the call took too long, or the worker ends.
        """
        with self._calling:
            if self._closed:
                raise BusyError("This server ends; ask again in a moment.")
            connection = self._connected()
            try:
                connection.send((work, arguments))
                if not connection.poll(SECONDS):
                    self._end()
                    raise BusyError(
                        f"What was sent took more than {SECONDS:g} seconds and was given up; send less."
                    )
                outcome = connection.recv()
            except (EOFError, OSError):
                self._end()
                raise BusyError(
                    "The process that reads what was sent ended, and another begins; ask again."
                ) from None
        if isinstance(outcome, Exception):
            raise outcome
        return cast("T", outcome)

    def close(self) -> None:
        """Ends the process; whoever still waits for it is refused."""
        self._closed = True
        if running := self._running:
            running[0].kill()
        with self._calling:
            self._end()

    def _connected(self) -> Connection:
        if self._running and self._running[0].poll() is not None:
            self._end()
        if self._running is None:
            ours, theirs = socket.socketpair()
            with theirs:
                self._running = _started(theirs.fileno()), Connection(ours.detach())
        return self._running[1]

    def _end(self) -> None:
        if self._running:
            process, connection = self._running
            self._running = None
            connection.close()
            process.kill()
            process.wait()


def _started(number: int) -> "subprocess.Popen[bytes]":
    """A process that imports from where this one does. A terminal's Ctrl-C reaches the worker, which ends it."""
    program = (
        f"import sys; sys.path[:] = {sys.path!r}; from serving.helper_process import serve; serve({number})"
    )
    return subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.DEVNULL, pass_fds=[number], process_group=0
    )


def serve(number: int) -> None:
    """What the process does, given its end of the connection: it works off calls until the other end closes."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # who stops all processes of a service stops the worker
    _give_way()
    connection = Connection(number)
    calls: SimpleQueue[tuple[Callable[..., object], tuple[object, ...]]] = SimpleQueue()
    threading.Thread(target=_work, args=(connection, calls), daemon=True).start()
    with suppress(EOFError, OSError):
        while True:
            calls.put(connection.recv())
    os._exit(0)


def _give_way() -> None:
    """Leaves the cores to the processes that answer, as far as the system lets it."""
    os.nice(NICENESS)
    if sys.platform == "linux":
        # Woken, it takes no core from a thread of the worker, which may hold Python's lock: for whole ticks of the
        # kernel (4 ms) the event loop had waited for that one. Its share of the cores stays that of its niceness.
        with suppress(OSError):  # a sandbox may refuse it, and notes are read all the same
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


def _work(connection: Connection, calls: "SimpleQueue[Any]") -> None:
    try:
        while True:
            work, arguments = calls.get()
            connection.send(_outcome(work, arguments))
    finally:
        os._exit(1)  # before a traceback could show what a call was about


def _outcome(work: Callable[..., object], arguments: tuple[object, ...]) -> object:
    try:
        return work(*arguments)
    except MediscaleError as error:
        return error
    except Exception as error:
        return RemoteError(failure_location(error))
