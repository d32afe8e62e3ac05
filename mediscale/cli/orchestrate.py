"""Verbs of the orchestrators: what a run begins with, the pipeline on a Kubeflow cluster, Airflow on this machine."""

import argparse

from mediscale.cli.verbs import (
    Verb,
    add_config,
    add_pipeline,
    add_source,
    config_of,
    json_object,
    path,
    port,
    settings,
    source_of,
)


def _add_prepare_source(parser: argparse.ArgumentParser) -> None:
    from mediscale.cli import stage

    for name in ("pipeline", "source", "path", "dataset", "size"):
        parser.add_argument(f"--{name}", type=_stated, help="empty: not given")
    parser.add_argument("--run-config", default="{}", help="the parameters of each stage, as JSON")
    stage.add_step(parser)


def _stated(text: str) -> str | None:
    """An orchestrator gives every option, also those that nobody stated."""
    return text or None


def _prepare_source(options: argparse.Namespace) -> int:
    from mediscale.cli import stage
    from mediscale.pipeline import runtime_inputs

    which, config = source_of(options), json_object(options.run_config, "--run-config")
    home = settings()
    stage.begin_step(options)
    source = stage.when_free(
        options.wait_for_lock,
        lambda: runtime_inputs.prepare_source(home, which, config, stage.run_id_of(options)),
    )
    stage.write_result(source.model_dump_json(indent=2), options.result)
    return 0


def _add_kubeflow(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=("compile", "submit"), help="submit needs MEDISCALE_KFP_HOST")
    parser.add_argument("--output", type=path, help="compile: where the YAML goes")
    add_pipeline(parser)
    add_source(parser)
    add_config(parser)


def _kubeflow(options: argparse.Namespace) -> int:
    from kubeflow_pipelines import submit
    from mediscale.core.errors import UsageError
    from mediscale.pipeline import call

    which, config = source_of(options), config_of(options.set)
    if options.action == "compile":
        if config or any(which.as_arguments.values()):
            raise UsageError("What is compiled is the same for every run; give these options to submit.")
        print(submit.compiled(options.output, settings(), which.pipeline))
    else:
        call.check(config, which.pipeline)
        print(submit.submit(settings(), {**which.as_arguments, "config": config}, which.pipeline))
    return 0


def _add_airflow(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--port", type=port, default=8080)
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="address to listen on; choose another than loopback only if a container or a proxy keeps others away: "
        "page and password travel by http",
    )


def _airflow(options: argparse.Namespace) -> int:
    from mediscale.cli import local_airflow

    return local_airflow.standalone(settings(), options.port, options.host)


VERBS = (
    Verb("airflow", "start Airflow on this machine, with the nightly DAGs", _airflow, _add_airflow),
    Verb(
        "kubeflow",
        "compile the training pipeline, or submit it to a Kubeflow cluster",
        _kubeflow,
        _add_kubeflow,
    ),
    Verb(
        "prepare-source",
        "make or read the extract, the first step of a run",
        _prepare_source,
        _add_prepare_source,
    ),
)
