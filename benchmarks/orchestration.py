"""What a runner costs beside the CLI starting one process per stage: the unchanged tiny loop, seconds per step.

The home is filled once; then every stage finds its work done, so that what is left is the runner: processes, imports,
databases. CPU seconds, of all processes together, hardly move with the load of the machine; wall seconds do. The share
is of the loop when it does work, by the seconds that its manifests tell. Below stands what one found stage is made of.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from mediscale import graph, manifest, scheduler
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
        ways: dict[str, Callable[[], object]] = {
            "one process, mediscale run": lambda: subprocess.run(
                [PROGRAM, "run", "--size", "tiny"], check=True, capture_output=True
            ),
            "CLI, one process per stage": lambda: by_processes(settings),
            "Kubeflow's local runner": lambda: orchestrate("kubeflow"),
            "Airflow, dags test": lambda: orchestrate("airflow"),
        }
        print(
            f"{'':<28}{'CPU s per step':>16}{'beside the CLI':>16}{'wall s per step':>17}{'share of the loop':>19}"
        )
        measured = {name: best(repeats, way) for name, way in ways.items()}
        cli = measured["CLI, one process per stage"].cpu
        for name, cost in measured.items():
            share = cost.wall / (cost.wall + worked)
            print(
                f"{name:<28}{cost.cpu / STEPS:>16.2f}{cost.cpu / cli:>16.2f}{cost.wall / STEPS:>17.2f}{share:>19.0%}"
            )
        show_parts(repeats, settings)


class Cost(NamedTuple):
    """Seconds."""

    cpu: float
    wall: float


def show_parts(repeats: int, settings: Settings) -> None:
    """Of one found stage as Airflow starts it, each part with the parts before it."""
    python, airflow = sys.executable, str(scheduler.AIRFLOW.with_name("python"))
    result = settings.home / "results" / "extract.json"
    parts = {
        "Python itself": [python, "-c", ""],
        "with the stages' contract": [python, "-c", "import mediscale.resolve"],
        "with a stage that is found": [PROGRAM, "bronze", "--resolve", "--from", str(result)],
        "Airflow's own import": [airflow, "-c", "import airflow.sdk.execution_time.task_runner"],
        "KFP's own import": [python, "-c", "import kfp"],
    }
    for name, command in parts.items():
        cost = best(repeats, lambda command=command: subprocess.run(command, check=True, capture_output=True))
        print(f"{name:<28}{cost.cpu:>16.2f}{'':>16}{cost.wall:>17.2f}")


def orchestrate(runner: str) -> None:
    """In a process of its own, so that its CPU seconds are counted."""
    code = (
        "import sys; from mediscale import runners; from mediscale.settings import Settings\n"
        f"runners.orchestrate(sys.argv[1], Settings(), {TINY!r})"
    )
    subprocess.run([sys.executable, "-c", code, runner], check=True, capture_output=True)


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


def best(repeats: int, work: Callable[[], object]) -> Cost:
    """The cheapest of several runs: other work on the machine only ever adds."""
    costs = []
    for _ in range(repeats):
        started, used = time.perf_counter(), children()
        work()
        costs.append(Cost(children() - used, time.perf_counter() - started))
    return Cost(min(cost.cpu for cost in costs), min(cost.wall for cost in costs))


def children() -> float:
    """CPU seconds of the processes that were started and have ended, and of those that they started."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    main()
