"""``mediscale run``: an extract through the whole loop, with progress shown, and what a person reads at its end."""

from mediscale.core.errors import QualityError
from mediscale.core.settings import Settings
from mediscale.pipeline import call, headlines, local, runtime_inputs, steps
from mediscale.simulation import rehearsal


def run(
    settings: Settings,
    size: str = "",
    source: str = "",
    path: str = "",
    dataset: str = "",
    config: call.RunConfig | None = None,
) -> int:
    """Takes an extract, a hospital's own or a synthetic one, through the loop; returns the exit code.

    Raises:
        UsageError: source and path, or size, do not fit together, or a stage would refuse its configuration.
        InputError: the extract can't be read.
        BusyError: another run of this dataset is going on.
    """
    runtime_inputs.check_choice(size, source, path, dataset)
    call.check(config or {})
    name = dataset or source or "synthetic"
    with call.exclusive(settings, f"run-{name}", f"A run of {name}"):
        this = local.Run(settings, name, config or {})
        with this.progress.step("extract") as step:
            extract = runtime_inputs.extract(settings, size, source, path, dataset, this.config)
            step.did = headlines.of_extract(extract)
        results: local.Results = {steps.EXTRACT: extract}
        local.to_decisions(this, results)
        if not source:
            rehearsal.rehearse(this, results)
        return conclude(this)


def conclude(this: local.Run) -> int:
    """The report, the table, the metrics, the decisions and the next commands; the exit code."""
    from mediscale import report
    from mediscale.cli import summary

    if this.decisions:
        with this.progress.step("report") as step:
            model = next(iter(this.decisions.values())).model
            this.report, untold = report.publish(this.settings, f"{model.name}/{model.version}")
            step.did = untold or "one page for everybody; the run and its stages in MLflow"
    summary.show(this)
    return 0 if this.decisions else QualityError.exit_code
