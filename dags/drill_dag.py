"""Every night: broken canaries, a promotion and a rollback are rehearsed with the version in production, under load.

The drill has a server, a history and keys of its own, which end with it. It fails, and whoever is on call hears of it,
where a request failed or a broken version went on answering.
"""

from datetime import datetime, timedelta

from airflow.sdk import dag
from mediscale_steps import DATASET_PARAM, DEFAULTS, EVERY_DAG, NOT_FOUND, first_line, step


@dag(
    dag_id="mediscale_drill",
    schedule="0 4 * * *",
    start_date=datetime(2026, 1, 1),
    dagrun_timeout=timedelta(hours=1),
    default_args=DEFAULTS,
    params={"dataset": DATASET_PARAM},
    description=first_line(__doc__),
    doc_md=__doc__,
    **EVERY_DAG,
)
def drill() -> None:
    step("drill", ["drill", "--dataset", "{{ params.dataset }}"], skips=(NOT_FOUND,))


drill()
