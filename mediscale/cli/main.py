"""``mediscale``: the verbs that people type, and every stage by its name."""

import argparse
import atexit
import errno
import os
import re
import signal
import sys
import traceback
from collections.abc import Iterable, Sequence
from contextlib import suppress
from difflib import get_close_matches
from itertools import chain
from pathlib import Path

from mediscale.cli import (
    audit,
    documents,
    export,
    feedback,
    govern,
    keys,
    language,
    orchestrate,
    quarantine,
    run,
    serve,
    source,
    stream,
    traffic,
    transport,
    tune,
    upkeep,
)
from mediscale.cli.verbs import check_names
from mediscale.core.errors import MediscaleError, StorageError, UsageError

ROOT = Path(__file__).parents[2]
PACKAGES = {"mediscale", "data_pipeline", "training", "serving", "monitoring", "kubeflow_pipelines"}
"""Ours, beside which an environment or other packages may lie."""

GROUPS = {
    "for data scientists": run.VERBS
    + source.VERBS
    + export.VERBS
    + transport.VERBS
    + quarantine.VERBS
    + tune.VERBS
    + language.VERBS
    + documents.VERBS,
    "for MLOps engineers": serve.VERBS
    + traffic.VERBS
    + keys.VERBS
    + govern.VERBS
    + feedback.VERBS
    + stream.VERBS
    + upkeep.VERBS,
    "for auditors": audit.VERBS,
    "for orchestrators (Airflow, Kubeflow)": orchestrate.VERBS,
}

DESCRIPTION = """\
Turns hospital records into risk models that are served, monitored and retrained.

New here? Type `mediscale run`: it takes a synthetic hospital through the whole loop and says what to type next."""

EPILOG = """\
Each stage is a command, too: `mediscale stages` lists them, `mediscale STAGE --help` shows a stage's parameters.
Everything is written under MEDISCALE_HOME (default ./.mediscale). Every model output needs a clinician's judgement."""


_STOPPED = 130
"""As a shell says of what Ctrl-C ended."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command; returns its exit code (0, or the class of the error: see mediscale/core/errors.py).

    Without ``argv`` it is all that this process does, which then ends without freeing its memory object by object: of a
    process that imported MLflow that took a second and a half.
    """
    if argv is not None:
        return _run(list(argv))
    code: list[int] = []
    atexit.register(_end, code)  # handlers of what is imported from here on are called before it
    try:
        code.append(_run(sys.argv[1:]))
    except KeyboardInterrupt:  # a second one while the first is answered
        code.append(_STOPPED)
    # A second Ctrl-C ends what libraries do as a process ends, instead of leaving a traceback of theirs.
    signal.signal(signal.SIGINT, lambda *_: os._exit(code[0]))
    return code[0]


def _end(code: list[int]) -> None:
    if code:  # else the process ends by SystemExit
        for stream in filter(None, (sys.stdout, sys.stderr)):
            with suppress(OSError, ValueError):  # who read it left
                stream.flush()
        os._exit(code[0])


