"""Runs inside Airflow's environment for ``test_dags.py``: parses the DAGs, tries their operator, runs a night, and
writes one JSON. One process answers everything, because each start of Airflow takes seconds.

The stages are a recorder named by MEDISCALE_COMMAND; everything of Airflow is real, on a SQLite database of its own.
"""

import importlib
import json
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
from airflow.api_fastapi.core_api.datamodels.hitl import UpdateHITLDetailPayload
from airflow.api_fastapi.core_api.routes.public.hitl import update_hitl_detail
from airflow.dag_processing.bundles.manager import DagBundlesManager
from airflow.dag_processing.dagbag import BundleDagBag, sync_bag_to_db
from airflow.models.hitl import HITLDetail
from airflow.models.taskinstance import TaskInstance
from airflow.utils.db import initdb
from airflow.utils.session import create_session
from sqlalchemy import select

NIGHT = datetime(2026, 2, 3, 1, 0, tzinfo=UTC)


def main(folder: Path, work: Path) -> dict[str, Any]:
    before = set(sys.modules)
    bag = BundleDagBag(dag_folder=folder, bundle_path=folder, bundle_name="dags-folder")
    told = {
        "errors": dict(bag.import_errors),
        "imported": sorted({name.split(".")[0] for name in set(sys.modules) - before}),
        "dags": {name: describe(dag) for name, dag in bag.dags.items()},
    }
    told["ends"] = {
        how: ended_task(how, work) for how in ("killed by Airflow", "timed out", "killed with -9")
    }
    told["failures"], told["pod"] = in_child(failures, work), in_child(pod, work)
    initdb()
    told["seconds"] = parse_seconds()
    told["questions"] = []
    threading.Thread(target=approve, args=(told["questions"],), daemon=True).start()
    told["runs"] = {
        "features": run(
            bag, "mediscale_features", NIGHT, {"size": "tiny", "config": {"gold": {"audited_per_shard": 3}}}
        ),
        "drift": run(bag, "mediscale_drift", NIGHT, {}),
        "drill": run(bag, "mediscale_drill", NIGHT, {}),
        "past": run(
            bag, "mediscale_features", NIGHT.replace(day=4), {"size": "large", "as_of": "2026-01-05T01:00:00"}
        ),
        "retraining": run(bag, "mediscale_retraining", None, {}),
        "again": run(bag, "mediscale_retraining", None, {}),
        "promotion": run(bag, "mediscale_promotion", None, {}),
        "language": run(bag, "mediscale_language", None, {"source": "file", "path": "/q.jsonl"}),
        "failing": run(
            bag, "mediscale_loop", None, {"source": "mimic-iv", "path": "/nowhere", "dataset": "broken"}
        ),
    }
    return told


def parse_seconds() -> dict[str, float]:
    """Of each file, in a process that has Airflow imported already, as the DAG processor's has; what was parsed is in
    the database then."""
    seconds: dict[str, float] = {}
    bundles = DagBundlesManager()
    bundles.sync_bundles_to_db()
    for bundle in bundles.get_all_dag_bundles():
        bag = BundleDagBag(dag_folder=bundle.path, bundle_path=bundle.path, bundle_name=bundle.name)
        sync_bag_to_db(bag, bundle.name, bundle.version)
        seconds |= {str(bundle.path): sum(stats.duration.total_seconds() for stats in bag.dagbag_stats)}
    return seconds


def describe(dag: Any) -> dict[str, Any]:
    condition = getattr(dag.timetable, "asset_condition", None)
    return {
        "catchup": dag.catchup,
        "max_active_runs": dag.max_active_runs,
        "params": dag.params.dump(),
        "description": dag.description,
        "owner": dag.owner,
        "assets": sorted(asset.name for asset in condition.objects) if condition else [],
        "tasks": {
            task.task_id: {
                "upstream": sorted(task.upstream_task_ids),
                "retries": task.retries,
                "timeout": bool(task.execution_timeout),
                "alerts": bool(task.on_failure_callback),
                "outlets": [asset.name for asset in task.outlets],
            }
            for task in dag.tasks
        },
    }


def run(bag: Any, name: str, at: datetime | None, conf: dict[str, Any]) -> dict[str, Any]:
    finished = bag.dags[name].test(logical_date=at, run_conf=conf)
    tasks = {task.task_id: str(task.state) for task in finished.get_task_instances()}
    return {"state": str(finished.state), "tasks": tasks}


