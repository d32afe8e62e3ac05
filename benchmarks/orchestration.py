"""What a runner costs beside the CLI starting one process per stage: the unchanged tiny loop, seconds per step.

The home is filled once; then every stage finds its work done, so that what is left is the runner: processes, imports,
databases. The share is of the loop when it does work, by the seconds that its manifests tell.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from mediscale import graph, manifest, runners
from mediscale.settings import Settings

PROGRAM = str(Path(sys.executable).with_name("mediscale"))
NODES = list(graph.nodes(graph.LOOP))
STEPS = len(NODES) + 1
TINY = {"source": "", "path": "", "dataset": "", "size": "tiny"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    repeats = parser.parse_args().repeats
    with tempfile.TemporaryDirectory() as folder:
        os.environ["MEDISCALE_HOME"] = folder
        settings = Settings()
        by_processes(settings)
        worked = sum(
            done.seconds for name in {n.stage for n in NODES} for done in manifest.of_stage(settings, name)
        )
        print(f"{STEPS} steps; the stages' own work on the tiny hospital: {worked:.0f} s")
        print(f"{'':<36}{'s per step':>12}{'of which Python and imports':>30}{'share of the loop':>20}")
        start = best(
            repeats, lambda: subprocess.run([PROGRAM, "bronze", "--schema"], check=True, capture_output=True)
        )
        ways: dict[str, Callable[[], object]] = {
            "CLI, one process per stage": lambda: by_processes(settings),
            "Kubeflow's local runner": lambda: runners.orchestrate("kubeflow", settings, TINY),
            "Airflow, dags test": lambda: runners.orchestrate("airflow", settings, TINY),
        }
        for name, way in ways.items():
            seconds = best(repeats, way)
            share = seconds / (seconds + worked)
            print(f"{name:<36}{seconds / STEPS:>12.2f}{start:>30.2f}{share:>20.0%}")


def by_processes(settings: Settings) -> None:
    """Each stage as Airflow starts it, without Airflow."""
    folder = settings.home / "results"
    extract = [PROGRAM, "extract", "--size", "tiny", "--result", str(folder / "extract.json")]
    subprocess.run(extract, check=True)
    for node in NODES:
        command = [PROGRAM, node.stage, "--resolve", "--result", str(folder / f"{node.name}.json")]
        for name in node.upstream:
            command += ["--from", str(folder / f"{name}.json")]
        command += ["--set", f"task={json.dumps(node.task)}"] if node.task else []
        subprocess.run(command, check=True, stderr=subprocess.DEVNULL)


def best(repeats: int, work: Callable[[], object]) -> float:
    """The quickest of several runs: other work on the machine only ever adds."""
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return min(seconds)


if __name__ == "__main__":
    main()
