"""JSON bodies of the language and FHIR routes: one reading, or one sentence why there is none.

As in ``serving.requests.request``, a name that stands twice and what is no JSON number are refused, for readers of JSON
differ over them, and sentences name fields and repeat no value.
"""

import json
from collections.abc import Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from mediscale.core.errors import InputError

B = TypeVar("B", bound=BaseModel)


def parse(body: bytes, shape: type[B]) -> B:
    """The request in a body.

    Raises:
        InputError: it is not JSON or has more than one reading, or a field is unknown, absent or not as it must be.
    """
    content = read(body, '{"question": "What is a stroke?"}')
    try:
        return shape.model_validate_json(json.dumps(content))
    except ValidationError as error:
        raise InputError(_sentence(error)) from None


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


def _sentence(error: ValidationError) -> str:
    """The first mistake, without the value."""
    first, *more = error.errors(include_input=False, include_url=False, include_context=False)
    where = ".".join(str(part) for part in first["loc"] if isinstance(part, str))[:80]
    if first["type"] == "extra_forbidden":
        problem = "there is a field that is unknown here; the page /docs lists the fields"
    else:
        problem = f"{where or 'the body'}: {first['msg'].removeprefix('Value error, ').lower()}"
    also = f" (and {len(more)} more)" if more else ""
    return f"The request can't be answered, {problem}{also}."
