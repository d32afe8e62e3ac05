"""The order of the loop, as data that the CLI, Kubeflow and Airflow read.

Standard library only: Airflow's environment, which has nothing of ours in it, imports this while it parses.
"""

from collections.abc import Iterator
from typing import NamedTuple

from mediscale.core.tasks import TASKS


class Step(NamedTuple):
    """A stage, and the stages whose results fill its parameters by field name."""

    stage: str
    upstream: tuple[str, ...]
    per_task: bool = False


class Node(NamedTuple):
    """A step of one task (or of none), by names that are unique in the loop."""

    name: str
    stage: str
    task: str
    upstream: tuple[str, ...]


EXTRACT = "extract"
"""Not a stage: what a run begins with, a hospital's own files or the synthetic stage's."""

FEATURES = (
    Step("bronze", (EXTRACT,)),
    Step("quality", ("bronze",)),
    Step("silver", ("bronze", "quality")),
    Step("deidentify", (EXTRACT, "bronze")),
    Step("note_tokens", ("bronze", "deidentify")),
    Step("labels", ("bronze", "silver"), per_task=True),
    Step("gold", ("bronze", "silver", "labels"), per_task=True),
)
"""What the night does: records to features."""

AS_OF = ("labels", "gold")
"""The night's stages that see only what was recorded by a time, their parameter ``as_of``."""

TRAINING = (
    Step("training_set", ("bronze", "silver", "labels", "gold"), per_task=True),
    Step("risk_model", ("bronze", "training_set"), per_task=True),
    Step("note_model", ("bronze", "labels", "training_set", "note_tokens"), per_task=True),
    Step("combination", ("bronze", "training_set", "risk_model", "note_model"), per_task=True),
    Step(
        "evaluate",
        (EXTRACT, "silver", "labels", "note_tokens", "training_set", "combination"),
        per_task=True,
    ),
    Step("promotion", ("bronze", "combination", "evaluate"), per_task=True),
)
"""What a retraining does with them: features to a decision."""

LOOP = FEATURES + TRAINING


def nodes(steps: tuple[Step, ...], tasks: tuple[str, ...] = TASKS) -> Iterator[Node]:
    """The steps once per task where they have one, in an order in which upstream comes first.

    >>> [node.name for node in nodes(FEATURES, ("mortality",))]
    ['bronze', 'quality', 'silver', 'deidentify', 'note_tokens', 'labels_mortality', 'gold_mortality']
    """
    per_task = {step.stage for step in LOOP if step.per_task}
    for step in steps:
        for task in tasks if step.per_task else ("",):
            upstream = tuple(named(stage, task if stage in per_task else "") for stage in step.upstream)
            yield Node(named(step.stage, task), step.stage, task, upstream)


def named(stage: str, task: str) -> str:
    return f"{stage}_{task}" if task else stage
