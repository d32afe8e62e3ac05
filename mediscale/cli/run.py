"""Verbs of the data scientist: run a pipeline, live through simulated nights, look at runs, reports and stages."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from mediscale.cli.verbs import (
    Verb,
    add_config,
    add_pipeline,
    add_source,
    add_tasks,
    config_of,
    path,
    settings,
    source_of,
    tasks_of,
)
from mediscale.core.task_names import LANGUAGE

if TYPE_CHECKING:
    from mediscale.core.settings import Settings
    from mediscale.pipeline.call import RunConfig
    from mediscale.pipeline.local import Run
    from mediscale.pipeline.runtime_inputs import Source
    from mediscale.storage.lineage import Run as ListedRun


def _add_run(parser: argparse.ArgumentParser) -> None:
    add_pipeline(parser)
    add_source(parser)
    add_tasks(parser)
    add_config(parser)
    parser.add_argument(
        "--runner",
        choices=("cli", "kubeflow", "airflow"),
        default="cli",
        help="what calls the stages: this process (default), or Kubeflow or Airflow with a process for each",
    )


def _run(options: argparse.Namespace) -> int:
    from mediscale.pipeline import steps
    from mediscale.storage import calls

    _refuse_tasks(options)
    which, config, tasks = source_of(options), config_of(options.set), tasks_of(options)
    decision = steps.PIPELINES[which.pipeline][-1].stage
    config.setdefault(decision, {}).setdefault("target_alias", "production")  # whoever types this asks for it
    run_id = calls.new_run_id(options.runner)
    if options.runner != "cli":
        from mediscale.cli import orchestrators

        orchestrators.orchestrate(options.runner, settings(), which, config, run_id)
    return run_locally(settings(), which, config, run_id, tasks)


def _refuse_tasks(options: argparse.Namespace) -> None:
    """Refuses tasks where they can't be chosen: DAGs and pipelines of an orchestrator are made for those of every run.

    Raises:
        UsageError: the run is of the language pipeline or by an orchestrator.
    """
    from mediscale.core.errors import UsageError

    if options.task and options.pipeline == "language":
        raise UsageError("A language model has no task; leave --task out with --pipeline language.")
    if options.task and options.runner != "cli":
        raise UsageError(f"--task is for --runner cli; {options.runner} calls the tasks of every run.")


def run_locally(
    settings: "Settings", which: "Source", config: "RunConfig", run_id: str, tasks: tuple[str, ...]
) -> int:
    """Takes an extract, a hospital's own or a synthetic one, through the loop; returns the exit code.

    Raises:
        UsageError: source and path, or size, do not fit together, or a stage would refuse its configuration.
        InputError: the extract can't be read.
        BusyError: another run of this dataset is going on.
    """
    from mediscale import report
    from mediscale.cli import summary
    from mediscale.pipeline import call, local, steps
    from mediscale.simulation import rehearsal
    from mediscale.storage.locks import exclusive

    which.check()
    call.check(config, which.pipeline)
    pipeline = steps.PIPELINES[which.pipeline]
    with exclusive(settings, f"run-{which.name}", f"A run of {which.name}"):
        this = local.Run(settings, which.name, run_id, config, tasks=tasks)
        local.introduce(this, pipeline)
        results = local.run_pipeline(this, pipeline, local.prepare_source(this, which))
        if which.pipeline == "language":
            with this.progress.step("report", "write the page about this run") as step:
                decided = next(iter(this.decisions.values())).record.run_id
                page, step.summary = report.write(settings, decided), "one page, and the model card beside it"
            summary.show_language(this, page, results)
            return 0
        if not which.source:
            rehearsal.rehearse(this, results)
        return _conclude(this)


def _conclude(this: "Run") -> int:
    """The report, the table, the metrics, the decisions and the next commands; the exit code."""
    from mediscale import report
    from mediscale.cli import summary
    from mediscale.core.errors import QualityError

    page: Path | None = None
    if this.decisions:
        with this.progress.step("report", "write the page about this run") as step:
            decided = next(iter(this.decisions.values())).record.run_id  # where all is cached, an earlier run
            page, untold = report.publish(this.settings, decided)
            step.summary = untold or "one page for everybody; the run and its stages in MLflow"
    summary.show(this, page)
    return 0 if this.decisions else QualityError.exit_code


def _add_simulate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--nights", type=int, default=14)
    parser.add_argument(
        "--size",
        choices=("tiny", "small"),
        default="small",
        help="size of the synthetic hospital: 1,500 patients, too few to promote a model, or 6,000 (default)",
    )
    parser.add_argument(
        "--changes",
        action="store_true",
        help="instead of nights: plant an analyser's fault, other patients and a subgroup's decline, and print when "
        "watching notices each, with its false alarms; needs what `mediscale run` makes",
    )


def _simulate(options: argparse.Namespace) -> int:
    if options.changes:
        return _changes()
    from mediscale.simulation import nights

    return nights.run(settings(), options.nights, options.size)


def _changes() -> int:
    from rich.console import Console

    from mediscale.core.errors import QualityError
    from mediscale.simulation import watched_hospital

    progress = Console(stderr=True)
    with progress.status("the version and its held-out patients …") as status:
        outcomes = watched_hospital.run(settings(), "synthetic", "mortality", status.update)
    for outcome in outcomes:
        print(f"{outcome.change}: {outcome.summary}")
    print("Synthetic patients. Every output of a model needs a clinician's judgement.")
    return 0 if all(outcome.right for outcome in outcomes) else QualityError.exit_code


def _add_runs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dataset", help="only runs of this dataset")


def _runs(options: argparse.Namespace) -> int:
    from mediscale.storage import last_calls
    from mediscale.storage.lineage import Lineage

    home = settings()
    runs = [run for run in Lineage(home).runs() if options.dataset in (None, run.dataset)]
    if not runs and options.dataset:
        print(f"No run of {options.dataset} has called a stage in this home; `mediscale runs` lists all.")
    elif not runs:
        print("No run has called a stage in this home yet; type `mediscale run`.")
    for run in runs:
        print(_line(run))
    for failure in last_calls.failures(home, options.dataset):
        print(failure)
    return 0


def _line(run: "ListedRun") -> str:
    own = len(run.calls) - len(run.cached)
    decided = "; ".join(f"{call.task or LANGUAGE} {_decision(call.result)}" for call in run.decisions)
    began = f"{run.began_at:%Y-%m-%d %H:%M}" if run.began_at else ""
    return (
        f"{began}  {run.run_id:<40} {run.dataset:<16} calls: {own:>3} made, {len(run.cached):>2} cached  {decided}"
    ).rstrip()


def _decision(result: dict[str, object]) -> str:
    return "promoted" if result["promoted"] else "staged" if result["staged"] else "refused"


def _add_report(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "run",
        nargs="?",
        default="",
        metavar="RUN",
        help="a run of `mediscale runs`, a dataset, a version as NAME/3, or the beginning of a call's key (default: "
        "the newest run that decided about a version)",
    )
    parser.add_argument("--output", type=path, help="file to write (default: in the home's reports)")


def _report(options: argparse.Namespace) -> int:
    from mediscale import report

    print(report.write(settings(), options.run, options.output))
    return 0


def _add_stages(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--digests",
        action="store_true",
        help="print the digest of each stage's code, which call records carry",
    )


def _stages(options: argparse.Namespace) -> int:
    from mediscale.pipeline import call, steps
    from mediscale.storage import calls

    for name, module in steps.STAGES.items():
        text = (
            calls.code_digest(module) if options.digests else f"{call.load(name).display_name:<36} {module}"
        )
        print(f"{name:<18} {text}")
    if options.digests:
        print(f"{'(locked packages)':<18} {calls.lock()}")
    return 0


VERBS = (
    Verb("run", "run the whole loop on an extract, or on a synthetic hospital", _run, _add_run),
    Verb(
        "simulate",
        "simulate nights of a synthetic hospital, as the DAGs would run them",
        _simulate,
        _add_simulate,
    ),
    Verb(
        "runs",
        "list the runs: when, how many calls were made or cached, what was decided, what failed",
        _runs,
        _add_runs,
    ),
    Verb(
        "report", "write one page about a run: decision, evidence, how to reproduce it", _report, _add_report
    ),
    Verb("stages", "list the stages", _stages, _add_stages),
)
