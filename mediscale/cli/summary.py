"""Run summary: what was done, how good the model is, what was decided, and what to type next."""

import sys
from collections.abc import Iterator
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mediscale.core.commands import program, relative
from mediscale.core.privacy import count, count_of

if TYPE_CHECKING:
    from mediscale.core.settings import Settings
    from mediscale.pipeline.local import Results, Run
    from training.evaluation.evaluation_report import Evidence
    from training.language.language_evidence import LanguageMeasures
    from training.promotion.decision import Result as Decision
    from training.statistics.estimate import Estimate

PIPE_WIDTH = 160
"""Columns of a table that goes to a file or a pipe."""


def show(run: "Run", report: Path | None) -> None:
    """Prints the summary to standard output."""
    console = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else PIPE_WIDTH)
    console.print()
    console.print(f"[bold]done[/]  {run.progress.total}")
    for task, evidence in _evidence(run).items():
        console.print()
        console.print(_metrics(evidence))
        _show_decision(console, run, task)
    for task, sentence in run.refusals.items():
        console.print(f"\n[bold]{task}[/]: no model. {sentence}")
    if run.verdicts:
        console.print("\n[bold]watched[/]")
        for sentence in run.verdicts:
            console.print(f"  {sentence}")
    if report is not None:
        console.print(f"\n[bold]report[/]  {relative(report)}")
    if commands := _next(run):
        console.print("\n[bold]next[/]")
        for command in commands:
            console.print(f"  {command}", markup=False)
    console.print("\nEvery output of a model needs a clinician's judgement.", style="dim")


def show_language(run: "Run", report: Path, results: "Results") -> None:
    """Prints the summary of a run of the language pipeline to standard output."""
    from training import evidence_files
    from training.language.language_evidence import LanguageEvidence

    console = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else PIPE_WIDTH)
    console.print()
    console.print(f"[bold]done[/]  {run.progress.total}")
    fitted: Any = results["language_model"]
    for task, decision in run.decisions.items():
        result = decision.result
        evidence = evidence_files.read_evidence(
            LanguageEvidence, run.settings, result.evidence, result.evidence_digest
        )
        console.print()
        console.print(language_table(f"{evidence.model} beside {evidence.base.name}", evidence.measures))
        _show_decision(console, run, task)
        if fitted.trainable.caution:
            console.print(f"[bold]size[/]      {result.model} is {fitted.trainable.caution}.")
        console.print(f"\n[bold]report[/]  {relative(report)}")
        console.print("\n[bold]next[/]")
        for command in _next_language(run, result):
            console.print(f"  {command}", markup=False)
    console.print("\nEvery output of a model needs a clinician's judgement.", style="dim")


def _show_decision(console: Console, run: "Run", task: str) -> None:
    """The decision, and what a person did since: a run that found it made tells of that day."""
    from mediscale.storage import registry

    result = run.decisions[task].result
    console.print(f"[bold]decision[/]  {result.reason}")
    if since := registry.succession(run.settings, run.dataset, result.model):
        console.print(f"[bold]since[/]     {escape(since)}")  # a person's own words


def language_table(title: str, measures: "LanguageMeasures") -> Table:
    """The figures of a language model and of its base, by metric and specialty."""
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    for header in ("", "n", "base", "tuned", "gain", "95 % interval"):
        table.add_column(header, justify="left" if not header else "right")
    rows = [(name, figure) for name, figure in measures.figures.items()]
    rows += [("multiple choice accuracy, general", measures.general)] if measures.general else []
    for specialty, figures in measures.by_specialty.items():
        rows += [(f"{name}, {specialty}", figure) for name, figure in figures.items()]
    for name, figure in rows:
        estimates = [
            f"{each.value:z.3f}"
            for each in (figure.base, figure.tuned, figure.gain)
            if each.value is not None
        ]
        table.add_row(name.replace("_", " "), str(figure.n), *estimates, _cells(figure.gain)[1])
    return table


def _evidence(run: "Run") -> "dict[str, Evidence]":
    from training.evaluation import evaluation_report as evidence

    return {
        task: evidence.read(run.settings, decision.result.evidence, decision.result.evidence_digest)
        for task, decision in run.decisions.items()
    }


def _metrics(evidence: "Evidence") -> Table:
    from mediscale.report import labels

    counts = evidence.counts
    title = (
        f"{evidence.model} on {count(counts.n)} held-out {counts.unit} of {count(counts.subjects)} patients, "
        f"{count_of(counts.events, counts.n)} with the outcome"
    )
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    for header in ("", "value", "95 % interval"):
        table.add_column(header, justify="left" if not header else "right")
    for name, (label, _) in labels.METRICS.items():
        if name in evidence.metrics:
            table.add_row(label, *_cells(evidence.metrics[name]))
    for predictor, auroc in labels.predictors(evidence):
        table.add_row(f"AUROC of {predictor}", *_cells(auroc))
    return table


def _cells(estimate: "Estimate") -> tuple[str, str]:
    if estimate.value is None:
        return "not estimable", ""
    interval = "" if estimate.low is None else f"{estimate.low:.3f} to {estimate.high:.3f}"
    return f"{estimate.value:.3f}", interval


def _next(run: "Run") -> list[str]:
    from mediscale.storage import registry

    settings = run.settings
    in_production, in_staging = (
        {task for task in run.decisions if registry.current(settings, run.dataset, task, alias)}
        for alias in ("production", "staging")
    )
    commands = []
    if in_production or in_staging:  # else no server would start
        alias = "" if in_production else " --alias staging"
        commands.append(f"{program('mediscale')} serve --dataset {run.dataset}{alias}")
    if run.decisions:
        commands += [
            f"{program('mediscale')} canary {decided.model.name}/{decided.model.version} --percent 100 --shadow"
            for task, decision in run.decisions.items()
            if (decided := decision.result).staged and not decided.promoted and task in in_production
        ]
        commands.append(
            f"{program('mlflow', home=False)} ui --backend-store-uri {quote(_store(settings))} --port 5000"
        )
    if run.dataset == "synthetic":
        commands.append(f"{program('mediscale')} run --source mimic-iv --path FOLDER_OF_YOUR_EXTRACT")
    return commands


def _next_language(run: "Run", result: "Decision") -> Iterator[str]:
    version = f"{result.model.name}/{result.model.version}"
    if result.proposed:
        yield f"{program('mediscale')} approve {version} --reason TEXT"
    if result.staged:
        alias = "" if result.promoted else " --alias staging"
        yield f"{program('mediscale')} serve --dataset {run.dataset}{alias}"
    yield f"{program('mediscale')} evaluate-language {version} --test FILE_OF_YOUR_QUESTIONS --output REPORT.json"
    yield f"{program('mediscale')} export {version} --format merged --output FOLDER"


def _store(settings: "Settings") -> str:
    scheme, slashes, path = settings.tracking_uri.partition("///")
    return f"{scheme}{slashes}{relative(Path(path))}" if scheme == "sqlite:" else settings.tracking_uri
