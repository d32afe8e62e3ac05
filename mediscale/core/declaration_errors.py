"""Mistakes in a declaration file in words: the line, the place, what is wrong, and the name that was probably meant."""

import re
from collections.abc import Sequence
from types import UnionType
from typing import TYPE_CHECKING, Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from mediscale.core import yaml_text
from mediscale.core.mistake_text import in_words
from mediscale.core.near_names import suggestion

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails
    from yaml import YAMLError


def sentence(error: "ValidationError | YAMLError", text: str, grammar: type[BaseModel]) -> str:
    """All keys that a text lacks, or its first mistake and how many more there are; no line break and no full stop."""
    if not isinstance(error, ValidationError):
        return _one_line(str(error))
    # A key that is misspelt is missing, too: what there is says more than what there is not.
    mistakes = sorted(error.errors(include_url=False), key=lambda one: one["type"] != "extra_forbidden")
    if len(mistakes) > 1 and all(one["type"] == "missing" for one in mistakes):
        return f"it lacks {', '.join('.'.join(map(str, one['loc'])) for one in mistakes)}"
    first, *more = mistakes
    place, keys = _place(grammar, first["loc"])
    where = ".".join(map(str, place)) or "the file"
    said = _one_line(_words(first, keys))
    others = f"; and {len(more)} more" if more else ""
    return f"line {yaml_text.line_of(text, place)}, {where}: {said}{others}"


def _words(mistake: "ErrorDetails", keys: Sequence[str]) -> str:
    """What is wrong. ``keys`` are those that may stand where the mistake is."""
    if mistake["type"] == "extra_forbidden":
        return f"there is no such key; {suggestion(str(mistake['loc'][-1]), keys)}"
    message = in_words(mistake["msg"])
    value = mistake["ctx"]["tag"] if mistake["type"] == "union_tag_invalid" else mistake["input"]
    if mistake["type"] not in ("union_tag_invalid", "literal_error") or not isinstance(value, str):
        return message
    expected = mistake["ctx"].get("expected") or mistake["ctx"]["expected_tags"]
    near = suggestion(value, re.findall(r"'([^']+)'", expected))
    return f"{message}; {near}" if near.startswith("did") else message


def _place(grammar: type[BaseModel], place: Sequence[str | int]) -> tuple[list[str | int], tuple[str, ...]]:
    """A place as the file has it, and the keys that may stand beside its last part.

    Where a declaration is one of several kinds, as an outcome is, pydantic counts the kind as a part of the place.
    """
    written: list[str | int] = []
    keys: tuple[str, ...] = ()
    types: list[Any] = [grammar]
    is_kind = False
    for part in place:
        if is_kind:
            types, is_kind = [one for one in types if str(part) in _kinds(one)], False
            continue
        written.append(part)
        models = [one for one in types if isinstance(one, type) and issubclass(one, BaseModel)]
        keys = tuple(dict.fromkeys(key for one in models for key in one.model_fields))
        fields = [one.model_fields[str(part)] for one in models if part in one.model_fields]
        items = [get_args(one)[get_origin(one) is dict] for one in types if get_origin(one) in _CONTAINERS]
        types = [
            one for inner in (*(field.annotation for field in fields), *items) for one in _alternatives(inner)
        ]
        is_kind = any(field.discriminator for field in fields)
    return written, keys


_CONTAINERS = (dict, list, tuple)


def _alternatives(annotation: Any) -> list[Any]:
    """The types that a value may be of."""
    if get_origin(annotation) is Annotated:
        return _alternatives(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        return [one for argument in get_args(annotation) for one in _alternatives(argument)]
    return [annotation]


def _kinds(model: type[BaseModel]) -> set[str]:
    return {str(kind) for field in model.model_fields.values() for kind in get_args(field.annotation)}


def _one_line(text: str) -> str:
    return re.sub(r"\s*\n\s*", " ", text).strip().rstrip(".")
