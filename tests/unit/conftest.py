"""The tier's rule, enforced: a unit test starts no process and calls no server, so no JVM, no Ray and no Airflow."""

import sys
from collections.abc import Iterator

import pytest

STARTS_A_PROCESS = {
    "subprocess.Popen",
    "os.fork",
    "os.forkpty",
    "os.exec",
    "os.posix_spawn",
    "os.spawn",
    "os.system",
}
"""Python's own audit events (PEP 578): Python code has no way around them."""


class Watch:
    """While a unit test runs, ends it at the first process that it starts or server that it connects to."""

    def __init__(self) -> None:
        self.on = False

    def __call__(self, event: str, arguments: tuple[object, ...]) -> None:
        if self.on and (_starts(event, arguments) or _connects(event, arguments)):
            pytest.fail(f"A unit test must not {event} {arguments}; move it to tests/component.")


def _starts(event: str, arguments: tuple[object, ...]) -> bool:
    """A process, other than the one that ctypes asks where the machine's libraries are."""
    return event in STARTS_A_PROCESS and arguments[:1] != ("/sbin/ldconfig",)


def _connects(event: str, arguments: tuple[object, ...]) -> bool:
    """To a host and a port, not to a file."""
    return event == "socket.connect" and isinstance(arguments[1], tuple)


WATCH = Watch()
sys.addaudithook(WATCH)  # for good: there is no way to remove one


def watched() -> Iterator[None]:
    WATCH.on = True
    try:
        return (yield)
    finally:
        WATCH.on = False


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup() -> Iterator[None]:
    """Fixtures included, but not their end: the session's own, such as Spark, end after the last test of all."""
    return (yield from watched())


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Iterator[None]:
    return (yield from watched())
