"""A night's append in a process that is killed: the same command again leaves the lake of an undisturbed one."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from fixtures.wards import DATASET, Ward, night, without_data_docs

from mediscale.storage import duckdb_tables, lake

TESTS = Path(__file__).parents[2]
KILLED = """
import os, signal, sys
from pathlib import Path
from fixtures.wards import Ward, night
from data_pipeline.ingest import rule_shares
from mediscale.storage import table_files

commit = table_files._commit

def die_before_events(settings, dataset, table, *arguments):
    if table == "events":
        os.kill(os.getpid(), signal.SIGKILL)
    commit(settings, dataset, table, *arguments)

table_files._commit, rule_shares.failed_rules = die_before_events, lambda *_: []
ward = Ward(Path(sys.argv[1]))
ward.tables["hosp/labevents"] = sys.argv[2]
ward.ingest(night(3))
"""


def cells(ward: Ward) -> dict[str, tuple[int, str]]:
    """Of every table the number of its rows and the digest over all of their cells."""
    return {
        table: duckdb_tables.digest(ward.settings, lake.latest(ward.settings, DATASET, table))
        for table in lake.tables(ward.settings, DATASET)
    }


def test_a_killed_append_goes_on_by_the_same_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_data_docs(monkeypatch)
    killed, undisturbed = Ward(tmp_path / "killed"), Ward(tmp_path / "undisturbed")
    for ward in (killed, undisturbed):
        ward.ingest(night(2))
        ward.replace("hosp/labevents", "12:00:00,1.2,1.2,", "12:00:00,1.4,1.4,")
        ward.replace("hosp/labevents", "12:00:00,1.9,1.9,", "12:00:00,900,900,")
    before = cells(killed)
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(killed.folder), killed.tables["hosp/labevents"]],
        cwd=TESTS.parent,
        env={**os.environ, "PYTHONPATH": str(TESTS)},
        check=False,
    )
    assert done.returncode == -signal.SIGKILL
    half = cells(killed)
    assert half["facts"] != before["facts"]
    assert half["events"] == before["events"], "what silver wrote is in no commit"
    killed.ingest(night(3))
    undisturbed.ingest(night(3))
    assert killed.results["silver"].retracted == undisturbed.results["silver"].retracted == 1
    assert cells(killed) == cells(undisturbed)
