"""``mediscale``: the verbs that people type, and every stage by its name.

Only argparse is imported before a verb is chosen, so that help answers at once.
"""

import argparse
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mediscale.core.datasets import SIZES
from mediscale.core.errors import (
    BusyError,
    InputError,
    MediscaleError,
    NotFoundError,
    QualityError,
    StorageError,
    UsageError,
)
from mediscale.core.tasks import TASKS

if TYPE_CHECKING:
    from pydantic import BaseModel

    from mediscale.core.settings import Settings

EPILOG = """\
stages:
  mediscale stages                 list them
  mediscale STAGE [--config F] [--set K=V] [--from RESULT.json] [--resolve] [--result F] [--schema]
                                   run one, as Airflow and Kubeflow do

Everything lands under MEDISCALE_HOME (default ./.mediscale). Every output of a model needs a clinician's judgement."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command; returns its exit code (0, or the class of the error: see mediscale/core/errors.py)."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        return _dispatch(arguments)
    except MediscaleError as error:
        print(f"mediscale: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("mediscale: stopped; finished stages are kept, the same command continues.", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output left, for example `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        what = f"{error.filename}: {error.strerror}" if error.filename else str(error).strip().rstrip(".")
        print(f"mediscale: {what}.", file=sys.stderr)
        return StorageError.exit_code


def _dispatch(arguments: list[str]) -> int:
    parser, verbs = _parser()
    if arguments and not arguments[0].startswith("-") and arguments[0] not in verbs:
        return _stage(arguments[0], arguments[1:])
    if not arguments:
        parser.print_help()
        return 0
    options = parser.parse_args(arguments)
    run: Callable[[argparse.Namespace], int] = options.function
    return run(options)


def _parser() -> tuple[argparse.ArgumentParser, set[str]]:
    parser = argparse.ArgumentParser(
        prog="mediscale",
        description="Hospital records to a served, watched and retrained risk model.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True)
    _add_run(verbs)
    _add_simulate(verbs)
    _add_serve(verbs)
    _add_report(verbs)
    _add_governance(verbs)
    _add_orchestration(verbs)
    _verb(verbs, "stages", "list the stages", _stages)
    return parser, set(verbs.choices)


def _verb(
    verbs: Any, name: str, help_text: str, function: Callable[[argparse.Namespace], int]
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = verbs.add_parser(name, help=help_text, description=help_text)
    parser.set_defaults(function=function)
    return parser


def _add_run(verbs: Any) -> None:
    run = _verb(verbs, "run", "take an extract through the whole loop", _run)
    _add_extract(run)
    _add_config(run)
    run.add_argument(
        "--runner",
        choices=("cli", "kubeflow", "airflow"),
        default="cli",
        help="who calls the stages: this process, or a process each by Kubeflow or Airflow",
    )


def _add_config(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="STAGE.NAME=VALUE",
        help="a parameter of a stage that is not to be its default, e.g. risk_model.rounds=100",
    )


def _add_simulate(verbs: Any) -> None:
    simulate = _verb(
        verbs, "simulate", "live through nights of a made-up hospital, as the DAGs do", _simulate
    )
    simulate.add_argument("--nights", type=int, default=14)
    simulate.add_argument(
        "--size",
        choices=("tiny", "small"),
        default="small",
        help="of the made-up hospital: 1,500 patients, too few to promote a model, or 6,000 (default)",
    )


def _add_extract(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--source", help="what the extract is: a file of data_pipeline/ingest/sources/, e.g. mimic-iii"
    )
    parser.add_argument("--path", type=Path, help="folder of the extract")
    parser.add_argument("--dataset", help="name in the lake (default: the source's, or 'synthetic')")
    parser.add_argument("--size", choices=SIZES, help="size of the synthetic hospital (default: small)")


def _add_serve(verbs: Any) -> None:
    serve = _verb(verbs, "serve", "answer /predict with a promoted model", _serve)
    serve.add_argument("--dataset", help="whose models (default: the only dataset with one)")
    serve.add_argument("--alias", choices=("production", "staging"), default="production")
    serve.add_argument("--host", default="127.0.0.1")
    serve.add_argument("--port", type=partial(_port, least=0), default=8000, help="0: one that is free")
    serve.add_argument("--workers", type=int, default=1)
    score = _verb(verbs, "score", "risk of every visit in a dataset's cohort, with Spark", _score)
    score.add_argument("--dataset", required=True)
    score.add_argument("--task", choices=TASKS, required=True)
    score.add_argument("--alias", choices=("production", "staging"), default="production")
    score.add_argument(
        "--output", type=Path, required=True, help="Parquet file to write; it holds patient data"
    )


def _add_report(verbs: Any) -> None:
    report = _verb(verbs, "report", "one page about a run: decision, evidence, how to do it again", _report)
    report.add_argument(
        "run",
        nargs="?",
        default="",
        metavar="RUN",
        help="a dataset, a version as NAME/3, or the beginning of a manifest's key (default: the newest run)",
    )
    report.add_argument("--output", type=Path, help="file to write (default: in the home's reports)")


def _add_governance(verbs: Any) -> None:
    history = _verb(verbs, "history", "who moved which alias when and why", _history)
    history.add_argument("--dataset", required=True)
    promote = _verb(verbs, "promote", "ask for production of a version that is staged", _promote)
    promote.add_argument("--dataset", required=True)
    promote.add_argument("--task", choices=TASKS, required=True)
    promote.add_argument("--version", type=int, required=True)
    promote.add_argument("--actor", required=True, help="who decides this")
    rollback = _verb(verbs, "rollback", "point an alias back at an earlier version", _rollback)
    rollback.add_argument("--dataset", required=True)
    rollback.add_argument("--task", choices=TASKS, required=True)
    rollback.add_argument("--version", type=int, required=True)
    rollback.add_argument("--alias", choices=("production", "staging"), default="production")
    rollback.add_argument("--actor", required=True, help="who decides this")
    rollback.add_argument("--reason", required=True, help="one sentence for the history")


def _add_orchestration(verbs: Any) -> None:
    extract = _verb(
        verbs, "extract", "what a run begins with, as its first step; empty means not given", _extract
    )
    for name in ("source", "path", "dataset", "size"):
        extract.add_argument(f"--{name}", default="")
    extract.add_argument("--run-config", default="{}", help="per stage, its parameters, as JSON")
    _add_step(extract)
    pipeline = _verb(verbs, "pipeline", "the training pipeline on a Kubeflow cluster", _pipeline)
    pipeline.add_argument("action", choices=("compile", "submit"), help="submit needs MEDISCALE_KFP_HOST")
    pipeline.add_argument("--output", type=Path, help="compile: where the YAML goes")
    _add_extract(pipeline)
    _add_config(pipeline)
    airflow = _verb(verbs, "airflow", "Airflow on this machine, with the nightly DAGs", _airflow)
    airflow.add_argument("--port", type=_port, default=8080)


def _add_step(parser: argparse.ArgumentParser) -> None:
    """What a scheduler needs of a step, whether it starts it as a process or as a pod."""
    parser.add_argument("--result", type=Path, help="where the result goes (default: standard output)")
    parser.add_argument("--wait", action="store_true", help="wait while another process is at the same work")
    parser.add_argument(
        "--tied", action="store_true", help="end, with all that was started here, when standard input does"
    )


def _port(text: str, least: int = 1) -> int:
    if not (text.isdecimal() and least <= int(text) <= 65535):
        raise argparse.ArgumentTypeError(f"{text} is no port; choose one from {least} to 65535")
    return int(text)


def _settings() -> "Settings":
    from pydantic import ValidationError

    from mediscale.core.settings import Settings

    try:
        return Settings()
    except ValidationError as error:
        names = ", ".join(f"MEDISCALE_{str(e['loc'][0]).upper()}: {e['msg'].lower()}" for e in error.errors())
        raise UsageError(f"Environment: {names}.") from error


def _run(options: argparse.Namespace) -> int:
    from mediscale.cli import run as loop

    which, config = _which(options), _config(options.set)
    config.setdefault("promotion", {}).setdefault("aim", "production")  # whoever types this asks for it
    if options.runner != "cli":
        from mediscale.cli import orchestrators

        orchestrators.orchestrate(options.runner, _settings(), which, config)
    return loop.run(_settings(), **which, config=config)


def _simulate(options: argparse.Namespace) -> int:
    from mediscale.simulation import nights

    return nights.run(_settings(), options.nights, options.size)


def _which(options: argparse.Namespace) -> dict[str, str]:
    """What to run on, as orchestrators take it: text, empty where not given."""
    from mediscale.pipeline import runtime_inputs

    given = {name: getattr(options, name) for name in ("source", "path", "dataset", "size")}
    which = {name: "" if value is None else str(value) for name, value in given.items()}
    runtime_inputs.check_choice(**which)
    return which


def _config(texts: Sequence[str]) -> dict[str, dict[str, Any]]:
    """A run's configuration from ``STAGE.NAME=VALUE`` texts."""
    config: dict[str, dict[str, Any]] = {}
    for text in texts:
        path, value = _assignment(text)
        stage, dot, name = path.partition(".")
        if not dot:
            raise UsageError(f"--set {text}: write it as STAGE.NAME=VALUE.")
        config.setdefault(stage, {})[name] = value
    return config


