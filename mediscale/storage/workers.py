"""Pieces of work beside each other: in processes of this machine, or in the tasks of a Spark cluster.

Which it is, the settings say; a function and its pieces are the same on both, and so is what it returns.
"""

import multiprocessing
import os
import re
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import cache
from itertools import islice
from multiprocessing.connection import wait
from pathlib import Path
from typing import TypeVar

from mediscale.core import errors
from mediscale.core.errors import MediscaleError
from mediscale.core.settings import Settings
from mediscale.storage import spark

Piece = TypeVar("Piece")
Done = TypeVar("Done")

_IN_ONE_JOB = 64
"""Pieces that a driver hands to a cluster at once, for it holds them in memory."""


def cores(settings: Settings) -> int:
    """How many cores work has on this machine: as many as a local Spark would."""
    stated = re.fullmatch(r"local\[(\d+)\]", settings.spark_master)
    return int(stated[1]) if stated else _granted_cores(_CONTAINER)


_CONTAINER = Path("/sys/fs/cgroup/cpu.max")
"""What a container may use of its machine's cores (control groups, version 2), which ``os.cpu_count`` does not read."""


def _granted_cores(limit: Path) -> int:
    """The machine's cores, or a container's limit where that is less: with a process for each core of a large node, a
    small container would need the memory of all."""
    machine = os.cpu_count() or 1
    quota, _, period = limit.read_text().partition(" ") if limit.exists() else ("max", "", "")
    return machine if quota == "max" else max(1, min(machine, int(quota) // int(period)))


def map_pieces(
    settings: Settings, function: Callable[[Piece], Done], pieces: Iterable[Piece], processes: int
) -> Iterator[Done]:
    """What ``function`` returns for each piece, in their order.

    On one machine as many as ``processes`` work, or this process alone where that is one. Function, pieces and results
    travel between processes, so they are small or worth it, and a worker process can import the function.

    Raises:
        MediscaleError: what the function raised, or a worker process was killed.
    """
    if not spark.is_local(settings):
        return _on_cluster(settings, function, pieces)
    return map(function, pieces) if processes < 2 else _in_processes(function, pieces, processes)


def _in_processes(
    function: Callable[[Piece], Done], pieces: Iterable[Piece], processes: int
) -> Iterator[Done]:
    pool, waiting = _pool(processes), deque[Future[Done]]()
    try:
        for piece in pieces:
            waiting.append(pool.submit(function, piece))
            if len(waiting) > 2 * processes:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except BrokenProcessPool as error:
        _pool.cache_clear()
        raise MediscaleError(
            "A worker process was killed or ended; finished stages are kept, the same command goes on. If the machine "
            "lacked memory, let fewer work beside each other, as with MEDISCALE_SPARK_MASTER=local[1]."
        ) from error
    finally:
        for future in waiting:
            future.cancel()


@cache
def _pool(processes: int) -> ProcessPoolExecutor:
    """The pool of worker processes, kept as long as this process: a worker imports for a second before its first piece.

    They are spawned and not forked: this process has threads of Arrow and DuckDB, whose locks a fork would inherit.
    """
    return ProcessPoolExecutor(
        processes, mp_context=multiprocessing.get_context("spawn"), initializer=_live_no_longer_than_parent
    )


def _live_no_longer_than_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _on_cluster(
    settings: Settings, function: Callable[[Piece], Done], pieces: Iterable[Piece]
) -> Iterator[Done]:
    """A task for each piece: executors come one after the other, and are not counted yet."""
    context, left = spark.session(settings).sparkContext, iter(pieces)
    while at_once := list(islice(left, _IN_ONE_JOB)):
        with unwrap_spark_errors():
            done = context.parallelize(at_once, len(at_once)).map(function).collect()
        yield from done


@contextmanager
def unwrap_spark_errors() -> Iterator[None]:
    """Raises a ``MediscaleError`` of a Spark worker again without Spark's wrapping; other errors pass unchanged."""
    try:
        yield
    except Exception as error:
        own = _own_error(str(error))
        if own is None:
            raise
        raise own from None


def _own_error(text: str) -> MediscaleError | None:
    for line in reversed(text.splitlines()):
        head, _, message = line.strip().partition(": ")
        module, _, name = head.rpartition(".")
        kind = getattr(errors, name, None) if module == errors.__name__ else None
        if isinstance(kind, type) and issubclass(kind, MediscaleError):
            return kind(message)
    return None
