"""Questions to a decision about a language model, once, as ``mediscale run --pipeline language --runner airflow`` does.

Triggered by hand it stops at staging, as retraining does, unless its configuration asks for production; whoever
triggered it is then recorded.
"""

from airflow.sdk import dag
from mediscale_steps import (
    CONFIG_PARAM,
    DEFAULTS,
    EVERY_DAG,
    QUESTION_PARAMS,
    RUN_ID_PARAM,
    chain,
    first_line,
    prepare_questions,
)

from mediscale.pipeline import steps


@dag(
    dag_id="mediscale_language",
    schedule=None,
    max_active_tasks=1,
    default_args=DEFAULTS | {"retries": 0},
    params=QUESTION_PARAMS | CONFIG_PARAM | {"run_id": RUN_ID_PARAM},
    description=first_line(__doc__),
    doc_md=__doc__,
    **EVERY_DAG,
)
def language() -> None:
    chain(steps.LANGUAGE, {steps.PREPARE_SOURCE: prepare_questions()})


language()
