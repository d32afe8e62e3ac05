"""The loop as one page of stage calls: records → events → features → model → decision → watched predictions.

This is the CLI's runner. Everything that may change under a stage's feet (the clock, today's production model, the
next number of the promotion history) is resolved here and handed over in the stage's parameters.
"""

import getpass
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from mediscale import headlines, stages
from mediscale.errors import QualityError
from mediscale.progress import Progress
from mediscale.settings import Settings

TASKS = ("mortality", "readmission")


def now() -> datetime:
    """The caller's clock: UTC without a zone, as all times here."""
    return datetime.now(UTC).replace(tzinfo=None)


@dataclass
class Run:
    """One run of the loop over one dataset: calls stages, shows progress, keeps what the summary needs."""

    settings: Settings
    dataset: str
    progress: Progress = field(default_factory=Progress)
    refusals: dict[str, str] = field(default_factory=dict)
    """Task → why the loop could not take it to a model."""
    decisions: dict[str, Any] = field(default_factory=dict)
    """Task → result of its promotion stage."""
    verdicts: list[str] = field(default_factory=list)
    """What drift and the retrain verdict said."""

    def call(self, stage: str, config: Mapping[str, Any], *upstream: BaseModel, task: str = "") -> Any:
        """``stages.call`` with a line of progress; a task is a parameter of its stages."""
        values = {**config, "task": task} if task else dict(config)
        with self.progress.step(f"{stage} {task}".strip()) as step:
            step.found = stages.finished(stage, values, *upstream, settings=self.settings)
            result = stages.call(stage, values, *upstream, settings=self.settings)
            step.did = headlines.of(stage, result)
        return result


def run_synthetic(settings: Settings, size: str, dataset: str | None) -> int:
    """Makes a synthetic hospital and takes it through the loop, then rehearses serving, drift and the retrain verdict."""
    name = dataset or "synthetic"
    with stages.exclusive(settings, f"run-{name}", "A run of this dataset"):
        run = Run(settings, name)
        extract = run.call("synthetic", {"size": size, "dataset": name})
        models = to_decision(run, extract)
        if models:
            rehearse(run, models)
        return conclude(run)


def run_extract(settings: Settings, source: str, path: Path, dataset: str | None) -> int:
    """Takes a hospital's own extract through the loop, as far as its tables allow."""
    from data_pipeline import bronze
    from data_pipeline import source as source_files

    name = dataset or source
    with stages.exclusive(settings, f"run-{name}", "A run of this dataset"):
        run = Run(settings, name)
        with run.progress.step("extract") as step:
            digest = source_files.digest_of(path, source)
            step.did = f"read once for its digest {digest[:12]}"
        extract = bronze.Params(
            source=source, dataset=name, path=str(path.resolve()), extract_digest=digest
        )
        to_decision(run, extract)
        return conclude(run)


def to_decision(run: Run, extract: BaseModel) -> dict[str, list[BaseModel]]:
    """From an extract to a promotion decision per task; returns, per task, the results that rehearsal needs."""
    landed = run.call("bronze", {}, extract)
    judged = run.call("quality", {}, landed)
    events = run.call("silver", {}, landed, judged)
    models = {}
    for task in TASKS:
        try:
            models[task] = to_model(run, task, extract, landed, events)
        except QualityError as refusal:
            run.refusals[task] = str(refusal)
            run.progress.console.print(f"  refused  {task}: {refusal}", soft_wrap=True)
    return models


def to_model(run: Run, task: str, extract: BaseModel, landed: BaseModel, events: BaseModel) -> list[BaseModel]:
    """One task: cohort, features, frozen training set, model, evidence, decision."""
    labels = run.call("labels", {}, landed, events, task=task)
    features = run.call("gold", {}, landed, events, labels, task=task)
    frozen = run.call("training_set", {}, landed, events, labels, features, task=task)
    model = run.call("risk_model", {}, landed, frozen, task=task)
    evidence, decision = decide(run, task, extract, frozen, model, events)
    run.decisions[task] = decision
    return [frozen, model, evidence, decision]


def decide(
    run: Run, task: str, extract: BaseModel, frozen: BaseModel, model: Any, events: BaseModel
) -> tuple[BaseModel, BaseModel]:
    """Evidence and promotion against today's production model; a model version is decided once."""
    from training import promote

    today = promote.situation(run.settings, run.dataset, task, model.model)
    oracle = {"oracle": getattr(extract, "oracle", None)}
    evidence = run.call("evaluate", {**today.evaluation, **oracle}, frozen, model, events, task=task)
    config = {**today.promotion, "dataset": run.dataset, "actor": actor(), "moved_at": today.moved_at or now()}
    decision = run.call("promotion", config, model, evidence, task=task)
    return evidence, decision


def actor() -> str:
    """Who moves an alias: MEDISCALE_ACTOR where a scheduler sets it, else the account's name."""
    return os.environ.get("MEDISCALE_ACTOR") or getpass.getuser()


def rehearse(run: Run, models: dict[str, list[BaseModel]]) -> None:
    """Sends held-out patients through the real server in quiet and in planted windows, and asks for the verdict."""
    raise NotImplementedError


def conclude(run: Run) -> int:
    """The table, the metrics, the decisions and the next commands; the exit code."""
    from mediscale import summary

    summary.show(run)
    return QualityError.exit_code if not run.decisions else 0
