"""Declaration files: the YAML of sources and tasks, those that are shipped and those that a home has taken in.

A person's own file is named on the command line from anywhere. It is copied into the home, where every process that
works on that home finds it by its name: workers, orchestrators' steps, servers. Standard library only, for Airflow
reads the names of tasks.
"""

import os
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from mediscale.core import atomic_files
from mediscale.core.errors import InputError, UsageError

if TYPE_CHECKING:
    from yaml.nodes import Node

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
    names = listed if isinstance(listed, list) else []
    files = [shared(folder, name) for name in names if (folder / f"{name}.yaml").exists()]
    whole = dict(content)
    for part in dict.fromkeys(part for file in files for part in file):
        stated = content.get(part, {})
        if isinstance(stated, dict):
            inherited = [file.get(part, {}) for file in files]
            whole[part] = {name: entry for entries in (*inherited, stated) for name, entry in entries.items()}
    return whole


MOST_PARTS = 100_000
"""Of a declaration, those that stand for an alias (``*name``) counted wherever it stands."""
DEEPEST = 50
"""How many parts may stand within each other: libyaml, which reads ten times as fast as Python does, crashes where
there is no end of it."""


_NUMBERS = frozenset({"tag:yaml.org,2002:int", "tag:yaml.org,2002:float"})
_TWO_READINGS = re.compile(r"[-+]?(?:0[xXbB].*|0[0-9_]+|.*[_:].*)", re.DOTALL)
"""Numbers of YAML 1.1 that look like others: 030 is 24 there, 1:30 is 90, and 0123 is no item's code."""


def content_of(text: str) -> Any:
    """What a YAML text says.

    Raises:
        yaml.YAMLError: it is no YAML, a key stands twice in one mapping, or aliases of aliases make it endless.
    """
    import yaml

    _check_depth(text)
    loader = yaml.CSafeLoader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        _count_parts(node, {})
        return loader.construct_document(node)
    except RecursionError:
        raise yaml.YAMLError("it is nested too deeply") from None
    finally:
        loader.dispose()


def _check_depth(text: str) -> None:
    import yaml

    depth = 0
    for event in yaml.parse(text, Loader=yaml.CSafeLoader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > DEEPEST:
            raise yaml.YAMLError("it is nested too deeply")


def _count_parts(node: "Node", counted: dict[int, int]) -> int:
    """How many parts a node has; of one that stands in several places once for each."""
    import yaml

    if id(node) in counted:
        return counted[id(node)]
    counted[id(node)] = MOST_PARTS  # of a node within itself
    inside: list[Node] = []
    if isinstance(node, yaml.MappingNode):
        keys = set()
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in keys:
                raise yaml.YAMLError(
                    f"line {key.start_mark.line + 1}: {key.value} stands twice; the later would count"
                )
            keys.add(key.value if isinstance(key, yaml.ScalarNode) else None)
            inside += [key, value]
    elif isinstance(node, yaml.SequenceNode):
        inside = node.value
    elif node.tag in _NUMBERS and _TWO_READINGS.fullmatch(node.value):
        raise yaml.YAMLError(
            f"line {node.start_mark.line + 1}: a number written {node.value} is read with another base, or without its "
            "signs; write it in decimal digits alone, or in quotes where it is a text"
        )
    parts = 1 + sum(_count_parts(one, counted) for one in inside)
    if parts > MOST_PARTS:
        raise yaml.YAMLError(
            f"line {node.start_mark.line + 1}: its aliases stand for over {MOST_PARTS} parts"
        )
    counted[id(node)] = parts
    return parts


def line_of(text: str, place: Sequence[str | int]) -> int:
    """The line of a YAML text where a place in its content stands; of what is missing, where it should stand.

    >>> line_of("tables:\\n  labs:\\n    file: x\\n    columns: {a: b}", ("tables", "labs", "columns", "a"))
    4
    """
    import yaml

    node = yaml.compose(text, Loader=yaml.CSafeLoader)
    line = 0
    for part in place:
        if isinstance(node, yaml.MappingNode):
            keys = [(key, value) for key, value in node.value if key.value == str(part)]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int):
            keys = [(value, value) for value in node.value[part : part + 1]]
        else:
            keys = []
        for key, value in keys:  # none where a part is of the grammar and not of the text
            line, node = key.start_mark.line, value
    return line + 1