def _extract(options: argparse.Namespace) -> int:
    from mediscale.pipeline import runtime_inputs

    which = {name: getattr(options, name) for name in ("source", "path", "dataset", "size")}
    config = _json_object(options.run_config, "--run-config")
    settings = _settings()
    _begin_step(options)
    found = _when_free(options.wait, lambda: runtime_inputs.extract(settings, **which, config=config))
    _write_result(found.model_dump_json(indent=2), options.result)
    return 0


WAIT_SECONDS = 30.0


def _begin_step(options: argparse.Namespace) -> None:
    """What an earlier try left is gone before the work begins, and the work does not outlive who started it."""
    if options.result:
        options.result.unlink(missing_ok=True)
    if options.tied:
        threading.Thread(target=_end_with_input, daemon=True).start()


def _end_with_input() -> None:
    while os.read(0, 4096):  # not through sys.stdin, whose lock the interpreter would wait for as it ends
        pass
    os.killpg(os.getpgrp(), signal.SIGKILL)  # Java too; any stage may be killed anywhere


def _when_free(wait: bool, work: Callable[[], "BaseModel"]) -> "BaseModel":
    """The work's result, tried again and again while another process is at the same work, if the caller waits."""
    while True:
        try:
            return work()
        except BusyError as busy:
            if not wait:
                raise
            print(f"mediscale: {busy} Trying again in {WAIT_SECONDS:.0f} s.", file=sys.stderr, flush=True)
            time.sleep(WAIT_SECONDS)


