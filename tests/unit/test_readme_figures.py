"""The figures of README and docs/measured.md: each has a script that prints it, and a difference is told."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
BENCHMARKS = ROOT / "benchmarks"


@pytest.fixture(scope="module")
def figures() -> ModuleType:
    spec = importlib.util.spec_from_file_location("readme_figures", BENCHMARKS / "readme_figures.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("page", ["README.md", "docs/measured.md"])
def test_every_row_has_numbers_and_a_script_that_prints_figures(figures: ModuleType, page: str) -> None:
    assert ROOT / page in figures.PAGES
    text = (ROOT / page).read_text()
    rows = list(figures.rows(text))
    tables = [part for part in text.split("\n\n") if part.startswith(figures.HEADER)]
    assert len(rows) == sum(len(table.splitlines()) - 2 for table in tables) > 2
    for row in rows:
        assert row.numbers, row.what
        assert "figure: " in (BENCHMARKS / row.script).read_text(), row.script


def test_a_number_of_a_page_is_held_against_what_was_printed(figures: ModuleType) -> None:
    (row,) = figures.rows(
        "| speed | 0.56 of it; in `code=2` and [0.5, 0.6] none; the other −0.18 | 7, **missed** | `job.py` |"
    )
    assert row == ("speed", (0.56, -0.18), "job.py")
    printed = figures.printed("noise = 1\nfigure: CPU of a / b = 0.60\nfigure: c = -0.20\n")
    assert printed == (("CPU of a / b", 0.6), ("c", -0.2))
    assert figures.compare([row], {"job.py": printed})[1] == 0
    assert figures.compare([row], {"job.py": printed[:1]})[1] == 1
    assert figures.compare([row], {})[1] == 2
