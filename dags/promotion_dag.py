"""A candidate goes to production when a person says so, and the promotion history records who that was.

What is asked about is kept for the answer: a retraining that is repeated meanwhile changes nothing of it. If production
changed since then, the promotion stage refuses: the evidence compares with another version than today's. A question
that nobody answers before the next night is a no, and the next candidate is asked about.

Where the dataset's history requires another person's approval, the first yes only proposes the version, and a second
question follows. Whoever proposed it can't answer it: the platform refuses to sign an approval of one's own proposal.
"""

import json
import shutil
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.sdk import dag, get_current_context, task
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException
from mediscale_steps import CANDIDATE, DEFAULTS, EVERY_DAG, REFUSED, RESULTS, first_line, stage, step

from mediscale.core import privacy
from mediscale.pipeline import steps


@task(inlets=[CANDIDATE], retries=0)
def candidate(inlet_events: Any = None) -> dict[str, str]:
    """Where the candidates' results lie: of those that started this run, else the newest."""
    started = (get_current_context().get("triggering_asset_events") or {}).values()
    events = [event.extra for asset in started for event in asset] or [
        event.extra for event in inlet_events[CANDIDATE]
    ]
    candidates = [extra for extra in events if "results" in extra]
    if not candidates:
        raise AirflowFailException("There is no candidate yet; run mediscale_retraining first.")
    return dict(candidates[-1])


@task
def question(name: str, needed: list[str], candidate: dict[str, str], keep: str) -> str:
    """What a person is asked: the version and its held-out figures. Skipped where nothing reached staging."""
    results, kept = Path(candidate["results"]), Path(keep)
    kept.mkdir(parents=True, exist_ok=True)
    decided = results / f"promotion_{name}.json"
    staged = json.loads(decided.read_text()) if decided.exists() else {}
    if not staged.get("staged"):
        raise AirflowSkipException(staged.get("reason") or f"There is no candidate for {name}.")
    for result in needed:
        file = f"{result}.json"
        place = results if (results / file).exists() else Path(candidate["features"])
        shutil.copyfile(place / file, kept / file)
    evaluated = json.loads((kept / f"evaluate_{name}.json").read_text())
    figures, model = "\n".join(lines(evaluated["counts"], evaluated["metrics"])), staged["model"]
    return (
        f"**{model['name']} v{model['version']}** {staged['reason']}\n\nOn held-out patients, with 95 % intervals:\n\n"
        f"{figures}\n\nEvery output of a model needs a clinician's judgement."
    )


def lines(counts: dict[str, int], figures: dict[str, float | None]) -> Iterator[str]:
    """A line for each count, suppressed where it is small, and for each figure with its interval."""
    for name, n in counts.items():
        yield f"- {name}: {privacy.count(n)}"
    for name, value in figures.items():
        if value is None or name.endswith(("_low", "_high")):
            continue
        low, high = figures.get(f"{name}_low"), figures.get(f"{name}_high")
        interval = "" if low is None or high is None else f" ({low:.3f} to {high:.3f})"
        yield f"- {name.replace('_', ' ')}: {value:.3f}{interval}"


@task
def proposal(decided: str) -> str:
    """The version that waits for another person's approval. Skipped where none does."""
    result = json.loads(Path(decided).read_text())
    if not result.get("proposed"):
        raise AirflowSkipException(result["reason"])
    return f"{result['model']['name']}/{result['model']['version']}"


def decision(node: steps.Node, candidate: Any) -> None:
    """One task's model: asked about, then moved by the promotion stage if its policy allows, or proposed to another."""
    put = question.override(task_id=f"question_{node.task}")(
        node.task, list(node.upstream), candidate, RESULTS
    )
    body = f"{{{{ ti.xcom_pull(task_ids='question_{node.task}') }}}}"
    first = yes_or_no(f"approval_{node.task}", f"Put this model of {node.task} into production?", body)
    promoted = stage(node, {}, ("--set", "target_alias=production"), actor=answered_by(first))
    put >> first >> promoted
    awaiting = proposal.override(task_id=f"proposal_{node.task}")(f"{RESULTS}/{node.name}.json")
    version = f"{{{{ ti.xcom_pull(task_ids='proposal_{node.task}') }}}}"
    subject = (
        f"{answered_by(first)} proposed this model of {node.task}. Do you, another person, approve of it?"
    )
    second = yes_or_no(f"second_approval_{node.task}", subject, body)
    approve = ["approve", version, "--reason", "Approved in Airflow."]
    (
        promoted
        >> awaiting
        >> second
        >> step(f"approve_{node.task}", approve, skips=(REFUSED,), actor=answered_by(second))
    )


def yes_or_no(name: str, subject: str, body: str) -> ApprovalOperator:
    """A question to a person; the default, before the next night, is no."""
    return ApprovalOperator(
        task_id=name,
        subject=subject,
        body=body,
        defaults=[ApprovalOperator.REJECT],
        response_timeout=timedelta(hours=20),
        execution_timeout=None,
        retries=0,
    )


def answered_by(approval: ApprovalOperator) -> str:
    """The template of the person who said yes, as Airflow authenticated them."""
    return f"{{{{ ti.xcom_pull(task_ids='{approval.task_id}')['responded_by_user']['name'] }}}}"


@dag(
    dag_id="mediscale_promotion",
    schedule=[CANDIDATE],
    default_args=DEFAULTS,
    description=first_line(__doc__),
    doc_md=__doc__,
    **EVERY_DAG,
)
def promotion() -> None:
    newest = candidate()
    for node in steps.nodes(steps.TRAINING):
        if node.stage == "promotion":
            decision(node, newest)


promotion()
