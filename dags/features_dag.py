"""Every night: what arrived, landed, judged and turned into features as they were known when the night began.

``as_of`` is the end of the run's data interval, never the clock: a backfilled night gives the features that the night
itself would have had. The finished night is published as an asset, which retraining is scheduled on.
"""

from datetime import datetime, timedelta

from airflow.sdk import Metadata, Param, dag, task
from mediscale_steps import (
    CONFIG_PARAM,
    DEFAULTS,
    EXTRACT_PARAMS,
    FEATURES,
    RESULTS,
    chain,
    extract,
    first_line,
)

from mediscale import graph

NIGHT = "{{ (dag_run.data_interval_end or dag_run.run_after).strftime('%Y-%m-%dT%H:%M:%S') }}"
AS_OF = (
    "as_of={% if params.as_of == 'night' %}" + NIGHT + "{% elif params.as_of == 'all' %}null"
    "{% else %}{{ params.as_of }}{% endif %}"
)


@task(outlets=[FEATURES], trigger_rule="none_failed_min_one_success")
def publish(results: str):  # type: ignore[no-untyped-def]
    """Says where the night's results lie."""
    yield Metadata(FEATURES, extra={"results": results})


@dag(
    dag_id="mediscale_features",
    schedule="0 1 * * *",
    start_date=datetime(2026, 1, 1),
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=timedelta(hours=8),
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
    tags=["mediscale"],
    description=first_line(__doc__),
    doc_md=__doc__,
)
def features() -> None:
    as_of = dict.fromkeys(graph.AS_OF, (AS_OF,))
    done = chain(graph.FEATURES, {graph.EXTRACT: extract()}, settings=as_of)
    published = publish(RESULTS)
    for name in graph.TASKS:
        done[graph.named("gold", name)] >> published


features()