def _run(arguments: list[str]) -> int:
    # what is written may hold patient data; private_files says the same to stages and servers
    os.umask(0o077)
    try:
        try:
            return _dispatch(arguments)
        finally:
            _flush_output()
    except MediscaleError as error:
        print(f"mediscale: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("mediscale: stopped; finished stages are kept, the same command continues.", file=sys.stderr)
        return _STOPPED
    except BrokenPipeError:  # the reader of our output left, for example `| head`
        return 0
    except SystemExit as ended:
        if isinstance(ended.__context__, BrokenPipeError):  # the same, seen by rich
            return 0
        raise
    except OSError as error:
        print(f"mediscale: {_refusal(error)}", file=sys.stderr)
        return StorageError.exit_code
    except Exception as error:
        package = error.name if isinstance(error, ModuleNotFoundError) else None
        if package and package.partition(".")[0] not in PACKAGES:
            print(
                f"mediscale: This environment lacks {package}, which `mediscale {arguments[0]}` needs; take the image "
                "mediscale-platform, or in a checkout type `make setup`.",
                file=sys.stderr,
            )
            return UsageError.exit_code
        if refused := _refused_in_words(error):
            print(f"mediscale: {_refusal(refused)}", file=sys.stderr)
            return StorageError.exit_code
        print(f"mediscale: {_defect(error)}", file=sys.stderr)
        return MediscaleError.exit_code


def _flush_output() -> None:
    """Writes what is buffered: where Python does so as it ends, a full disk or a reader who left is a traceback."""
    try:
        if sys.stdout:  # None where the caller closed it
            sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise


_REFUSALS = {
    errno.EACCES: "This account may not use {}: run this as its owner, or set MEDISCALE_HOME to a folder of your own.",
    errno.EROFS: "{} is on a file system that can only be read: mount it writable, or set MEDISCALE_HOME to another.",
    errno.ENOSPC: "The disk is full ({}); free space and type the same command again, which continues.",
}
_REFUSALS |= {errno.EPERM: _REFUSALS[errno.EACCES], errno.EDQUOT: _REFUSALS[errno.ENOSPC]}


def _refusal(error: OSError) -> str:
    """What the operating system refused, and what to do; Arrow names the path in its message alone."""
    message = str(error).strip().rstrip(".")
    named = re.search(r"'(/[^']+)'", message)
    path = str(error.filename or (named[1] if named else "what this command writes"))
    if error.errno in _REFUSALS:
        return _REFUSALS[error.errno].format(path)
    if error.filename:
        return f"{path}: {error.strerror}."
    if isinstance(error, FileNotFoundError) and not named:
        return "The working directory is no longer there; change to one that is."
    return f"{error.strerror or message}."


def _refused_in_words(error: Exception) -> OSError | None:
    """What the operating system refused a library in another language (Delta's), whose own error quotes it."""
    for number in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
        if os.strerror(number) in str(error):
            return OSError(number, os.strerror(number))
    return None


def _defect(error: Exception) -> str:
    """Which error nobody expected, and where. Its own message is left out: a library's may quote a patient's value."""
    frames = [(Path(frame.filename), frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
    ours = [(file.relative_to(ROOT), line) for file, line in frames if file.is_relative_to(ROOT)]
    *_, (file, line) = (place for place in ours if place[0].parts[0] in PACKAGES)
    last, last_line = frames[-1]
    return (
        f"unexpected {type(error).__name__} at {file}:{line} (raised in {last.name}:{last_line}): a defect of "
        "MediScale; tell its developers this sentence. Finished stages are kept."
    )


def _dispatch(arguments: list[str]) -> int:
    verbs = {verb.name: verb for verb in chain.from_iterable(GROUPS.values())}
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_help())
        return 0
    name, *rest = arguments
    if name not in verbs:
        return _run_stage(name, rest, verbs)
    verb = verbs[name]
    parser = argparse.ArgumentParser(prog=f"mediscale {name}", description=verb.help)
    verb.add_arguments(parser)
    options = parser.parse_args(rest)
    check_names(options)
    return verb.run(options)


def _run_stage(name: str, rest: list[str], verbs: Iterable[str]) -> int:
    from mediscale.cli import stage
    from mediscale.pipeline import steps

    if name not in steps.STAGES:
        near = get_close_matches(name, [*verbs, *steps.STAGES], n=1)
        meant = f"; did you mean {near[0]}?" if near else "."
        raise UsageError(
            f"There is no verb or stage {name!r}{meant} `mediscale --help` lists the verbs and "
            "`mediscale stages` the stages."
        )
    return stage.run(name, rest)


def _help() -> str:
    lines = ["usage: mediscale VERB [options]", "", DESCRIPTION]
    width = 2 + max(len(verb.name) for verbs in GROUPS.values() for verb in verbs)
    for group, verbs in GROUPS.items():
        lines += ["", f"{group}:", *(f"  {verb.name:<{width}}{verb.help}" for verb in verbs)]
    return "\n".join([*lines, "", EPILOG])
