"""What the pages tell a reader to set is taken by the stage that they name."""

import re
from pathlib import Path

import pytest

from mediscale.cli import verbs
from mediscale.pipeline import call

ROOT = Path(__file__).parents[2]
SETTING = re.compile(r"--set ([a-z_]+\.[a-z_]+=[^\s`|\]]+)")  # capitals stand for something else
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
LINES = [
    tuple(found)
    for page in PAGES
    for line in page.read_text().splitlines()
    if (found := SETTING.findall(line))
]


def test_some_are_documented() -> None:
    assert len(LINES) >= 2


@pytest.mark.parametrize("settings", LINES, ids=lambda line: " ".join(line))
def test_a_documented_setting_is_taken(settings: tuple[str, ...]) -> None:
    call.check(verbs.config_of(settings))
