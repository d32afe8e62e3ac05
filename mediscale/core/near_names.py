"""Near names: what a person probably meant by a name that there is not."""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from functools import reduce
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel

_SHOWN = 12


def suggestion(name: str, names: Iterable[str]) -> str:
    """The end of a sentence about an unknown name: the name that was probably meant, or those that there are.

    >>> suggestion("creatinin", ("creatinine", "lactate")), suggestion("x", ("creatinine", "lactate"))
    ('did you mean creatinine?', 'there are creatinine, lactate')
    """
    candidates = list(names)
    if near := get_close_matches(name, candidates, n=1):
        return f"did you mean {near[0]}?"
    more = f" and {len(candidates) - _SHOWN} more" if len(candidates) > _SHOWN else ""
    return f"there are {', '.join(candidates[:_SHOWN])}{more}"


def keys_at(model: type[BaseModel], place: Sequence[str | int]) -> tuple[str, ...]:
    """The keys that a declaration may have at a place in it, as an error of pydantic names the place."""
    models = [model]
    for part in place:
        fields = [one.model_fields[part] for one in models if part in one.model_fields]
        if fields:
            models = [nested for field in fields for nested in _models(field.annotation)]
        elif isinstance(part, str):  # the tag of a union
            models = [one for one in models if part in _tags(one)] or models
    return tuple(dict.fromkeys(key for one in models for key in one.model_fields))


def _models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if get_origin(annotation) in (Annotated, Union, UnionType, tuple, list, dict):
        return reduce(list.__add__, map(_models, get_args(annotation)), [])
    return []


def _tags(model: type[BaseModel]) -> set[str]:
    return {str(tag) for field in model.model_fields.values() for tag in get_args(field.annotation)}
