"""Declaration files: the YAML of sources and tasks, those that are shipped and those that a home has taken in.

A person's own file is named on the command line from anywhere. It is copied into the home, where every process that
works on that home finds it by its name: workers, orchestrators' steps, servers. Standard library only, for Airflow
reads the names of tasks.
"""

import os
import re
from functools import cache
from pathlib import Path
from typing import Any, Literal

from mediscale.core import atomic_files
from mediscale.core.errors import InputError, UsageError

Kind = Literal["source", "task"]

NAME = re.compile(r"[a-z][a-z0-9_-]*")
"""What a file of declarations may be called, without its extension: the name is part of tables' and models' names."""


def home_folder(kind: Kind) -> Path:
    """The folder of the current home with the files of that kind that people gave it.

    From the environment and not from ``Settings``, because a name is resolved where no settings are: in Spark's
    workers, in Airflow while it parses the DAGs.
    """
    return Path(os.environ.get("MEDISCALE_HOME") or ".mediscale").expanduser() / f"{kind}s"


def is_file(text: str) -> bool:
    """Whether a person names a file and not what is known by a name."""
    return text.endswith((".yaml", ".yml")) or os.sep in text


def read(kind: Kind, path: Path) -> tuple[str, str]:
    """The name and the text of a person's own file.

    Raises:
        InputError: there is no such file, or it is no text.
        UsageError: it can't be called so.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} can't be read as the YAML file of a {kind}; check the path.") from error
    if not NAME.fullmatch(path.stem):
        raise UsageError(
            f"The file of a {kind} gives it its name, and {path.name} can't be one; rename it to lower-case letters, "
            "digits, dashes and underscores, beginning with a letter."
        )
    return path.stem, text


def save_copy(kind: Kind, name: str, text: str) -> Path:
    """Copies a person's own file into the home; a later version replaces an earlier one. Returns the copy."""
    copy = home_folder(kind) / f"{name}.yaml"
    if not copy.exists() or copy.read_text(encoding="utf-8") != text:
        atomic_files.write_text(copy, text)
    return copy


@cache
def shared(folder: Path, name: str) -> dict[str, dict[str, Any]]:
    """The content of a shared file, which others take with ``extends``: parts, each with its entries.

    Raises:
        ValueError: there is none of that name.
    """
    import yaml

    from mediscale.core.near_names import suggestion

    names = sorted(path.stem for path in folder.glob("*.yaml"))
    if name not in names:
        raise ValueError(f"{name} is none of the files in {folder.name}/; {suggestion(name, names)}")
    text = (folder / f"{name}.yaml").read_text(encoding="utf-8")
    content: dict[str, dict[str, Any]] = yaml.load(text, yaml.CSafeLoader)
    return content


def extended(folder: Path, content: dict[str, Any]) -> dict[str, Any]:
    """The content of a declaration with the entries of the shared files that it ``extends``.

    Of two files with an entry the later one counts, and before both what the declaration states itself. Names that no
    shared file has are passed over: the grammar refuses them where they stand.
    """
    listed = content.get("extends")
    there = {path.stem for path in folder.glob("*.yaml")}
    names = [name for name in listed if isinstance(name, str)] if isinstance(listed, list) else []
    files = [shared(folder, name) for name in names if name in there]
    whole = dict(content)
    for part in dict.fromkeys(part for file in files for part in file):
        stated = content.get(part, {})
        if isinstance(stated, dict):
            inherited = [file.get(part, {}) for file in files]
            whole[part] = {name: entry for entries in (*inherited, stated) for name, entry in entries.items()}
    return whole
