"""Runs inside Airflow's environment for ``test_dags.py``: parses the DAGs, then runs a night, and prints one JSON.

The stages are a recorder named by MEDISCALE_COMMAND; everything of Airflow is real, on a SQLite database of its own.
"""

import json
import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
from airflow.api_fastapi.core_api.datamodels.hitl import UpdateHITLDetailPayload
from airflow.api_fastapi.core_api.routes.public.hitl import update_hitl_detail
from airflow.dag_processing.dagbag import BundleDagBag
from airflow.models.hitl import HITLDetail
from airflow.models.taskinstance import TaskInstance
from airflow.utils.db import initdb
from airflow.utils.session import create_session
from sqlalchemy import select

NIGHT = datetime(2026, 2, 3, 1, 0, tzinfo=UTC)


def main(folder: Path) -> dict[str, Any]:
    before = set(sys.modules)
    bag = BundleDagBag(dag_folder=folder, bundle_path=folder, bundle_name="dags-folder")
    told = {
        "errors": dict(bag.import_errors),
        "seconds": parse_seconds(folder),
        "imported": sorted({name.split(".")[0] for name in set(sys.modules) - before}),
        "dags": {name: describe(dag) for name, dag in bag.dags.items()},
    }
    initdb()
    told["questions"] = []
    threading.Thread(target=approve, args=(told["questions"],), daemon=True).start()
    told["runs"] = {
        "features": run(
            bag, "mediscale_features", NIGHT, {"size": "tiny", "config": {"gold": {"audited_per_shard": 3}}}
        ),
        "drift": run(bag, "mediscale_drift", NIGHT, {}),
        "past": run(
            bag, "mediscale_features", NIGHT.replace(day=4), {"size": "large", "as_of": "2026-01-05T01:00:00"}
        ),
        "retraining": run(bag, "mediscale_retraining", None, {}),
        "again": run(bag, "mediscale_retraining", None, {}),
        "promotion": run(bag, "mediscale_promotion", None, {}),
        "failing": run(
            bag, "mediscale_loop", None, {"source": "mimic-iv", "path": "/nowhere", "dataset": "broken"}
        ),
    }
    return told


def parse_seconds(folder: Path) -> dict[str, float]:
    """Of each file, in a process that has Airflow imported already, as the DAG processor's has."""
    bag = BundleDagBag(dag_folder=folder, bundle_path=folder, bundle_name="dags-folder")
    return {stats.file: stats.duration.total_seconds() for stats in bag.dagbag_stats}


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
    answer = main(Path(sys.argv[1]))
    Path(sys.argv[2]).write_text(json.dumps(answer))
