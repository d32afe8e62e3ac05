"""Several processes write one Delta table at the same moments, on a disk or in S3: no version and no row is lost."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from mediscale.core.settings import Settings
from mediscale.storage import lake, locks

pytestmark = [pytest.mark.timeout(7200), pytest.mark.soak]

PROGRAM = Path(__file__).with_name("delta_writer.py")
KINDS = ("replacing", "replacing", "appending", "appending")
PAIRS = ((0, 1), (1, 2), (2, 3))
"""Two that replace, one of each, two that append: who writes at the same moment, round after round."""


class Writer:
    """A process of its own."""

    def __init__(self, kind: str, settings: Settings, name: str) -> None:
        self.name, self.replaces = name, kind == "replacing"
        command = [sys.executable, str(PROGRAM), kind, str(settings.home), settings.lake, name]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def tell(self, table: str, number: int) -> None:
        assert self.process.stdin
        self.process.stdin.write(f"{table} {number}\n")
        self.process.stdin.flush()

    def answer(self) -> str:
        assert self.process.stdout
        return self.process.stdout.readline().strip()


@pytest.fixture(scope="module", params=["disk", pytest.param("s3", marks=pytest.mark.only_soak)])
def home(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    shared = Settings(home=tmp_path_factory.mktemp("shared"))
    if request.param == "disk":
        yield shared
        return
    with pytest.MonkeyPatch.context() as patch:
        for name, value in request.getfixturevalue("s3").items():
            patch.setenv(name, value)
        yield shared.model_copy(update={"lake": "s3://hospital/two-writers"})


@pytest.fixture(scope="module")
def writers(home: Settings) -> Iterator[list[Writer]]:
    with ExitStack() as stack:
        started = [Writer(kind, home, f"{kind}-{i}") for i, kind in enumerate(KINDS)]
        for writer in started:
            stack.enter_context(writer.process)
        assert [writer.answer() for writer in started] == ["ready"] * len(KINDS)
        yield started


def test_no_version_and_no_row_is_lost(home: Settings, writers: list[Writer], soak: bool) -> None:
    """Some replace the table's rows, as stages do, the others append to them."""
    rounds = 1000 if soak else 50
    written: dict[int, tuple[Writer, int]] = {}
    for number in range(1, rounds + 1):
        pair = [writers[i] for i in PAIRS[number % len(PAIRS)]]
        for writer in pair:
            writer.tell("bronze_a", number)
        written |= {int(writer.answer()): (writer, number) for writer in pair}
    newest = lake.latest(home, "hospital", "bronze_a")
    first = newest.version + 1 - 2 * rounds  # the version that made the table may hold no row
    assert first in (0, 1)
    assert sorted(written) == list(range(first, newest.version + 1))
    rows: set[tuple[str, int]] = set()
    for version in range(first, newest.version + 1):
        writer, number = written[version]
        rows = {(writer.name, number)} | (set() if writer.replaces else rows)
        held = lake.read(home, newest.model_copy(update={"version": version}))
        assert held.num_rows == len(rows)
        assert set(zip(held["file"].to_pylist(), held["line"].to_pylist(), strict=True)) == rows


def test_nobody_commits_while_another_holds_the_lease(home: Settings, writers: list[Writer]) -> None:
    """Who waits for another's commit does not fail after its work."""
    for writer in writers:
        writer.tell("bronze_b", 1)
        writer.answer()
    before = lake.latest(home, "hospital", "bronze_b").version
    with locks.commit_lease(home, "hospital", "bronze_b"):
        for writer in writers:
            writer.tell("bronze_b", 2)
        with pytest.raises(subprocess.TimeoutExpired):
            writers[0].process.wait(5)
        assert lake.latest(home, "hospital", "bronze_b").version == before
    assert sorted(int(writer.answer()) for writer in writers) == [before + i for i in range(1, 5)]
