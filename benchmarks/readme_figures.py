"""Runs every benchmark, and compares each figure of README and docs/measured.md with what was printed (``make bench``).

A benchmark prints such a figure on a line of its own, ``figure: WHAT = NUMBER``. The pages round, and another machine
measures something else: a number counts as shown where a printed one is within ``TOLERANCE`` of it.
"""

import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

FOLDER = Path(__file__).parent
PAGES = (FOLDER.parent / "README.md", FOLDER.parent / "docs" / "measured.md")
"""With tables of figures."""
TOLERANCE = 0.25
"""Of a page's number."""
HEADER = "| what | figure | aim | script |"
ROW = r"^\| (.+?) \| (.+?) \|(?: .+? | )\| `(\w+\.py)` \|$"
"""Of a table with that header; a figure without an aim has an empty one."""


class Row(NamedTuple):
    """A row of one of a page's tables of figures."""

    what: str
    numbers: tuple[float, ...]
    script: str


class Printed(NamedTuple):
    """A figure that a benchmark printed."""

    what: str
    value: float


def rows(text: str) -> Iterator[Row]:
    """The rows of tables whose last column names a script; intervals, aims and code are no figures."""
    for what, figures, script in re.findall(ROW, text, re.MULTILINE):
        bare = re.sub(r"`[^`]*`|\[[^\]]*\]", "", figures).replace("−", "-")
        numbers = re.findall(r"(?<![\w.])-?\d+(?:\.\d+)?", bare)
        yield Row(what, tuple(map(float, numbers)), script)


def printed(output: str) -> tuple[Printed, ...]:
    """The figures in what a benchmark printed."""
    found = re.findall(r"^figure: (.+) = (-?[\d.]+)$", output, re.MULTILINE)
    return tuple(Printed(what, float(value)) for what, value in found)


def nearest(number: float, figures: Sequence[Printed]) -> Printed | None:
    """The printed figure that a number of a page is most likely to stand for."""
    return min(figures, key=lambda figure: abs(figure.value - number), default=None)


def compare(table: Sequence[Row], figures: Mapping[str, Sequence[Printed]]) -> tuple[Table, int]:
    """Every number of the pages beside what was printed, and how many of them nothing shows."""
    shown, missing = Table("script", "page", "printed", "what was printed", "", box=None), 0
    for row in table:
        for number in row.numbers:
            near = nearest(number, figures.get(row.script, ()))
            holds = near is not None and abs(near.value - number) <= TOLERANCE * abs(number)
            missing += not holds
            told = (f"{near.value:g}", near.what) if near else ("nothing", "")
            shown.add_row(row.script, f"{number:g}", *told, "" if holds else "differs")
    return shown, missing


def run(script: Path) -> str:
    """A benchmark's output, which is shown as it comes."""
    print(f"== {script.name}", flush=True)
    command = [sys.executable, str(script)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            print(line, end="", flush=True)
            lines.append(line)
    if process.returncode:
        raise SystemExit(f"{script.name} ended with {process.returncode}.")
    return "".join(lines)


def main() -> None:
    scripts = [file for file in sorted(FOLDER.glob("*.py")) if file != Path(__file__)]
    figures = {script.name: printed(run(script)) for script in scripts}
    table, missing = compare([row for page in PAGES for row in rows(page.read_text())], figures)
    Console().print(table)
    if missing:
        raise SystemExit(f"{missing} numbers of README and docs/measured.md are not what was printed here.")


if __name__ == "__main__":
    main()
