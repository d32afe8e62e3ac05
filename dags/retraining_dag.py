"""After each night's features, or on a drift verdict: a model per task, its evidence, and staging where it is earned.

Production is not touched here: a version that reached staging is published as a candidate, for a person to approve.
"""

from datetime import timedelta
from typing import Any

from airflow.sdk import Metadata, dag, task
from airflow.sdk.exceptions import AirflowFailException
from mediscale_steps import (
    CANDIDATE,
    CONFIG_PARAM,
    DEFAULTS,
    DRIFTED,
    FEATURES,
    RESULTS,
    chain,
    first_line,
)

from mediscale import graph

NIGHT = "{{ ti.xcom_pull(task_ids='night') }}"


@task(inlets=[FEATURES], retries=0)
def night(inlet_events: Any = None) -> str:
    """Folder of the newest finished night's results, whatever started this run."""
    events = inlet_events[FEATURES]
    if not len(events):
        raise AirflowFailException("No night has published features yet; run mediscale_features first.")
    return str(events[-1].extra["results"])


@task(outlets=[CANDIDATE], trigger_rule="none_failed_min_one_success")
def publish(results: str, features: str):  # type: ignore[no-untyped-def]
    """Says where the candidates' results lie, and those of the night that they were trained on."""
    yield Metadata(CANDIDATE, extra={"results": results, "features": features})


@dag(
    dag_id="mediscale_retraining",
    schedule=(FEATURES | DRIFTED),
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=timedelta(hours=12),
    default_args=DEFAULTS,
    params=CONFIG_PARAM,
    tags=["mediscale"],
    description=first_line(__doc__),
    doc_md=__doc__,
)
def retraining() -> None:
    newest = night()
    made = {node.name for node in graph.nodes(graph.FEATURES)} | {graph.EXTRACT}
    folders = dict.fromkeys(made, NIGHT)
    done = chain(graph.TRAINING, {}, folders, settings={"promotion": ("aim=staging",)})
    published = publish(RESULTS, newest)
    for name in graph.TASKS:
        newest >> done[graph.named("training_set", name)]
        done[graph.named("promotion", name)] >> published


retraining()
