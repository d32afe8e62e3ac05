"""YAML as people write it: its content, refused where it has more than one reading, and the line of a place in it."""

import re
from collections.abc import Sequence
from typing import Any

import yaml

MOST_PARTS = 100_000
"""Of a declaration, those that stand for an alias (``*name``) counted wherever it stands."""
DEEPEST = 50
"""How many parts may stand within each other: libyaml, which reads ten times as fast as Python does, crashes where
there is no end of it."""
_NUMBERS = frozenset({"tag:yaml.org,2002:int", "tag:yaml.org,2002:float"})
_TWO_READINGS = re.compile(r"[-+]?(?:0[xXbB].*|0[0-9_]+|.*[_:].*)", re.DOTALL)
"""Numbers of YAML 1.1 that look like others: 030 is 24 there, 1:30 is 90, and 0123 is no item's code."""

_TRUTH = "tag:yaml.org,2002:bool"
_TRUTHS = ("true", "false")

_ENDLESS = re.compile(r"\.(?:inf|nan)|e\+?[0-9]{3}", re.IGNORECASE)
"""Numbers of YAML that are none: a bound of ``.inf`` bounds nothing, one of ``.nan`` is never reached, and a power with
three digits is endless, too."""


def content(text: str) -> Any:
    """The content of a YAML text.

    Raises:
        yaml.YAMLError: it is no YAML, a key stands twice in one mapping, or aliases of aliases make it endless.
    """
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
    depth = 0
    for event in yaml.parse(text, Loader=yaml.CSafeLoader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > DEEPEST:
            raise yaml.YAMLError("it is nested too deeply")


def _count_parts(node: yaml.Node, counted: dict[int, int]) -> int:
    """How many parts a node has; of one that stands in several places once for each."""
    if id(node) in counted:
        return counted[id(node)]
    counted[id(node)] = MOST_PARTS  # of a node within itself
    inside: list[yaml.Node] = []
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
    elif node.tag == _TRUTH and node.value.lower() not in _TRUTHS:
        node.tag = "tag:yaml.org,2002:str"  # as YAML 1.2 has it: no, on and off are words of hospitals
    elif node.tag in _NUMBERS and _ENDLESS.search(node.value):
        raise yaml.YAMLError(
            f"line {node.start_mark.line + 1}: {node.value} is no number to compare anything with; write one"
        )
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
