"""Time and memory of generation and of ingest on extracts of one, five and twenty times as many patients.

    python benchmarks/scale.py [--patients 1000]

Patients have no notes. Each size has two processes of its own: one writes the synthetic extract, the other brings it
from its files to silver; both did so for forty patients before, so that starting does not count.
CPU seconds are those of the process and its children; memory is the most that the process, or one of its children, held
at once. Where time is linear the CPU of one event is the same at every size, and where memory is flat so is the memory.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from benchmarks.ingest import DATASET, FEW, cpu_seconds, with_ingest
from data_pipeline import synthetic
from mediscale.core.settings import Settings
from mediscale.core.tables import EVENTS
from mediscale.storage import lake

SOURCE = "mimic-iv"
TIMES = (1, 5, 20)
UNITS = {"generation": "patient", "ingest": "event"}
"""By step, what it makes."""


class Used(NamedTuple):
    """What a step took of one size."""

    n: int
    """Patients that were generated, or events of silver."""
    cpu: float
    gigabytes: float


def generate(home: Path, patients: int) -> tuple[int, str]:
    """The patients of a new extract and its folder."""
    params = synthetic.Params(patients=patients, dataset=f"{DATASET}-{patients}", notes=False)
    made = synthetic.run(params, Settings(home=home), f"made-{patients}")
    return made.patients, str(home / made.path)


def ingest(home: Path, extract: Path) -> int:
    """The events of silver, from an extract's files."""
    for _ in with_ingest(SOURCE, extract, home):
        pass
    settings = Settings(home=home / "ours")
    return int(lake.dataset(settings, lake.latest(settings, DATASET, EVENTS.name)).count_rows())


def used(n: int, since: float) -> Used:
    """What this process has taken up to now, its CPU after ``since``."""
    most = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return Used(n, cpu_seconds() - since, most / 1e6)


def measure(step: str, home: Path, patients: int, extract: Path) -> tuple[Used, str]:
    """What one step takes of one size, and the folder of the extract."""
    few = Path(generate(home, FEW)[1])
    if step == "generation":
        began = cpu_seconds()
        n, folder = generate(home, patients)
        return used(n, began), folder
    ingest(home / "warm", few)
    began = cpu_seconds()
    n = ingest(home / "whole", extract)
    return used(n, began), str(extract)


def in_a_process(step: str, home: Path, patients: int, extract: str) -> tuple[Used, str]:
    command = [sys.executable, __file__, "--only", step, str(home), str(patients), extract]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    figures, folder = json.loads(done.stdout.splitlines()[-1])
    return Used(*figures), folder


def report(taken: dict[str, dict[int, Used]]) -> None:
    for step, sizes in taken.items():
        unit = UNITS[step]
        for times, one in sizes.items():
            print(f"{step:12}{times:3} times{one.n:>14,} {unit}s{one.cpu:9.2f} CPU s{one.gigabytes:8.2f} GB")
        *smaller, largest = sizes
        most = sizes[largest]
        for times in smaller:
            per_unit = (most.cpu / most.n) / (sizes[times].cpu / sizes[times].n)
            beside = f"at {largest} times the size over that at {times}"
            print(f"figure: {step}, CPU of one {unit} {beside} = {per_unit:.2f}")
            print(f"figure: {step}, memory {beside} = {most.gigabytes / sizes[times].gigabytes:.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--patients", type=int, default=1000, help="of the smallest size (1000)")
    parser.add_argument("--only", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        step, home, patients, extract = options.only
        print(json.dumps(measure(step, Path(home), int(patients), Path(extract))))
        return
    taken: dict[str, dict[int, Used]] = {step: {} for step in UNITS}
    for times in TIMES:
        with tempfile.TemporaryDirectory() as folder:
            extract = ""
            for step, sizes in taken.items():
                sizes[times], extract = in_a_process(step, Path(folder), times * options.patients, extract)
    report(taken)


if __name__ == "__main__":
    main()
