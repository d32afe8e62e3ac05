"""A verb of the command line, and what several of them share. Only argparse is imported: help answers at once."""

import argparse
import json
import os
import re
import shutil
import sys
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mediscale.core.datasets import DATASET_PATTERN, SIZES
from mediscale.core.errors import InputError, UsageError
from serving.security.principal import PURPOSES

if TYPE_CHECKING:
    from mediscale.core.settings import Settings
    from mediscale.pipeline.runtime_inputs import Source


@dataclass(frozen=True)
class Verb:
    """What a person types after ``mediscale``."""

    name: str
    help: str
    run: Callable[[argparse.Namespace], int]
    add_arguments: Callable[[argparse.ArgumentParser], None] = lambda _parser: None


def check_names(options: argparse.Namespace) -> None:
    """Refuses a name that can't be part of a path: with ``../d`` a rule was signed into a folder beside the lake.

    Raises:
        UsageError: a dataset or an index is so called.
    """
    for option, what in (("dataset", "dataset"), ("to", "dataset"), ("index", "index")):
        names = getattr(options, option, None)
        for name in [] if names is None else [names] if isinstance(names, str) else names:
            if not re.fullmatch(DATASET_PATTERN, name):
                raise UsageError(
                    f"The name of {'an' if what == 'index' else 'a'} {what} is at most 100 lower-case letters, digits "
                    f"and dashes; choose another --{option}."
                )


def settings() -> "Settings":
    """Reads the settings from the environment.

    Raises:
        UsageError: an environment variable does not hold what its setting needs, or is nearly a setting's name.
        StorageError: an older version made the home.
    """
    from pydantic import ValidationError

    from mediscale.core.mistake_text import in_words
    from mediscale.core.settings import Settings, misspelt
    from mediscale.storage import calls, private_files

    for name, meant in misspelt(os.environ).items():
        raise UsageError(
            f"Environment: {name} is no setting; did you mean {meant}? Unset it, or correct its name."
        )
    try:
        environment = Settings()
    except ValidationError as error:
        names = ", ".join(
            f"MEDISCALE_{str(e['loc'][0]).upper()}: {in_words(e['msg'])}" for e in error.errors()
        )
        raise UsageError(f"Environment: {names}.") from error
    if environment.home.exists() and not environment.home.is_dir():
        raise UsageError(f"MEDISCALE_HOME is {environment.home}, which is no folder; set it to one.")
    calls.check_layout(environment)
    if private_files.close_home(environment):
        print(
            f"mediscale: {environment.home} could be read by other accounts; now only by yours.",
            file=sys.stderr,
        )
    return environment


def add_pipeline(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--pipeline",
        choices=("risk", "language"),
        default="risk",
        help="risk: records to risk models (default); language: questions to a language model, where --source is one "
        "of own (default), file, medquad, pubmedqa and medmcqa, and --path its file",
    )


def add_source(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--source", help="the extract's type: a shipped source, e.g. mimic-iii, or a YAML file of your own"
    )
    parser.add_argument("--path", type=path, help="folder of the extract")
    parser.add_argument("--dataset", help="name in the lake (default: the source's, or 'synthetic')")
    parser.add_argument("--size", choices=SIZES, help="size of the synthetic hospital (default: small)")


def source_of(options: argparse.Namespace) -> "Source":
    """What a run works on, by the options of ``add_source`` and ``add_pipeline``.

    Raises:
        UsageError: half a choice, or a file of a source breaks the grammar.
        InputError: there is no such source.
    """
    from mediscale.pipeline.runtime_inputs import Source

    values = {
        name: getattr(options, name, None) for name in ("pipeline", "source", "path", "dataset", "size")
    }
    if empty := [f"--{name}" for name, value in values.items() if value == ""]:
        raise UsageError(f"{' and '.join(empty)} is empty; name one, or leave it out.")
    values["pipeline"] = values["pipeline"] or "risk"
    if values["source"] and values["pipeline"] == "risk":
        from data_pipeline.ingest import source

        values["source"] = source.register(values["source"])
    return Source(**{name: "" if value is None else str(value) for name, value in values.items()}).check()


def wrapped(line: str, indent: int) -> str:
    """A line as wide as the terminal, what follows indented under it; in a pipe it stays one line."""
    if not sys.stdout.isatty():
        return line
    width = max(shutil.get_terminal_size().columns, 2 * indent)
    return textwrap.fill(
        line, width, subsequent_indent=" " * indent, break_long_words=False, break_on_hyphens=False
    )


def check_dataset(home: "Settings", dataset: str) -> None:
    """Raises ``NotFoundError`` where the lake has no such dataset: nothing is known of a name with a slip in it."""
    from mediscale.core.errors import NotFoundError
    from mediscale.storage import lake

    there = lake.datasets(home)
    if dataset not in there:
        raise NotFoundError(
            f"There is no dataset {dataset}; the lake's datasets are: {', '.join(there) or 'none yet'}."
        )


def add_tasks(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--task",
        action="append",
        default=[],
        metavar="NAME|FILE",
        help="a task, or a YAML file of your own; repeat for several (default: mortality and readmission)",
    )


def tasks_of(options: argparse.Namespace) -> tuple[str, ...]:
    """The tasks of a run.

    Raises:
        UsageError: there is no such task, or a file of one breaks the grammar.
        InputError: the file can't be read.
    """
    from mediscale.core import task_names, tasks

    return tuple(dict.fromkeys(tasks.register(task) for task in options.task)) or task_names.names()


