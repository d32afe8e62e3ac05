"""An extract through the loop to its promotion decisions, once, as ``mediscale run --runner airflow`` does."""

from airflow.sdk import dag
from mediscale_steps import CONFIG_PARAM, DEFAULTS, EXTRACT_PARAMS, chain, extract, first_line

from mediscale import graph


@dag(
    dag_id="mediscale_loop",
    schedule=None,
    catchup=False,
    max_active_runs=1,
    max_active_tasks=1,
    default_args=DEFAULTS | {"retries": 0},
    params=EXTRACT_PARAMS | CONFIG_PARAM,
    tags=["mediscale"],
    description=first_line(__doc__),
    doc_md=__doc__,
)
def loop() -> None:
    chain(graph.LOOP, {graph.EXTRACT: extract()})


loop()
