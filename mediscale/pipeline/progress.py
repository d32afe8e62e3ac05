"""What a person sees while the loop runs: a line per stage as it ends, and the table at the end."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console
from rich.table import Table


@dataclass
class Step:
    """One stage call of this run."""

    name: str
    seconds: float = 0.0
    cached: bool = False
    summary: str = ""


@dataclass
class Progress:
    """Prints to standard error, so that a pipe gets only results."""

    console: Console = field(default_factory=lambda: Console(stderr=True, highlight=False))
    steps: list[Step] = field(default_factory=list)

    @contextmanager
    def step(self, name: str) -> Iterator[Step]:
        """Shows a spinner on a terminal while the block runs, then one line that stays."""
        step = Step(name)
        started = time.perf_counter()
        with self.console.status(f"{name} …"):
            yield step
        step.seconds = time.perf_counter() - started
        self.steps.append(step)
        clock = " cached" if step.cached else f"{step.seconds:6.1f}s"
        self.console.print(f"  {clock}  {name:<24} {step.summary}", soft_wrap=True)

    def note(self, sentence: str) -> None:
        """A line that belongs to no stage."""
        self.console.print(f"           {sentence}", soft_wrap=True)

    def table(self) -> Table:
        """What each stage did and how long it took."""
        table = Table(box=None, pad_edge=False, header_style="bold")
        table.add_column("stage")
        table.add_column("seconds", justify="right")
        table.add_column("what it did")
        for step in self.steps:
            table.add_row(step.name, "cached" if step.cached else f"{step.seconds:.1f}", step.summary)
        total = sum(step.seconds for step in self.steps)
        table.add_row("total", f"{total:.1f}", "", style="bold")
        return table