def add_config(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="STAGE.NAME=VALUE",
        help="a stage's parameter in place of its default, e.g. risk_model.rounds=100",
    )


def config_of(texts: Sequence[str]) -> dict[str, dict[str, Any]]:
    """A run's configuration from ``STAGE.NAME=VALUE`` texts."""
    config: dict[str, dict[str, Any]] = {}
    for path, value in assignments(texts, "STAGE.NAME=VALUE").items():
        stage, _, name = path.partition(".")
        config.setdefault(stage, {})[name] = value
    return config


def assignments(texts: Sequence[str], form: str = "NAME=VALUE") -> dict[str, Any]:
    """The values by name of texts in that form, each value as JSON or else as text.

    Raises:
        UsageError: a text has another form, a name stands twice, or a number is not written as one.
    """
    values: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not all(name.split(".", 1)) or (form.startswith("STAGE.") and "." not in name):
            raise UsageError(f"--set {text}: write it as {form}.")
        if name in values:
            raise UsageError(f"--set {name} stands twice; give it once.")
        try:
            values[name] = json.loads(value, object_pairs_hook=_once)
        except ValueError:
            values[name] = value
        if _TWO_READINGS.fullmatch(value) and values[name] is value:
            raise UsageError(
                f"--set {text}: write a number in decimal digits alone, or in quotes where it is a text."
            )
    return values


_TWO_READINGS = re.compile(r"[-+]?[0-9_]*\.?[0-9_]+(?:[eE][-+]?[0-9_]+)?\.?|[-+]?0[xXbBoO][0-9A-Fa-f_]+")
"""What is a number to Python and none in JSON: 010, 1_0, .5 and +5."""


def path(text: str) -> Path:
    """A path of an option; an empty one, of a variable that is not set, would be the current folder.

    >>> path("a b/c")
    PosixPath('a b/c')
    """
    if not text.strip():
        raise argparse.ArgumentTypeError("is empty; name a file or a folder")
    return Path(text)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose names stand once: of two, readers of JSON take the one or the other.

    Raises:
        InputError: one stands twice.
    """
    fields = dict(pairs)
    if len(fields) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError(f"{twice} stands twice in one JSON object; write it once.")
    return fields


def json_object(text: str, where: str) -> dict[str, Any]:
    """Parses a JSON object.

    Raises:
        InputError: the text is no JSON object.
    """
    try:
        values = json.loads(text, object_pairs_hook=_once)
    except ValueError as error:
        raise InputError(f"{where} is not valid JSON: {error}.") from error
    if not isinstance(values, dict):
        raise InputError(f"{where} holds no JSON object.")
    return values


def add_alias(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--alias", choices=("production", "staging"), default="production")


def add_version(
    parser: argparse.ArgumentParser, what: str = "a registered version, e.g. synthetic-mortality/2"
) -> None:
    parser.add_argument("version", metavar="MODEL/VERSION", help=what)


def version_of(options: argparse.Namespace) -> tuple[str, int]:
    """Name and number of the version that ``add_version`` takes.

    Raises:
        UsageError: it is not written so.
    """
    from mediscale.core.refs import parse_version

    version = parse_version(options.version)
    if version is None:
        raise UsageError("A version is written MODEL/VERSION, such as synthetic-mortality/2.")
    return version


def add_dataset(parser: argparse.ArgumentParser, what: str | None = None) -> None:
    parser.add_argument("--dataset", required=True, help=what)


def add_patient(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "patient", metavar="PATIENT", help="the hospital's own number ('-' reads it from standard input)"
    )
    add_dataset(parser, "the patient's dataset in the lake")


def add_reason(parser: argparse.ArgumentParser, what: str = "one sentence for the history") -> None:
    parser.add_argument("--reason", type=sentence, required=True, help=what)


def add_purpose(parser: argparse.ArgumentParser, default: str) -> None:
    parser.add_argument(
        "--purpose", choices=PURPOSES, default=default, help=f"of use, for the history (default: {default})"
    )


def utc(text: str) -> datetime:
    """A day or time as UTC without a zone.

    Raises:
        UsageError: it is none.
    """
    try:
        time = datetime.fromisoformat(text)
        return time.astimezone(UTC).replace(tzinfo=None) if time.tzinfo else time
    except (ValueError, OverflowError):  # its offset leads out of the calendar
        raise UsageError(f"{text} is no time; write it as 2026-11-01 or 2026-11-01T08:00.") from None


def port(text: str, least: int = 1) -> int:
    """A TCP port."""
    if not (text.isdecimal() and least <= int(text) <= 65535):
        raise argparse.ArgumentTypeError(f"{text} is no port; choose one from {least} to 65535")
    return int(text)


any_port = partial(port, least=0)
"""A TCP port, or 0 for one that is free."""


def count(text: str) -> int:
    """A whole number from one on."""
    if not (text.isdecimal() and int(text) >= 1):
        raise argparse.ArgumentTypeError(f"{text} is no count; give a whole number from 1 on")
    return int(text)


_MOST_WORKERS = 256


def workers(text: str) -> int:
    """A number of processes that a machine may have."""
    if count(text) > _MOST_WORKERS:
        raise argparse.ArgumentTypeError(f"{text} is too many; give at most {_MOST_WORKERS}")
    return int(text)


def sentence(text: str) -> str:
    """A text that is not blank."""
    if not text.strip():
        raise argparse.ArgumentTypeError("is blank")
    return text
