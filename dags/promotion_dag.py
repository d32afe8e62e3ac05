"""A candidate goes to production when a person says so, and the promotion history records who that was.

What is asked about is what retraining judged. If production changed since then, the promotion stage refuses: the
evidence compares with another version than today's, and the next retraining brings one that does not.
"""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.sdk import dag, task
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException
from mediscale_steps import CANDIDATE, DEFAULTS, first_line, stage

from mediscale import graph

FOLDERS = "{{ ti.xcom_pull(task_ids='candidate')['%s'] }}"
FEATURES, TRAINED = FOLDERS % "features", FOLDERS % "results"


@task(inlets=[CANDIDATE], retries=0)
def candidate(inlet_events: Any = None) -> dict[str, str]:
    """Where the newest candidates' results lie."""
    events = inlet_events[CANDIDATE]
    if not len(events):
        raise AirflowFailException("There is no candidate yet; run mediscale_retraining first.")
    return dict(events[-1].extra)


@task
def question(name: str, folders: dict[str, str]) -> str:
    """What a person is asked: the version and its held-out figures. Skipped where nothing reached staging."""
    results = Path(folders["results"])
    decided = results / f"promotion_{name}.json"
    if not decided.exists():
        raise AirflowSkipException(f"There is no candidate for {name}: it was refused on the way.")
    staged = json.loads(decided.read_text())
    if not staged["staged"]:
        raise AirflowSkipException(staged["reason"])
    figures = json.loads((results / f"evaluate_{name}.json").read_text())["metrics"]
    told = "\n".join(
        f"- {label.replace('_', ' ')}: {value:.3f}" for label, value in figures.items() if value is not None
    )
    model = staged["model"]
    return f"{model['name']} v{model['version']}: {staged['reason']}\n\nOn held-out patients:\n\n{told}"


def decision(node: graph.Node, found: Any) -> None:
    """One task's model: asked about, then moved by the promotion stage if its policy allows."""
    folders = {name: FEATURES if name == "bronze" else TRAINED for name in node.upstream}
    asked = question.override(task_id=f"question_{node.task}")(node.task, found)
    approval = ApprovalOperator(
        task_id=f"approval_{node.task}",
        subject=f"Put this model of {node.task} into production?",
        body=f"{{{{ ti.xcom_pull(task_ids='question_{node.task}') }}}}",
        response_timeout=timedelta(days=7),
        retries=0,
    )
    who = (
        f"actor={{{{ ti.xcom_pull(task_ids='approval_{node.task}')['responded_by_user']['name'] | tojson }}}}"
    )
    promoted = stage(node, folders, ("aim=production", who))
    asked >> approval >> promoted


@dag(
    dag_id="mediscale_promotion",
    schedule=[CANDIDATE],
    catchup=False,
    max_active_runs=1,
    default_args=DEFAULTS,
    tags=["mediscale"],
    description=first_line(__doc__),
    doc_md=__doc__,
)
def promotion() -> None:
    found = candidate()
    for node in graph.nodes(graph.TRAINING):
        if node.stage == "promotion":
            decision(node, found)


promotion()
