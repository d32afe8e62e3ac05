"""CPU and wall seconds of the emergency command, ``mediscale rollback``, beside another commit's, in turns in one run.

    python benchmarks/rollback.py [COMMIT]

One home serves both: a model of the usual size, and a history in which every turn is one more entry. What MLflow's
aliases take is not counted, for the command does not wait for it. ``mediscale drill`` measures the command and the
servers that follow it under load.
"""

import argparse
import io
import os
import subprocess
import sys
import tarfile
import tempfile
import time
from datetime import datetime
from pathlib import Path

import numpy as np

from benchmarks.predict_request import DATASET, set_apart, write_model
from mediscale.core.settings import Settings
from mediscale.inference import model_files, model_signature
from mediscale.storage import registry, signing

TURNS = 10
ROOT = Path(__file__).parents[1]
TASK = "mortality"
ROLLBACK = """
import sys
from mediscale.storage import registry
registry.repair_later = lambda dataset: None
from mediscale.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("commit", nargs="?", default="77b9ba0")
    commit = parser.parse_args().commit
    with tempfile.TemporaryDirectory() as folder:
        checkout = Path(folder) / "checkout"
        extract(commit, checkout)
        set_apart(Path(folder))
        os.environ["MEDISCALE_HOME"] = f"{folder}/home"
        two_versions(Settings(), Path(folder) / "model")
        spent = {"ours": np.empty((TURNS, 2)), commit: np.empty((TURNS, 2))}
        for turn in range(-1, TURNS):
            for version, (name, root) in enumerate((("ours", ROOT), (commit, checkout)), start=1):
                spent[name][turn] = roll_back(root, version)
    for name, seconds in spent.items():
        cpu, wall = np.median(seconds, axis=0)
        print(f"{name:10}{cpu:6.2f} s of CPU, {wall:6.2f} s of wall (median of {TURNS})")
        print(f"figure: s of CPU of a rollback, {name} = {cpu:.2f}")
    print(
        f"figure: CPU of a rollback over {commit} = {np.median(spent['ours'][:, 0] / spent[commit][:, 0]):.2f}"
    )


def extract(commit: str, folder: Path) -> None:
    """Writes the files of a commit."""
    archive = subprocess.run(["git", "archive", commit], cwd=ROOT, check=True, capture_output=True).stdout
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        files.extractall(folder, filter="data")


def two_versions(settings: Settings, folder: Path) -> None:
    """Two versions with the same files; the second one is in production."""
    write_model(folder, TASK)
    for version in (1, 2):
        move = registry.Move(
            sequence=version, model=registry.model_name(DATASET, TASK), task=TASK, alias="production",
            from_version=None, to_version=version, actor=signing.actor(settings), moved_at=datetime(2026, 1, 1),
            reason="To be measured.", evidence_digest=str(version) * 64, model_uri=str(folder),
            model_digest=model_files.digest(folder), key=f"benchmark-{version}",
        )  # fmt: skip
        model_signature.sign(settings, move.version, move.evidence_digest)
        registry.record(settings, DATASET, move)


def roll_back(root: Path, version: int) -> tuple[float, float]:
    """CPU (user and system) and wall seconds of one rollback by a checkout's code."""
    words = ["--dataset", DATASET, "--task", TASK, "--version", str(version), "--reason", "Measured."]
    began = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-c", ROLLBACK, "rollback", *words],
        cwd=root,
        env=os.environ | {"PYTHONPATH": str(root)},
        stdout=subprocess.DEVNULL,
    )
    _, status, used = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"the rollback of {root} failed")
    return used.ru_utime + used.ru_stime, time.monotonic() - began


if __name__ == "__main__":
    main()
