"""Killed with -9 at a random moment and at every commit point in turn, and started again each time, the loop ends as an
undisturbed one does. The tables of notes are part of it in ``make soak``: their stages have no commit point of their
own, and import most.
"""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Set
from pathlib import Path

import pytest

from mediscale.core.settings import Settings
from mediscale.pipeline import steps
from mediscale.storage import calls, registry

pytestmark = [pytest.mark.timeout(7200), pytest.mark.soak]

LOOP = Path(__file__).with_name("killed_loop.py")
OF_NOTES = {
    *("bronze_admission", "bronze_discharge", "bronze_radiology", "notes", "quarantine_notes", "note_tokens"),
    *("note_margins_mortality", "landed_files"),
}
"""Tables that are not there, or list fewer files, where the hospital has no notes."""
POINTS = ("shard_written", "delta_committed", "model_registered", "alias_moved")


def start(home: Path, notes: str, *point: str) -> "subprocess.Popen[bytes]":
    own = {"MEDISCALE_HOME": str(home), "MEDISCALE_ACTOR": "tester", "MEDISCALE_SPARK_MASTER": "local[1]"}
    around = {**os.environ, **own}
    command = [sys.executable, str(LOOP), notes, *point]
    return subprocess.Popen(command, env=around, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def finish(process: "subprocess.Popen[bytes]") -> int:
    said, _ = process.communicate()
    assert process.returncode in (0, -signal.SIGKILL), said.decode()[-3000:]
    return process.returncode


def kill_at_any_moment(home: Path, notes: str, times: int, until: Path | None = None) -> None:
    """At moments that no two runs of the tests have in common, and once there is ``until``; the later ones may find the
    loop done."""
    chance = random.Random()
    for _ in range(times):
        process, end = start(home, notes), time.monotonic() + chance.uniform(5, 40)
        while time.monotonic() < end and not (until and until.exists()):
            time.sleep(0.01)
        process.kill()
        finish(process)


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory, soak: bool) -> list[Settings]:
    """The homes of loops that were killed and went on to their end."""
    homes, notes = [tmp_path_factory.mktemp("killed")], "with-notes" if soak else "without-notes"
    first_commit = Path(Settings(home=homes[0]).table_uri("synthetic", "events")) / "_delta_log"
    # a quick machine must not be past the first point
    kill_at_any_moment(homes[0], notes, 1, until=first_commit)
    for point in POINTS:
        assert finish(start(homes[0], notes, point)) == -signal.SIGKILL, f"never came to {point}"
    if soak:
        homes.append(tmp_path_factory.mktemp("often"))
        kill_at_any_moment(homes[1], notes, 36)
    assert [finish(start(home, notes)) for home in homes] == [0] * len(homes)
    return [Settings(home=home) for home in homes]


def test_every_table_holds_the_same_rows(
    undisturbed_run: Settings, killed: list[Settings], soak: bool
) -> None:
    without = set() if soak else OF_NOTES
    undisturbed = digests(undisturbed_run, without)
    assert "events" in undisturbed
    assert "training_set_mortality" in undisturbed
    assert [digests(settings, without) for settings in killed] == [undisturbed] * len(killed)


def test_one_model_is_registered_and_staged_once(undisturbed_run: Settings, killed: list[Settings]) -> None:
    for settings in (undisturbed_run, *killed):
        client = registry.client(settings)
        assert len(client.search_model_versions("name = 'synthetic-mortality'")) == 1
        moved = [m for m in registry.history(settings, "synthetic") if m.model == "synthetic-mortality"]
        moves = [(move.alias, move.to_version) for move in moved]
        assert moves == [("staging", 1)]
        aliases = client.get_registered_model("synthetic-mortality").aliases
        assert {alias: int(version) for alias, version in aliases.items()} == {"staging": 1}


def digests(settings: Settings, without: Set[str]) -> dict[str, tuple[int, str]]:
    """Of the tables of one task and of none, without some: the undisturbed run does every task."""
    stages = [step.stage for step in steps.RISK]
    done = [call for stage in stages for call in calls.of_stage(settings, stage)]
    of_task = [call for call in done if call.params.get("task", "mortality") == "mortality"]
    left = (output for call in of_task for output in call.outputs if output.ref.table not in without)
    return {output.ref.table: (output.rows, output.digest) for output in left}