def in_child(work: Callable[[Path], Any], folder: Path) -> dict[str, Any]:
    """Runs a function in a fork of this process: its exit code (below 0 the signal), output and value."""
    output, value = folder / "child-output", folder / "child-value"
    child = os.fork()
    if child == 0:
        code = 1
        try:
            sink = os.open(output, os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
            os.dup2(sink, 1)
            os.dup2(sink, 2)
            value.write_text(json.dumps(work(folder)))
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return {
        "code": code,
        "output": output.read_text(),
        "value": None if code else json.loads(value.read_text()),
    }


def steps_module(**variables: str) -> Any:
    """The DAGs' own module as it is with these environment variables."""
    os.environ.update(variables)
    return importlib.reload(importlib.import_module("mediscale_steps"))


def operator(program: Path, arguments: Iterable[str] = (), skips: tuple[int, ...] = ()) -> Any:
    """The operator of a stage, with a program that stands for the platform's."""
    steps, result = steps_module(MEDISCALE_COMMAND=str(program)), str(program.with_suffix(".json"))
    return steps.StageOperator(task_id="t", arguments=list(arguments), result=result, actor="", skips=skips)


def ended_task(how: str, folder: Path) -> dict[str, Any]:
    """A task that ends while its stage runs: how its process ended, and whether the stage's own process still runs.

    Airflow's handler of SIGTERM calls ``on_kill`` and goes on; a timeout raises; -9 asks nobody.
    """
    pid = folder / "grandchild"
    pid.unlink(missing_ok=True)

    def work(folder: Path) -> None:
        task = operator(folder / "slow")

        def timeout(*_: object) -> None:
            raise TimeoutError("the task is over")

        signal.signal(signal.SIGTERM, timeout if how == "timed out" else lambda *_: task.on_kill())

        def later() -> None:
            while not (pid.exists() and pid.read_text()):
                time.sleep(0.05)
            os.kill(os.getpid(), signal.SIGKILL if "-9" in how else signal.SIGTERM)

        threading.Thread(target=later, daemon=True).start()
        task.execute({})

    ended = in_child(work, folder)
    grandchild, end = int(pid.read_text()), time.monotonic() + 10
    while alive(grandchild) and time.monotonic() < end:
        time.sleep(0.05)
    return ended | {"left": alive(grandchild)}


def alive(pid: int) -> bool:
    """Running: an orphan that ended stays as a zombie until init looks."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def failures(folder: Path) -> list[Any]:
    """What a task raises for the program's exit code, where it skips on some of them."""
    raised = []
    for code, skips in ((4, (4,)), (4, ()), (7, (7,)), (2, (4,)), (3, (4,)), (-9, (4,))):
        try:
            operator(folder / "refusing", [str(code)], skips).execute({})
        except Exception as failure:
            raised.append([code, list(skips), type(failure).__name__, str(failure)])
    return raised


def pod(_: Path) -> dict[str, Any]:
    """What Kubernetes would be asked for where a pod's template is named, made by Airflow's own operator."""
    from kubernetes.client import ApiClient

    from mediscale.pipeline import steps as graph

    steps = steps_module(MEDISCALE_POD_TEMPLATE=os.environ["STAGE_POD"])
    node = next(node for node in graph.nodes(graph.FEATURES) if node.name == "gold_mortality")
    work = steps.stage(node, {})
    made = ApiClient().sanitize_for_serialization(work.build_pod_request_obj())
    patience = [work.schedule_timeout_seconds, work.startup_timeout_seconds]
    return {"pod": made, "skips": work.skip_on_exit_code, "starts_within": patience}


def approve(questions: list[str]) -> None:
    """A person who reads and says yes to whatever waits, by the function behind the API's own route."""
    while True:
        time.sleep(0.2)
        with create_session() as session:
            waiting = session.scalars(
                select(TaskInstance).where(TaskInstance.state == "awaiting_input")
            ).all()
            for task in waiting:
                questions.append(
                    session.scalars(select(HITLDetail.body).where(HITLDetail.ti_id == task.id)).one()
                )
                yes = UpdateHITLDetailPayload(chosen_options=["Approve"], params_input={})
                person = SimpleAuthManagerUser(username="dr. grey", role="admin")
                update_hitl_detail(task.dag_id, task.run_id, task.task_id, yes, person, session)


if __name__ == "__main__":
    answer = main(Path(sys.argv[1]), Path(sys.argv[2]))
    (Path(sys.argv[2]) / "answer.json").write_text(json.dumps(answer))