def _pipeline(options: argparse.Namespace) -> int:
    from kubeflow_pipelines import submit
    from mediscale.pipeline import call

    which, config = _which(options), _config(options.set)
    if options.action == "compile":
        if config or any(which.values()):
            raise UsageError("What is compiled is the same for every run; give these options to submit.")
        print(submit.compiled(options.output, _settings()))
    else:
        call.check(config)
        print(submit.submit(_settings(), {**which, "config": config}))
    return 0


def _airflow(options: argparse.Namespace) -> int:
    from mediscale.cli import local_airflow

    return local_airflow.standalone(_settings(), options.port)


def _serve(options: argparse.Namespace) -> int:
    from serving import main as server

    server.serve(
        _settings(),
        dataset=options.dataset,
        alias=options.alias,
        host=options.host,
        port=options.port,
        workers=options.workers,
    )
    return 0


def _score(options: argparse.Namespace) -> int:
    from serving import batch_scoring as score

    rows = score.write(_settings(), options.dataset, options.task, options.alias, options.output)
    print(
        f"{rows:,} visits scored to {options.output}. It holds patient data: keep it where such data belongs."
    )
    return 0


def _report(options: argparse.Namespace) -> int:
    from mediscale import report

    print(report.write(_settings(), options.run, options.output))
    return 0


def _history(options: argparse.Namespace) -> int:
    from mediscale.storage import lake, registry

    settings = _settings()
    moves = registry.history(settings, options.dataset)
    if not moves:
        there = ", ".join(lake.datasets(settings)) or "none yet"
        raise NotFoundError(
            f"No alias of {options.dataset} was ever moved; the lake's datasets are: {there}."
        )
    for move in moves:
        print(
            f"{move.sequence:>4}  {move.moved_at:%Y-%m-%d %H:%M}  {move.model} {move.alias}: "
            f"{move.from_version or '-'} → {move.to_version}  by {move.actor}  {move.reason}"
        )
    return 0


