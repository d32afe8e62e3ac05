"""Every morning: whether yesterday's answered predictions still look like the patients that the model learned from.

Then how good the answers were, window after window, as far as outcomes have matured: what the report charts and
``/metrics`` exports, so that a person hears of it from Alertmanager.

Beside it, whether a language model is asked what it was asked before. A verdict of "retrain" is published as an asset,
which retraining is scheduled on. A task that no version answers for, or that nobody asked about, is skipped.
"""

import json
from datetime import datetime, timedelta
from pathlib import Path

from airflow.sdk import Metadata, Param, dag, task
from airflow.sdk.exceptions import AirflowSkipException
from mediscale_steps import DATASET_PARAM, DEFAULTS, DRIFTED, EVERY_DAG, NOT_FOUND, RESULTS, first_line, step

from mediscale.core.task_names import TASKS

END = "{{ (dag_run.data_interval_end or dag_run.run_after).strftime('%Y-%m-%dT%H:%M:%S') }}"
START = (
    "{{ ((dag_run.data_interval_end or dag_run.run_after) - macros.timedelta(days=params.days))"
    ".strftime('%Y-%m-%dT%H:%M:%S') }}"
)


@task(outlets=[DRIFTED])
def publish(result: str, dataset: str, name: str):  # type: ignore[no-untyped-def]
    """Publishes the verdict, or is skipped (which publishes nothing) where the model needs no retraining."""
    verdict = json.loads(Path(result).read_text())
    if not verdict["retrain"]:
        raise AirflowSkipException(verdict["reason"])
    yield Metadata(DRIFTED, extra={"dataset": dataset, "task": name})


@dag(
    dag_id="mediscale_drift",
    schedule="0 6 * * *",
    start_date=datetime(2026, 1, 1),
    dagrun_timeout=timedelta(hours=12),
    default_args=DEFAULTS,
    params={
        "dataset": DATASET_PARAM,
        "days": Param(
            1, type="integer", minimum=1, maximum=90, description="How many days of predictions are judged."
        ),
        "language_dataset": Param(
            "clinical-questions", type="string", description="Whose language model's questions are judged."
        ),
    },
    description=first_line(__doc__),
    doc_md=__doc__,
    **EVERY_DAG,
)
def drift() -> None:
    window = ["--set", f"start={START}", "--set", f"end={END}"]
    for name in TASKS:
        about = ["--fill-runtime-inputs", "--set", "dataset={{ params.dataset }}", "--set", f"task={name}"]
        judged = step(f"drift_{name}", ["drift", *about, *window], skips=(NOT_FOUND,))
        series = step(f"performance_series_{name}", ["performance_series", *about], skips=(NOT_FOUND,))
        verdict = step(f"retrain_decision_{name}", ["retrain_decision", *about], skips=(NOT_FOUND,))
        published = publish.override(task_id=f"publish_{name}")(
            f"{RESULTS}/retrain_decision_{name}.json", "{{ params.dataset }}", name
        )
        judged >> series >> verdict >> published
    options = ["--fill-runtime-inputs", "--set", "dataset={{ params.language_dataset }}"]
    step("question_drift", ["question_drift", *options, *window], skips=(NOT_FOUND,))


drift()
