"""JSON bodies of the language and FHIR routes: one reading, or one sentence why there is none.

As in ``serving.requests.request``, a name that stands twice and what is no JSON number are refused, for readers of JSON
differ over them, and sentences name fields and repeat no value.
"""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ValidationError

from mediscale.core.errors import InputError
from mediscale.core.mistake_text import in_words

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

B = TypeVar("B", bound=BaseModel)
_NAME_CHARACTERS = 40
"""Of a field that is unknown: a longer one is no name, and is not repeated."""


def parse(body: bytes, shape: type[B]) -> B:
    """The request in a body.

    Raises:
        InputError: it is not JSON or has more than one reading, or a field is unknown, absent or not as it must be.
    """
    content = read(body, '{"question": "What is a stroke?"}')
    try:
        return shape.model_validate_json(json.dumps(content))
    except ValidationError as error:
        mistakes = error.errors(include_input=False, include_url=False)
        raise InputError(sentence(mistakes, content)) from None


def read(body: bytes, example: str) -> dict[str, Any]:
    """The object in a body.

    Raises:
        InputError: it is not JSON or has more than one reading, or is no object; ``example`` is one.
    """
    try:
        content = json.loads(body.decode(), object_pairs_hook=_once, parse_constant=_no_number)
        json.dumps(content, ensure_ascii=False).encode()  # half of a surrogate pair is no text
    except (ValueError, RecursionError):
        raise InputError("The body is not valid JSON in UTF-8, or a name stands twice in it.") from None
    if not isinstance(content, dict):
        raise InputError(f"The body must be a JSON object in UTF-8, for example {example}.")
    return content


def _once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) != len(pairs):
        raise ValueError
    return content


def _no_number(_text: str) -> float:
    raise ValueError


Place = tuple[str | int, ...]


def sentence(mistakes: Sequence["ErrorDetails"], content: object) -> str:
    """The first mistake that pydantic says of a content, and at how many other places there is one; no value is
    repeated. Where a field may be of several types, the mistake is that of the type that fits furthest."""
    places = [_place(one, content) for one in mistakes]
    within = [place for place in places if place[: len(places[0])] == places[0]]
    place = max(within, key=len)
    said = [_words(one, each) for one, each in zip(mistakes, places, strict=True) if each == place]
    others = len({each for each in places if each not in within})
    more = f" (and {others} more)" if others else ""
    return f"The request can't be answered: {_alternatives(said)}{more}."


def _place(mistake: "ErrorDetails", content: object) -> Place:
    """Where a mistake stands in a content: pydantic counts the type that it tried as a part of the place."""
    place: list[str | int] = []
    for part in mistake["loc"]:
        if isinstance(content, dict) and (part in content or mistake["type"] == "missing"):
            content = content.get(part)
            place.append(part)
        elif isinstance(content, list) and isinstance(part, int):
            content = content[part]
            place.append(part)
    return tuple(place)


def _words(mistake: "ErrorDetails", place: Place) -> str:
    if mistake["type"] == "extra_forbidden":
        name = str(place[-1])
        named = name if name.isidentifier() and len(name) <= _NAME_CHARACTERS else "a field"
        return f"{named} is not known here; the page /docs lists the fields"
    parts = (f"[{part}]" if isinstance(part, int) else f".{part}" for part in place)
    where, said = "".join(parts).removeprefix(".") or "the body", in_words(mistake["msg"])
    return f"{where} {said}" if said.startswith(("must ", "is ")) else f"{where}: {said}"


def _alternatives(said: Sequence[str]) -> str:
    """What may stand at a place, as one clause.

    >>> _alternatives(["stop must be text", "stop must be a list"])
    'stop must be text or a list'
    """
    first, *others = dict.fromkeys(said)
    return " or ".join([first, *(one.partition(" must ")[2].removeprefix("be ") or one for one in others)])
