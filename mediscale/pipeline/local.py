"""The CLI's runner: the stages of a pipeline, one after the other in this process, with progress shown."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel

from mediscale.core.commands import relative
from mediscale.core.errors import QualityError
from mediscale.core.settings import Settings
from mediscale.core.task_names import TASKS
from mediscale.pipeline import call, runtime_inputs, steps
from mediscale.pipeline.call import FinishedCall, RunConfig
from mediscale.pipeline.progress import Progress

Results = dict[str, BaseModel]
"""What was returned so far, by the names of the pipeline's nodes."""


@dataclass
class Run:
    """One run over one dataset: calls stages, shows progress, keeps what the summary needs."""

    settings: Settings
    dataset: str
    run_id: str
    config: RunConfig = field(default_factory=dict)
    progress: Progress = field(default_factory=Progress)
    tasks: tuple[str, ...] = TASKS
    refusals: dict[str, str] = field(default_factory=dict)
    """Task → why the pipeline could not take it to a model."""
    decisions: dict[str, FinishedCall] = field(default_factory=dict)
    """Task → its promotion call."""
    verdicts: list[str] = field(default_factory=list)
    """What drift and the retrain decision said in the rehearsal."""

    def call(self, stage: str, config: Mapping[str, Any], *upstream: BaseModel) -> FinishedCall:
        """``runtime_inputs.call`` with a line of progress."""
        task = str(config.get("task", ""))
        what = call.load(stage).display_name
        with self.progress.step(f"{stage} {task}".strip(), what) as step:
            results = [result.model_dump() for result in upstream]
            finished = runtime_inputs.call(stage, config, results, self.settings, self.run_id)
            step.cached = finished.cached
            step.summary = call.load(stage).summary(finished.result)
        return finished

    def follow(self, nodes: tuple[steps.Node, ...], results: Results) -> None:
        """Calls the nodes in order, each with the results that it names."""
        for node in nodes:
            config = {**self.config.get(node.stage, {}), **({"task": node.task} if node.task else {})}
            finished = self.call(node.stage, config, *(results[name] for name in node.upstream))
            results[node.name] = finished.result
            if node.stage in ("promotion", "promote_language"):
                self.decisions[node.task] = finished


def introduce(this: Run, pipeline: tuple[steps.Step, ...]) -> None:
    """Prints what is about to happen and where it goes, for whoever types it the first time."""
    stages = len(tuple(steps.nodes(pipeline, this.tasks)))
    per_task = any(step.per_task for step in pipeline)
    of_tasks = f", for {' and '.join(this.tasks)}" if per_task else ""
    this.progress.note(
        f"{this.dataset} goes through {stages} stages{of_tasks}; all is written under {relative(this.settings.home)}."
    )
    this.progress.note("A finished stage is kept: after Ctrl-C the same command goes on from there.")


def prepare_source(this: Run, which: runtime_inputs.Source) -> BaseModel:
    """What the run begins with, with a line of progress."""
    what = call.load("synthetic").display_name
    if which.source or which.pipeline != "risk":
        what = "read the extract's files" if which.pipeline == "risk" else "find the questions"
    with this.progress.step(steps.PREPARE_SOURCE, what) as step:
        source = runtime_inputs.prepare_source(this.settings, which, this.config, this.run_id)
        step.summary = source_summary(source)
    return source


def source_summary(source: BaseModel) -> str:
    """The line about what a run begins with."""
    synthetic = call.load("synthetic")
    if isinstance(source, synthetic.Result):
        return synthetic.summary(source)
    named: Any = source
    if hasattr(named, "source_digest"):
        return f"questions of {named.source}, digest {named.source_digest[:12]}"
    return f"{named.source} files read once for their digest {named.extract_digest[:12]}"


def run_pipeline(this: Run, pipeline: tuple[steps.Step, ...], source: BaseModel) -> Results:
    """Calls what the tasks share, then each task as far as its data carries it."""
    results: Results = {steps.PREPARE_SOURCE: source}
    this.follow(tuple(steps.nodes(pipeline, ())), results)
    for task in this.tasks:
        of_task = tuple(node for node in steps.nodes(pipeline, (task,)) if node.task)
        try:
            this.follow(of_task, results)
        except QualityError as refusal:
            this.refusals[task] = str(refusal)
            this.progress.note(f"{task}: {refusal}")
    return results
