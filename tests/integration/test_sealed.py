"""The platform in a network without a way out: what the suite's loop does it does there, and so does a retraining."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from fixtures import sealed
from fixtures.undisturbed_run import ROOT, around, finish, start

from mediscale.core.settings import Settings
from mediscale.storage import calls

ASK = """
import socket, sys, urllib.request
here = socket.create_server(("127.0.0.1", 0))
socket.create_connection(here.getsockname()).close()
try:
    urllib.request.urlopen("http://192.0.2.1/", timeout=60)
except OSError as error:
    sys.exit(f"{error}")
"""
"""Reaches this machine, and ends with what keeps it from an address that is kept for documentation."""


def test_what_is_sealed_reaches_this_machine_and_no_other() -> None:
    around = {**os.environ, "no_proxy": "", **sealed.environment()}
    asked = subprocess.run(
        sealed.command([sys.executable, "-c", ASK]), env=around, capture_output=True, text=True, check=False
    )
    reason = {"network namespace": "Network is unreachable", "proxy": "Connection refused"}[sealed.by()]
    assert reason in asked.stderr


@pytest.mark.timeout(3000)
@pytest.mark.parametrize("by", [sealed.by()])  # so that the test's name says which
def test_the_loop_needs_no_way_out(undisturbed_run: Settings, by: str) -> None:
    assert (undisturbed_run.home.with_name("watch") / "sealed").read_text() == by


NIGHTS = """
import sys
from mediscale.cli import main
from mediscale.simulation import nights
if __name__ == "__main__":
    nights.HOSPITALS["tiny"] = nights.Hospital(patients=4_500, window=1)
    nights.PLANTED_NIGHT = 2
    sys.exit(main.main(["simulate", "--nights", "6", "--size", "tiny"]))
"""
"""As tests/integration/test_simulated_nights.py has them: a planted drift, a decision, a retraining, a promotion.

Worker processes read the module, too."""


@pytest.mark.soak
@pytest.mark.only_soak
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("by", [sealed.by()])
def test_a_retraining_needs_no_way_out(tmp_path: Path, by: str) -> None:
    nights = tmp_path / "nights.py"
    # not by -c: PySpark takes a main module without a file for its own doctests, and ends
    nights.write_text(NIGHTS)
    command = sealed.command([sys.executable, str(nights)])
    finish(start(command, {**around(tmp_path / "home"), **sealed.environment()}, ROOT))
    verdicts = [
        call.result["retrain"]
        for call in calls.of_stage(Settings(home=tmp_path / "home"), "retrain_decision")
    ]
    assert True in verdicts, by
