"""Progress of a run: what each stage does as it starts, what it logs, and a line as it ends."""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console
from rich.markup import escape
from rich.status import Status

from mediscale.core import logs
from mediscale.core.plural import counted

_INDENT = " " * 11
"""Of a line that belongs to no finished stage: as wide as the column of seconds."""


@dataclass
class Step:
    """One stage call of this run."""

    name: str
    seconds: float = 0.0
    cached: bool = False
    summary: str = ""


class _ShowRecords(logging.Handler):
    """What a stage logs: beside the spinner of a terminal, and as lines of their own in a pipe.

    A warning stays in both.
    """

    def __init__(self, console: Console, status: Status, name: str) -> None:
        super().__init__()
        self._console, self._status, self._name = console, status, name

    def emit(self, record: logging.LogRecord) -> None:
        sentence = record.getMessage()
        if record.levelno >= logging.WARNING or not self._console.is_terminal:
            self._console.print(f"{_INDENT}{self._name}: {sentence}", soft_wrap=True, markup=False)
        else:
            self._status.update(_beside_spinner(self._name, sentence))


@dataclass
class Progress:
    """Prints to standard error, so that a pipe gets only results."""

    console: Console = field(default_factory=lambda: Console(stderr=True, highlight=False))
    steps: list[Step] = field(default_factory=list)

    @contextmanager
    def step(self, name: str, what: str = "") -> Iterator[Step]:
        """Says what begins, shows what the block logs, and leaves one line when it ends.

        On a terminal all but the last are one line with a spinner; in a pipe they are lines.
        """
        step = Step(name)
        started = time.perf_counter()
        if what and not self.console.is_terminal:
            self.note(f"{name}: {what} …")
        with (
            self.console.status(_beside_spinner(name, f"{what} …" if what else "…")) as status,
            logs.handled_by(_ShowRecords(self.console, status, name)),
        ):
            yield step
        step.seconds = time.perf_counter() - started
        self.steps.append(step)
        clock = " cached" if step.cached else f"{step.seconds:6.1f}s"
        self.console.print(f"  {clock}  {name:<24} {step.summary}", soft_wrap=True, markup=False)

    def note(self, sentence: str) -> None:
        """A line that belongs to no finished stage."""
        self.console.print(f"{_INDENT}{sentence}", soft_wrap=True, markup=False)

    @property
    def total(self) -> str:
        """How long all of it took; what each stage did has been printed as it ended."""
        cached = sum(step.cached for step in self.steps)
        seconds = sum(step.seconds for step in self.steps)
        found = f", {cached} of them found as an earlier run left them" if cached else ""
        return f"{counted(len(self.steps), 'call')} of stages in {seconds:.0f} s{found}"


def _beside_spinner(name: str, sentence: str) -> str:
    return escape(f"{name}: {sentence}")
