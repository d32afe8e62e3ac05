"""The loop as the CLI drives it: the stages of ``graph``, one after the other in this process, with progress shown.

At its end stands, per task, a model version with evidence and a decision; for a synthetic hospital also a rehearsal of
what comes after: predictions, drift, and the verdict whether to retrain.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from mediscale import graph, headlines, resolve, stages
from mediscale.errors import QualityError
from mediscale.progress import Progress
from mediscale.settings import Settings

Results = dict[str, BaseModel]
"""What was returned so far, by the names of ``graph``."""


@dataclass
class Run:
    """One run over one dataset: calls stages, shows progress, keeps what the summary needs."""

    settings: Settings
    dataset: str
    config: stages.RunConfig = field(default_factory=dict)
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
            values = resolve.resolved(stage, config, known, self.settings)
            step.found = stages.finished(stage, values, settings=self.settings)
            result = stages.call(stage, values, settings=self.settings)
            step.did = headlines.of(stage, result)
        return result

    def follow(self, steps: tuple[graph.Node, ...], results: Results) -> None:
        """Calls the steps in order, each with the results that it names."""
        for node in steps:
            config = {**self.config.get(node.stage, {}), **({"task": node.task} if node.task else {})}
            results[node.name] = self.call(node.stage, config, *(results[name] for name in node.upstream))


def run(
    settings: Settings,
    size: str = "",
    source: str = "",
    path: str = "",
    dataset: str = "",
    config: stages.RunConfig | None = None,
) -> int:
    """Takes an extract, a hospital's own or a synthetic one, through the loop; returns the exit code.

    Raises:
        UsageError: source and path, or size, do not fit together, or a stage would refuse its configuration.
        InputError: the extract can't be read.
        BusyError: another run of this dataset is going on.
    """
    resolve.check_choice(size, source, path, dataset)
    stages.check(config or {})
    name = dataset or source or "synthetic"
    with stages.exclusive(settings, f"run-{name}", f"A run of {name}"):
        this = Run(settings, name, config or {})
        with this.progress.step("extract") as step:
            extract = resolve.extract(settings, size, source, path, dataset, this.config)
            step.did = headlines.of_extract(extract)
        results: Results = {graph.EXTRACT: extract}
        to_decisions(this, results)
        if not source:
            rehearse(this, results)
        return conclude(this)


def to_decisions(this: Run, results: Results) -> None:
    """Everything that the tasks share, then each task as far as its data carries it."""
    this.follow(tuple(graph.nodes(graph.LOOP, ())), results)
    for task in graph.TASKS:
        steps = tuple(node for node in graph.nodes(graph.LOOP, (task,)) if node.task)
        try:
            this.follow(steps, results)
            this.decisions[task] = results[f"promotion_{task}"]
        except QualityError as refusal:
            this.refusals[task] = str(refusal)
            this.progress.note(f"{task}: {refusal}")


def rehearse(this: Run, results: Results) -> None:
    """Held-out patients ask the real server on a quiet made-up day and on two planted ones; then drift and verdict."""
    task = next((task for task, decision in this.decisions.items() if decision.staged), None)
    if task is None:
        return
    frozen, model = results[f"training_set_{task}"], results[f"combination_{task}"]
    today = resolve.staged_at(this.settings, this.dataset, task)
    config = {"dataset": this.dataset, "task": task}
    try:
        rehearsed = this.call("rehearsal", {**config, "moved_at": today}, frozen, model)
    except QualityError as refusal:
        this.progress.note(f"rehearsal: {refusal}")
        return
    windows: list[Any] = []
    for window in rehearsed.windows:
        span = {"start": window.start, "end": window.end, "predictions": rehearsed.predictions}
        windows.append(this.call("drift", {**config, **span}, frozen, model))
        verdict = this.call("retrain", {**config, "windows": tuple(windows)})
        this.verdicts.append(f"{window.name}: {windows[-1].summary}")
        this.verdicts.append(f"    {'retrain' if verdict.retrain else 'keep'}: {verdict.reason}")


def conclude(this: Run) -> int:
    """The report, the table, the metrics, the decisions and the next commands; the exit code."""
    from mediscale import report, summary

    if this.decisions:
        with this.progress.step("report") as step:
            model = next(iter(this.decisions.values())).model
            this.report, untold = report.publish(this.settings, f"{model.name}/{model.version}")
            step.did = untold or "one page for everybody; the run and its stages in MLflow"
    summary.show(this)
    return 0 if this.decisions else QualityError.exit_code
