"""Every morning: whether yesterday's answered predictions still look like the patients that the model learned from.

A verdict of "retrain" is published as an asset, which retraining is scheduled on.
"""

import json
from datetime import datetime, timedelta
from pathlib import Path

from airflow.sdk import Param, dag, task
from airflow.sdk.exceptions import AirflowSkipException
from mediscale_steps import DATASET_PARAM, DEFAULTS, DRIFTED, first_line, step

from mediscale import graph

END = "{{ (dag_run.data_interval_end or dag_run.run_after).strftime('%Y-%m-%dT%H:%M:%S') }}"
START = (
    "{{ ((dag_run.data_interval_end or dag_run.run_after) - macros.timedelta(days=params.days))"
    ".strftime('%Y-%m-%dT%H:%M:%S') }}"
)


@task(outlets=[DRIFTED])
def publish(results: list[str]) -> None:
    """Publishes the verdict, or is skipped (which publishes nothing) where no model needs retraining."""
    verdicts = [json.loads(Path(result).read_text()) for result in results]
    if not any(verdict["retrain"] for verdict in verdicts):
        raise AirflowSkipException("; ".join(verdict["reason"] for verdict in verdicts))


@dag(
    dag_id="mediscale_drift",
    schedule="0 6 * * *",
    start_date=datetime(2026, 1, 1),
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=timedelta(hours=4),
    default_args=DEFAULTS,
    params={
        "dataset": DATASET_PARAM,
        "days": Param(
            1, type="integer", minimum=1, maximum=90, description="How many days of predictions are judged."
        ),
    },
    tags=["mediscale"],
    description=first_line(__doc__),
    doc_md=__doc__,
)
def drift() -> None:
    verdicts = []
    for name in graph.TASKS:
        about = ["--resolve", "--set", "dataset={{ params.dataset }}", "--set", f"task={name}"]
        window = ["--set", f"start={START}", "--set", f"end={END}"]
        judged = step(f"drift_{name}", ["drift", *about, *window])
        verdict = step(f"retrain_{name}", ["retrain", *about])
        judged >> verdict
        verdicts.append(verdict)
    publish([verdict.output for verdict in verdicts])


drift()
