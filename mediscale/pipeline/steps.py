"""Pipelines as values: their stages, by module, in the order in which a run calls them.

Nothing of a stage is imported here: Airflow's environment, which has none of the platform's libraries, reads this while
it parses the DAGs. Adding a stage adds its file and one line here.
"""

from collections.abc import Iterator
from typing import NamedTuple

from mediscale.core.task_names import TASKS

PREPARE_SOURCE = "prepare_source"
"""Not a stage: what a run begins with, a hospital's own files or the synthetic stage's."""


class Step(NamedTuple):
    """A stage's module, and the stages whose results fill its parameters by field name."""

    module: str
    upstream: tuple[str, ...] = ()
    per_task: bool = False

    @property
    def stage(self) -> str:
        """The stage's name: that of its module."""
        return self.module.rpartition(".")[2]


class Node(NamedTuple):
    """A step of one task (or of none), by names that are unique in the pipeline."""

    name: str
    stage: str
    task: str
    upstream: tuple[str, ...]


INGEST = (
    Step("data_pipeline.ingest.bronze", (PREPARE_SOURCE,)),
    Step("data_pipeline.ingest.validate", (PREPARE_SOURCE, "bronze")),
    Step("data_pipeline.ingest.silver", (PREPARE_SOURCE, "bronze", "validate")),
)
"""Records to events."""

FEATURES = (
    *INGEST,
    Step("data_pipeline.notes.deidentification.deidentify", (PREPARE_SOURCE, "bronze")),
    Step("data_pipeline.notes.note_tokens", (PREPARE_SOURCE, "deidentify")),
    Step("data_pipeline.cohort.labels", (PREPARE_SOURCE, "bronze", "silver"), per_task=True),
    Step("data_pipeline.features.gold", (PREPARE_SOURCE, "silver", "labels"), per_task=True),
)
"""What the night does: records to features."""

TRAINING = (
    Step("data_pipeline.features.training_set", (PREPARE_SOURCE, "silver", "labels", "gold"), per_task=True),
    Step(
        "training.leakage.leakage",
        (PREPARE_SOURCE, "bronze", "silver", "note_tokens", "labels", "training_set"),
        per_task=True,
    ),
    Step("training.tabular.risk_model", (PREPARE_SOURCE, "training_set"), per_task=True),
    Step("training.notes.note_model", (PREPARE_SOURCE, "training_set", "note_tokens"), per_task=True),
    Step("training.late_fusion", (PREPARE_SOURCE, "training_set", "risk_model", "note_model"), per_task=True),
    Step(
        "training.evaluation.evaluate",
        (PREPARE_SOURCE, "validate", "silver", "note_tokens", "training_set", "leakage", "late_fusion"),
        per_task=True,
    ),
    Step("training.promotion.promotion", (PREPARE_SOURCE, "late_fusion", "evaluate"), per_task=True),
)
"""What a retraining does with them: features to a decision."""

RISK = FEATURES + TRAINING
"""The pipeline of risk models, from records to a decision."""

LANGUAGE = (
    Step("data_pipeline.documents.question_set", (PREPARE_SOURCE,)),
    Step("data_pipeline.documents.document_index", (PREPARE_SOURCE,)),
    Step("training.language.language_model", (PREPARE_SOURCE, "question_set")),
    Step("training.language.evaluate_language", (PREPARE_SOURCE, "question_set", "language_model")),
    Step("training.language.promote_language", (PREPARE_SOURCE, "language_model", "evaluate_language")),
)
"""The pipeline of language models, from questions to a decision."""

PIPELINES = {"risk": RISK, "language": LANGUAGE}
"""What a run can take from its source to a decision, by name."""

SYNTHETIC = Step("data_pipeline.synthetic")
"""Makes the extract of a synthetic hospital, where a run is given none."""

MONITORING = (
    Step("monitoring.drift.drift"),
    Step("monitoring.performance_series", ("drift",)),
    Step("monitoring.retrain_decision", ("drift", "performance_series")),
    Step("monitoring.question_drift"),
)

TUNING = Step("training.tabular.risk_tuning", per_task=True)
"""What a person asks for (``mediscale tune``); the fits that follow take what it chose."""

NOTE_FIELDS = Step("data_pipeline.notes.note_fields", (PREPARE_SOURCE, "deidentify"))
"""What a person or a night asks for: the typed fields of a lake's notes; no model reads them."""

SIMULATION = (Step("mediscale.simulation.held_out_replay"), Step("mediscale.simulation.daily_predictions"))
"""What only a synthetic hospital has."""

STAGES = {
    step.stage: step.module
    for step in (SYNTHETIC, *RISK, NOTE_FIELDS, TUNING, *LANGUAGE, *SIMULATION, *MONITORING)
}
"""The module of each stage."""


def nodes(steps: tuple[Step, ...], tasks: tuple[str, ...] = TASKS) -> Iterator[Node]:
    """The steps once per task where they have one, in an order in which upstream comes first.

    >>> [node.name for node in nodes(FEATURES, ("mortality",))]
    ['bronze', 'validate', 'silver', 'deidentify', 'note_tokens', 'labels_mortality', 'gold_mortality']
    """
    per_task = {step.stage for pipeline in PIPELINES.values() for step in pipeline if step.per_task}
    for step in steps:
        for task in tasks if step.per_task else ("",):
            upstream = tuple(node_name(stage, task if stage in per_task else "") for stage in step.upstream)
            yield Node(node_name(step.stage, task), step.stage, task, upstream)


def pipeline_of(stage: str) -> str:
    """The pipeline that a stage is part of; what watches or simulates goes with the risk models."""
    return next(
        (name for name, steps in PIPELINES.items() if stage in {step.stage for step in steps}), "risk"
    )


def node_name(stage: str, task: str) -> str:
    """The name of a pipeline's node: the stage, and its task if it has one."""
    return f"{stage}_{task}" if task else stage