def _promote(options: argparse.Namespace) -> int:
    from mediscale.pipeline import call, runtime_inputs
    from training.promotion import promotion as promote

    settings = _settings()
    asked = promote.again(
        settings, options.dataset, options.task, options.version, options.actor, moved_at=runtime_inputs.now()
    )
    decision: Any = call.call("promotion", asked.model_dump(), settings=settings)
    print(decision.reason)
    return 0 if decision.promoted else QualityError.exit_code


def _rollback(options: argparse.Namespace) -> int:
    from mediscale.pipeline import runtime_inputs
    from training.promotion.rollback import roll_back

    move = roll_back(
        _settings(),
        options.dataset,
        options.task,
        options.alias,
        options.version,
        actor=options.actor,
        reason=options.reason,
        moved_at=runtime_inputs.now(),
    )
    print(f"{move.model} {move.alias} → version {move.to_version}; servers follow by themselves.")
    return 0


def _stages(_options: argparse.Namespace) -> int:
    from mediscale.pipeline.call import STAGES

    for name, module in STAGES.items():
        print(f"{name:<14} {module}")
    return 0


def _stage(name: str, arguments: list[str]) -> int:
    from mediscale.pipeline import call, headlines, runtime_inputs

    parser = argparse.ArgumentParser(prog=f"mediscale {name}", description=f"Run the stage {name}.")
    parser.add_argument("--config", type=Path, help="parameters as a JSON file")
    parser.add_argument(
        "--set", action="append", default=[], metavar="K=V", help="one parameter, V as JSON or text"
    )
    parser.add_argument("--run-config", default="{}", help="per stage, its parameters, as JSON")
    parser.add_argument(
        "--from", dest="upstream", action="append", default=[], type=Path, metavar="RESULT.json"
    )
    parser.add_argument(
        "--resolve",
        action="store_true",
        help="look up what callers resolve: the clock, today's production model",
    )
    _add_step(parser)
    parser.add_argument(
        "--refusable", action="store_true", help="leave a refusal as the result, for the steps that need it"
    )
    parser.add_argument("--schema", action="store_true", help="print the JSON schema of the parameters")
    if name not in call.STAGES:
        raise UsageError(
            f"There is no verb or stage {name!r}; see `mediscale --help` and `mediscale stages`."
        )
    options = parser.parse_args(arguments)
    if options.schema:
        print(json.dumps(call.load(name).Params.model_json_schema(), indent=2))
        return 0
    settings = _settings()
    _begin_step(options)
    try:
        result = _when_free(options.wait, lambda: _stage_called(name, options, settings))
    except QualityError as refused:
        if options.refusable:
            _write_result(json.dumps({runtime_inputs.REFUSED: str(refused)}), options.result)
        raise
    _write_result(result.model_dump_json(indent=2), options.result)
    if options.result:
        print(f"{name}: {headlines.of(name, result)}", file=sys.stderr)  # for the log of who started it
    return 0


def _stage_called(name: str, options: argparse.Namespace, settings: "Settings") -> "BaseModel":
    from mediscale.pipeline import call, runtime_inputs

    whole = _json_object(options.run_config, "--run-config")
    call.check(whole)
    config = dict(whole.get(name, {}))
    config |= _read_json(options.config) if options.config else {}
    config |= dict(_assignment(text) for text in options.set)
    results = [_read_json(path) for path in options.upstream]
    if refusal := runtime_inputs.refusal(results):
        raise QualityError(refusal)
    if options.resolve:
        return runtime_inputs.call_stage(name, config, results, settings)
    return call.call(name, runtime_inputs.wired(name, config, results), settings=settings)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text()
    except OSError as error:
        raise InputError(f"{path} can't be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not text in UTF-8.") from error
    return _json_object(text, str(path))


def _json_object(text: str, where: str) -> dict[str, Any]:
    try:
        values = json.loads(text)
    except ValueError as error:
        raise InputError(f"{where} is not valid JSON: {error}.") from error
    if not isinstance(values, dict):
        raise InputError(f"{where} holds no JSON object.")
    return values


def _assignment(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals:
        raise UsageError(f"--set {text}: write it as NAME=VALUE.")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def _write_result(text: str, path: Path | None) -> None:
    if path is None:
        print(text)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    part.write_text(text)
    part.replace(path)
