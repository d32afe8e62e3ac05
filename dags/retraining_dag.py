"""After each night's features, or on a drift verdict: a model per task, its evidence, and staging where it is earned.

Production is not touched here: a version that reached staging is published as a candidate, for a person to approve.
"""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

from airflow.sdk import Metadata, Param, dag, get_current_context, task
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException
from mediscale_steps import (
    CANDIDATE,
    CONFIG_PARAM,
    DEFAULTS,
    DRIFTED,
    EVERY_DAG,
    FEATURES,
    RESULTS,
    chain,
    first_line,
)

from mediscale.core.datasets import DATASET_PATTERN
from mediscale.core.task_names import TASKS
from mediscale.pipeline import steps

NIGHT = "{{ ti.xcom_pull(task_ids='night')['results'] }}"


@task(inlets=[FEATURES], retries=0)
def night(inlet_events: Any = None) -> dict[str, str]:
    """The newest finished night of the hospital that this run is about: its name, and where the night's results lie."""
    context = get_current_context()
    events = [event.extra for event in inlet_events[FEATURES] if "results" in event.extra]
    started = [e.extra for asset in (context.get("triggering_asset_events") or {}).values() for e in asset]
    datasets = {extra["dataset"] for extra in started if "dataset" in extra}
    if context["params"]["dataset"]:
        datasets = {context["params"]["dataset"]}
    if len(datasets) > 1:
        raise AirflowFailException(
            f"{' and '.join(sorted(datasets))} came at once; trigger mediscale_retraining with a dataset for each."
        )
    nights = [extra for extra in started if "results" in extra] or events
    nights = [extra for extra in nights if not datasets or extra["dataset"] in datasets]
    if not nights:
        whose = ", ".join(datasets) or "any hospital"
        raise AirflowFailException(f"No night of {whose} has published features yet; run mediscale_features.")
    return dict(max(nights, key=lambda extra: extra["night"]))


@task(inlets=[CANDIDATE], outlets=[CANDIDATE], trigger_rule="none_failed_min_one_success")
def publish(results: str, features: dict[str, str], inlet_events: Any = None):  # type: ignore[no-untyped-def]
    """Says where the candidates' results lie, and those of the night that they were trained on.

    Skipped, which publishes nothing, where no version reached staging, or these were asked about before.
    """
    models = {name: staged for name in TASKS if (staged := _staged(Path(results), name))}
    if not models:
        raise AirflowSkipException("No version reached staging: there is nothing to approve.")
    before = [event.extra for event in inlet_events[CANDIDATE]]
    if any(extra.get("models") == models for extra in before):
        raise AirflowSkipException("These versions were asked about before.")
    common = {"results": results, "features": features["results"], "dataset": features["dataset"]}
    yield Metadata(CANDIDATE, extra={**common, "models": models})


def _staged(results: Path, name: str) -> str:
    """The version of a task that reached staging, or nothing."""
    file = results / f"promotion_{name}.json"
    decided = json.loads(file.read_text()) if file.exists() else {}
    return f"{decided['model']['name']}/{decided['model']['version']}" if decided.get("staged") else ""


@dag(
    dag_id="mediscale_retraining",
    schedule=(FEATURES | DRIFTED),
    dagrun_timeout=timedelta(hours=12),
    default_args=DEFAULTS,
    params=CONFIG_PARAM
    | {
        "dataset": Param(
            None,
            type=["null", "string"],
            pattern=DATASET_PATTERN,
            description="Whose newest night; empty: that of whatever started the run, or of the newest night.",
        )
    },
    description=first_line(__doc__),
    doc_md=__doc__,
    **EVERY_DAG,
)
def retraining() -> None:
    newest = night()
    done_before = {node.name for node in steps.nodes(steps.FEATURES)} | {steps.PREPARE_SOURCE}
    done = chain(
        steps.TRAINING, {}, dict.fromkeys(done_before, NIGHT), fixed={"promotion": "target_alias=staging"}
    )
    published = publish(RESULTS, newest)
    for name in TASKS:
        newest >> done[steps.node_name("training_set", name)]
        done[steps.node_name("promotion", name)] >> published


retraining()
