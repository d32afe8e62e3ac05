"""The loop as the CLI drives it: the stages of ``graph``, one after the other in this process, with progress shown.

At its end stands, per task, a model version with evidence and a decision; for a synthetic hospital also a rehearsal of
what comes after: predictions, drift, and the verdict whether to retrain.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from mediscale.core.errors import QualityError
from mediscale.core.settings import Settings
from mediscale.core.tasks import TASKS
from mediscale.pipeline import call, headlines, runtime_inputs
from mediscale.pipeline import steps as graph
from mediscale.pipeline.progress import Progress

Results = dict[str, BaseModel]
"""What was returned so far, by the names of ``graph``."""


@dataclass
class Run:
    """One run over one dataset: calls stages, shows progress, keeps what the summary needs."""

    settings: Settings
    dataset: str
    config: call.RunConfig = field(default_factory=dict)
    progress: Progress = field(default_factory=Progress)
    refusals: dict[str, str] = field(default_factory=dict)
    """Task → why the loop could not take it to a model."""
    decisions: dict[str, Any] = field(default_factory=dict)
    """Task → result of its promotion stage."""
    verdicts: list[str] = field(default_factory=list)
    """What drift and the retrain verdict said in the rehearsal."""
    report: Path | None = None

    def call(self, stage: str, config: Mapping[str, Any], *upstream: BaseModel) -> Any:
        """``resolve.call`` with a line of progress."""
        task = str(config.get("task", ""))
        with self.progress.step(f"{stage} {task}".strip()) as step:
            known = [result.model_dump() for result in upstream]
            values = runtime_inputs.resolved(stage, config, known, self.settings)
            step.found = call.finished(stage, values, settings=self.settings)
            result = call.call(stage, values, settings=self.settings)
            step.did = headlines.of(stage, result)
        return result

    def follow(self, steps: tuple[graph.Node, ...], results: Results) -> None:
        """Calls the steps in order, each with the results that it names."""
        for node in steps:
            config = {**self.config.get(node.stage, {}), **({"task": node.task} if node.task else {})}
            results[node.name] = self.call(node.stage, config, *(results[name] for name in node.upstream))


def to_decisions(this: Run, results: Results) -> None:
    """Everything that the tasks share, then each task as far as its data carries it."""
    this.follow(tuple(graph.nodes(graph.LOOP, ())), results)
    for task in TASKS:
        steps = tuple(node for node in graph.nodes(graph.LOOP, (task,)) if node.task)
        try:
            this.follow(steps, results)
            this.decisions[task] = results[f"promotion_{task}"]
        except QualityError as refusal:
            this.refusals[task] = str(refusal)
            this.progress.note(f"{task}: {refusal}")
