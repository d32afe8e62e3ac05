"""``mediscale STAGE``: one stage as a process, as Airflow and Kubeflow call it."""

import argparse
import json
import os
import signal
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from mediscale.cli.verbs import assignments, json_object, path, settings
from mediscale.core import atomic_files, logs
from mediscale.core.errors import BusyError, InputError, QualityError
from mediscale.pipeline import steps

if TYPE_CHECKING:
    from mediscale.core.settings import Settings
    from mediscale.core.stage import Stage
    from mediscale.pipeline.call import FinishedCall

T = TypeVar("T")

WAIT_SECONDS = 30.0


def run(name: str, arguments: list[str]) -> int:
    """Runs a stage by its name, one of ``steps.STAGES``."""
    from mediscale.pipeline import call

    stage = call.load(name)
    options = _parser(name, stage).parse_args(arguments)
    if options.schema:
        print(json.dumps(stage.Params.model_json_schema(), indent=2))
        return 0
    home = settings()
    begin_step(options, stage.timeout_seconds)
    try:
        with logs.handled_by(logs.to_standard_error()):
            finished = when_free(options.wait_for_lock, lambda: _called(name, options, home))
    except QualityError as refused:
        if options.skip_unsupported:
            from mediscale.pipeline import runtime_inputs

            write_result(json.dumps({runtime_inputs.REFUSED: str(refused)}), options.result)
        raise
    write_result(finished.result.model_dump_json(indent=2), options.result)
    if options.result:
        print(f"{name}: {stage.summary(finished.result)}", file=sys.stderr)  # for the log of who started it
    return 0


def _parser(name: str, stage: "Stage") -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"mediscale {name}",
        description=f"{stage.display_name[0].upper()}{stage.display_name[1:]}: runs the stage {name}.",
        epilog="parameters (--set NAME=VALUE, --config FILE):\n" + "\n".join(_parameters(stage)),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config", type=path, help="parameters as a JSON file")
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="one parameter, as JSON or text"
    )
    parser.add_argument("--run-config", default="{}", help="a run's whole configuration per stage, as JSON")
    parser.add_argument(
        "--from",
        dest="upstream",
        action="append",
        default=[],
        type=path,
        metavar="RESULT.json",
        help="result of an upstream stage; its fields fill parameters by name",
    )
    parser.add_argument(
        "--as-of", default="", help="see only what was known by then (UTC), if the stage takes it"
    )
    parser.add_argument(
        "--fill-runtime-inputs",
        action="store_true",
        help="look up what a caller would: the clock, today's production model",
    )
    parser.add_argument(
        "--skip-unsupported",
        action="store_true",
        help="if the source can't support the task, write the refusal as the result, so that later steps are skipped",
    )
    parser.add_argument("--schema", action="store_true", help="print the JSON schema of the parameters")
    add_step(parser)
    return parser


def _parameters(stage: "Stage") -> Iterator[str]:
    """Each parameter with its type, default and meaning."""
    from mediscale.core.stage import is_configurable

    schema = stage.Params.model_json_schema()["properties"]
    for name, field in stage.Params.model_fields.items():
        default = "required" if field.is_required() else f"default {field.default!r}"
        by_whom = "" if is_configurable(field) else "; given by the run"
        yield f"  {name} ({_type(schema[name])}; {default}{by_whom})"
        if field.description:
            yield from textwrap.wrap(" ".join(field.description.split()), 100, initial_indent="      ",
                                     subsequent_indent="      ")  # fmt: skip


def _type(schema: dict[str, Any]) -> str:
    if "enum" in schema:
        return " | ".join(map(str, schema["enum"]))
    if "anyOf" in schema:
        return " | ".join(_type(option) for option in schema["anyOf"])
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    bounds = [f"{sign} {schema[key]}" for key, sign in _BOUNDS.items() if key in schema]
    return " ".join([str(schema.get("format") or schema.get("type", "object")), *bounds])


_BOUNDS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}


def _called(name: str, options: argparse.Namespace, home: "Settings") -> "FinishedCall":
    from mediscale.pipeline import call, runtime_inputs

    whole = json_object(options.run_config, "--run-config")
    call.check(whole, steps.pipeline_of(name))
    config = dict(whole.get(name, {}))
    if options.as_of and "as_of" in call.load(name).Params.model_fields:
        config["as_of"] = options.as_of
    config |= _read_json(options.config) if options.config else {}
    config |= assignments(options.set)
    results = [_read_json(path) for path in options.upstream]
    if refusal := runtime_inputs.refusal(results):
        raise QualityError(refusal)
    run_id = run_id_of(options)
    if options.fill_runtime_inputs:
        return runtime_inputs.call(name, config, results, home, run_id)
    return call.call(name, runtime_inputs.wired(name, config, results), home, run_id)


def add_step(parser: argparse.ArgumentParser) -> None:
    """Adds the options by which an orchestrator runs a step, as a process or as a pod."""
    parser.add_argument(
        "--run-id", default="", help="the run that the call belongs to (default: a run of its own)"
    )
    parser.add_argument("--result", type=path, help="where the result goes (default: standard output)")
    parser.add_argument(
        "--wait-for-lock", action="store_true", help="wait while another process does the same work"
    )
    parser.add_argument(
        "--exit-with-parent",
        action="store_true",
        help="end, with everything it started, when standard input ends",
    )


def run_id_of(options: argparse.Namespace) -> str:
    from mediscale.storage import calls

    return calls.run_id_of(options.run_id) or calls.new_run_id("stage")


def begin_step(options: argparse.Namespace, timeout_seconds: int = 0) -> None:
    """Begins a step: deletes the result of an earlier try, and sees to it that the work outlives neither who started it
    nor the stage's timeout."""
    if options.result:
        options.result.unlink(missing_ok=True)
    if options.exit_with_parent:
        threading.Thread(target=end_with_input, daemon=True).start()
        if timeout_seconds:
            timer = threading.Timer(timeout_seconds, _end_late, [timeout_seconds])
            timer.daemon = True
            timer.start()


def end_with_input() -> None:
    """Kills this process and all that it started as soon as standard input ends."""
    while os.read(0, 4096):  # not through sys.stdin, whose lock the interpreter would wait for as it ends
        pass
    _end_group()


def _end_late(seconds: int) -> None:
    print(f"mediscale: the stage took longer than its timeout of {seconds} s.", file=sys.stderr, flush=True)
    _end_group()


def _end_group() -> None:
    os.killpg(os.getpgrp(), signal.SIGKILL)  # Java too; any stage may be killed anywhere


def when_free(wait: bool, work: Callable[[], T]) -> T:
    """The work's result, tried again and again while another process is at the same work, if the caller waits."""
    while True:
        try:
            return work()
        except BusyError as busy:
            if not wait:
                raise
            print(f"mediscale: {busy} Trying again in {WAIT_SECONDS:.0f} s.", file=sys.stderr, flush=True)
            time.sleep(WAIT_SECONDS)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text()
    except OSError as error:
        raise InputError(f"{path} can't be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not text in UTF-8.") from error
    return json_object(text, str(path))


def write_result(text: str, path: Path | None) -> None:
    """Writes a result to standard output, or to a file that a reader never sees half written."""
    if path is None:
        print(text)
        return
    atomic_files.write_text(path, text)
