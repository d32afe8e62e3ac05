"""Orchestrators: a run whose stages are called by Kubeflow's local runner or by Airflow.

The CLI then goes on under the same run id and finds every stage done. What an orchestrator prints goes to a log in the
home: a person sees one line, or the one sentence of the stage that failed.
"""

from contextlib import redirect_stdout
from pathlib import Path
from typing import TextIO

from mediscale.core.errors import MediscaleError, UsageError
from mediscale.core.settings import Settings
from mediscale.pipeline import call
from mediscale.pipeline.call import RunConfig
from mediscale.pipeline.progress import Progress
from mediscale.pipeline.runtime_inputs import Source
from mediscale.storage.locks import exclusive

OURS = "mediscale: "
"""How the CLI and the components print a stage's own sentence."""


def orchestrate(runner: str, settings: Settings, which: Source, config: RunConfig, run_id: str) -> None:
    """Takes a source to its promotion decisions by ``kubeflow`` (its local runner) or ``airflow``.

    Raises:
        UsageError: the runner is not installed here or does not know the pipeline, or a stage would refuse its
            configuration.
        InputError: there is no such source.
        BusyError: the dataset is being run.
        MediscaleError: a stage failed; the message is its own sentence.
    """
    call.check(config, which.pipeline)
    which = which.model_copy(update={"path": _checked(which)})
    log = settings.home / "logs" / f"{runner}-{which.name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    progress = Progress()
    progress.console.print(
        f"  each stage as a process of its own by {runner}; it tells {log}", soft_wrap=True
    )
    with (
        exclusive(settings, f"run-{which.name}", "A run of this dataset"),
        log.open("w", buffering=1) as stream,
        progress.step(runner) as step,
    ):
        if not RUNNERS[runner](settings, which, config, run_id, stream):
            raise MediscaleError(sentence(log))
        step.summary = "every stage done"


def _checked(which: Source) -> str:
    """The extract's folder, or the file of questions, as a step finds it wherever it runs here; empty for neither."""
    from data_pipeline.ingest import source

    if not which.path:
        return ""
    if which.pipeline == "language":
        return str(Path(which.path).resolve())
    source.load(which.source)
    path = Path(which.path).resolve()
    if not path.is_dir():
        raise UsageError(f"There is no folder {which.path}; --path names the extract's.")
    return str(path)


def _kubeflow(settings: Settings, which: Source, config: RunConfig, run_id: str, log: TextIO) -> bool:
    from kubeflow_pipelines import local

    with redirect_stdout(log):
        arguments = {**which.as_arguments, "config": config, "run_id": run_id}
        return local.run(settings, which.pipeline, arguments)


def _airflow(settings: Settings, which: Source, config: RunConfig, run_id: str, log: TextIO) -> bool:
    from mediscale.cli import local_airflow

    return local_airflow.run_loop(settings, which, config, run_id, log)


RUNNERS = {"kubeflow": _kubeflow, "airflow": _airflow}
"""What runs every stage of a hospital, and says whether all of them succeeded."""


def sentence(log: Path) -> str:
    """The last sentence that a stage left in a log, or where to look."""
    ours = [line for line in log.read_text(errors="replace").splitlines() if OURS in line]
    if ours:
        return ours[-1].partition(OURS)[2]
    return f"A step ended without a word, as a killed process does; run again to go on, or read {log}."
