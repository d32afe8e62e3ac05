"""Every night: what arrived, landed, judged and turned into features as they were known when the night began.

``as_of`` is the end of the run's data interval, never the clock: a backfilled night gives the features that the night
itself would have had. The finished night is published as an asset, which retraining is scheduled on; a backfilled one,
or one that a person gave a time of its own, is not: nobody waits for a model of the past.
"""

from datetime import datetime, timedelta
from typing import Any

from airflow.sdk import Metadata, Param, dag, get_current_context, task
from airflow.sdk.exceptions import AirflowSkipException
from mediscale_steps import (
    CONFIG,
    CONFIG_PARAM,
    DEFAULTS,
    EVERY_DAG,
    EXTRACT_PARAMS,
    FEATURES,
    RESULTS,
    chain,
    first_line,
    prepare_source,
)

from mediscale.pipeline import steps


def night(dag_run: Any) -> str:
    """When a run's night began: UTC without a zone, as all times of the platform."""
    return str((dag_run.data_interval_end or dag_run.run_after).strftime("%Y-%m-%dT%H:%M:%S"))


def as_of(params: Any, dag_run: Any) -> str:
    """The time by which something must have been recorded to be seen; empty: everything is."""
    return {"night": night(dag_run), "all": ""}.get(params["as_of"], params["as_of"])


AS_OF = ("--as-of", "{{ as_of(params, dag_run) }}")


@task(outlets=[FEATURES], trigger_rule="none_failed_min_one_success")
def publish(results: str):  # type: ignore[no-untyped-def]
    """Says whose night it was and where its results lie."""
    context = get_current_context()
    params, run = context["params"], context["dag_run"]
    if run.run_type == "backfill" or params["as_of"] not in ("night", "all"):
        raise AirflowSkipException("A night of the past starts no retraining.")
    dataset = params["dataset"] or params["source"]
    yield Metadata(FEATURES, extra={"results": results, "dataset": dataset, "night": night(run)})


@dag(
    dag_id="mediscale_features",
    schedule="0 1 * * *",
    start_date=datetime(2026, 1, 1),
    dagrun_timeout=timedelta(hours=12),
    default_args=DEFAULTS,
    params=EXTRACT_PARAMS
    | CONFIG_PARAM
    | {
        "as_of": Param(
            "night",
            type="string",
            pattern=r"^(night|all|\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)$",
            description="night: when it began. all: everything (extracts with shifted dates). Or a UTC time.",
        )
    },
    user_defined_macros={"as_of": as_of},
    description=first_line(__doc__),
    doc_md=__doc__,
    **EVERY_DAG,
)
def features() -> None:
    done = chain(steps.FEATURES, {steps.PREPARE_SOURCE: prepare_source()}, config=(*CONFIG, *AS_OF))
    published = publish(RESULTS)
    needed = {name for node in steps.nodes(steps.FEATURES) for name in node.upstream}
    for name in done.keys() - needed:
        done[name] >> published


features()
