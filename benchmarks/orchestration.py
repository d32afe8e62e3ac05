"""What a runner costs beside the CLI starting one process per stage: CPU seconds per step, and of the runner itself.

Each runner starts the same step, one that finds its work done, once and several times: the difference is what a step
costs, the rest is what the runner costs before it starts the first one. CPU seconds are of all processes together; they
move little with the load of the machine, and wall seconds do. Below stands what a step is made of.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

from mediscale.cli import local_airflow
from mediscale.core.settings import Settings
from mediscale.pipeline import steps

PROGRAM = str(Path(sys.executable).with_name("mediscale"))
STEP = ["prepare-source", "--size", "tiny"]
SEVERAL = 20
"""Enough that the unsteady start of Airflow does not drown what its steps cost."""
LOOP_STEPS = len(list(steps.nodes(steps.RISK))) + 1

SPARK_START = Path(__file__).parents[1] / "infra" / "spark" / "start.py"
WITHOUT_ARCHIVE = f"""
import runpy, sys
from mediscale.storage import spark
spark._archived_classes = list
sys.argv = {[str(SPARK_START), tempfile.gettempdir()]}
runpy.run_path(sys.argv[0], run_name="__main__")
"""
KUBEFLOW = """
import sys
from kfp import dsl, local
from kubeflow_pipelines import steps
home, count = sys.argv[1], int(sys.argv[2])
local.init(runner=local.SubprocessRunner(use_venv=False), pipeline_root=home + "/kubeflow")
@dsl.pipeline(name="many")
def many():
    for _ in range(count):
        steps.prepare_source(source="", path="", dataset="", size="tiny", home=home, config={}, run_id="", job="1")
many()
"""
AIRFLOW = """
from airflow.sdk import dag
from mediscale_steps import DEFAULTS, step
@dag(dag_id="many_{count}", schedule=None, catchup=False, default_args=DEFAULTS, max_active_tasks=1)
def many():
    for i in range({count}):
        step("prepare_source_" + str(i), {step})
many()
"""


class Cost(NamedTuple):
    """Seconds."""

    cpu: float
    wall: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    repeats = parser.parse_args().repeats
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(home=Path(folder))
        os.environ["MEDISCALE_HOME"] = folder
        by_processes(1)
        runners = {
            "CLI, one process per stage": by_processes,
            "Kubeflow's local runner": lambda count: by_kubeflow(settings, count),
            "Airflow, dags test": airflow_in(settings),
        }
        print(f"{'':<32}{'CPU s per step':>15}{'CPU s to start':>15}{'wall s per step':>16}")
        marginal = {name: show(name, runner, repeats) for name, runner in runners.items()}
        cli = marginal["CLI, one process per stage"]
        for name, cpu in marginal.items():
            more = (cpu - cli) * LOOP_STEPS
            print(
                f"{name}: {cpu / cli:.2f} of the CLI; {more:.0f} CPU s more in the {LOOP_STEPS} steps of the loop"
            )
            print(f"figure: CPU of a step by {name} over one by the CLI = {cpu / cli:.2f}")
        show_parts(repeats)


def show(name: str, runner: Callable[[int], None], repeats: int) -> float:
    """Prints the line of a runner; returns its CPU seconds per step."""
    runner(1)  # what only a first run has to do
    one, several = (best(repeats, runner, count) for count in (1, SEVERAL))
    step = Cost(*((many - single) / (SEVERAL - 1) for many, single in zip(several, one, strict=True)))
    print(f"{name:<32}{step.cpu:>15.2f}{one.cpu - step.cpu:>15.2f}{step.wall:>16.2f}", flush=True)
    return step.cpu


def by_processes(count: int) -> None:
    for _ in range(count):
        quietly([PROGRAM, *STEP, "--result", f"{os.environ['MEDISCALE_HOME']}/result.json"])


def by_kubeflow(settings: Settings, count: int) -> None:
    quietly([sys.executable, "-c", KUBEFLOW, str(settings.home), str(count)])


def airflow_in(settings: Settings) -> Callable[[int], None]:
    """Airflow's own command on a DAG of that many steps; its database is made before anything is measured."""
    dags = settings.home / "dags"
    dags.mkdir()
    around = local_airflow.environment(settings) | {"AIRFLOW__CORE__DAGS_FOLDER": str(dags)}
    around["PYTHONPATH"] += f"{os.pathsep}{local_airflow.ROOT / 'dags'}"
    for count in (1, SEVERAL):
        (dags / f"many_{count}_dag.py").write_text(AIRFLOW.format(count=count, step=STEP))
    with (settings.home / "migrate.log").open("w") as log:
        local_airflow.migrate(around, log)
    return lambda count: quietly([str(local_airflow.AIRFLOW), "dags", "test", f"many_{count}"], around)


def show_parts(repeats: int) -> None:
    """Of one step, each part with the parts before it; and what the runners' own processes import."""
    airflow = str(local_airflow.AIRFLOW.with_name("python"))
    parts = {
        "Python itself": [sys.executable, "-c", ""],
        "with the stages' contract": [sys.executable, "-c", "import mediscale.pipeline.runtime_inputs"],
        "with the step, found": [PROGRAM, *STEP],
        "Spark and one small table": [sys.executable, str(SPARK_START), tempfile.gettempdir()],
        "that without archived classes": [sys.executable, "-c", WITHOUT_ARCHIVE],
        "Airflow's task runner, imported": [airflow, "-c", "import airflow.sdk.execution_time.task_runner"],
        "KFP, imported": [sys.executable, "-c", "import kfp"],
    }
    costs = {name: best(repeats, partial(_quiet_try, command), 1) for name, command in parts.items()}
    for name, cost in costs.items():
        print(f"{name:<32}{cost.cpu:>15.2f}{'':>15}{cost.wall:>16.2f}", flush=True)
    for part, whole in (
        ("with the stages' contract", "with the step, found"),
        ("Spark and one small table", "that without archived classes"),
    ):
        print(f"figure: CPU of '{part}' over '{whole}' = {costs[part].cpu / costs[whole].cpu:.2f}")


def _quiet_try(command: list[str], _count: int) -> None:
    quietly(command)


def quietly(command: list[str], around: dict[str, str] | None = None) -> None:
    subprocess.run(command, check=True, capture_output=True, env=around)


def best(repeats: int, work: Callable[[int], None], count: int) -> Cost:
    """The cheapest of several runs: other work on the machine only ever adds."""
    costs = []
    for _ in range(repeats):
        started, used = time.perf_counter(), children()
        work(count)
        costs.append(Cost(children() - used, time.perf_counter() - started))
    return Cost(min(cost.cpu for cost in costs), min(cost.wall for cost in costs))


def children() -> float:
    """CPU seconds of the processes that were started and have ended, and of those that they started."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    main()
