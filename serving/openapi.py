"""OpenAPI document: what a route says in it of its request, and of the refusals that it may answer with.

A body is read whole and parsed by the route itself, so FastAPI can't tell its schema from the route's signature.
"""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from serving.schemas import Problem
from serving.security.auth import PURPOSE_HEADER
from serving.security.principal import PURPOSES

Refusals = dict[int | str, dict[str, Any]]
"""Of a route, by status, as FastAPI takes them."""


def refusals(descriptions: dict[int, str], body: type = Problem) -> Refusals:
    """The refusals of a route with a role: those of every such route, and its own, each status with a description."""
    return {
        status: {"model": body, "description": text} for status, text in (_OF_ROLES | descriptions).items()
    }


_OF_ROLES = {
    401: "No valid key or token",
    403: "No role that may ask this, or a page of another site",
    429: "Too many requests; Retry-After says when to ask again",
}

OF_BODIES = {413: "The body is too large", 415: "The body is compressed"}
"""The refusals of every route that takes a body."""


def takes(schema: Mapping[str, Any], examples: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The JSON body of a route that answers about patients or questions, and the header that states a purpose."""
    purpose = {
        "name": PURPOSE_HEADER,
        "in": "header",
        "description": "Why the patient's data is used. Default: treatment, with a key or token",
        "schema": {"enum": list(PURPOSES)},
    }
    return {"parameters": [purpose], **body(schema, examples)}


def body(schema: Mapping[str, Any], examples: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The JSON body of a route."""
    content = {"schema": schema} | ({"examples": examples} if examples else {})
    return {"requestBody": {"required": True, "content": {"application/json": content}}}


def schema_of(shape: type[BaseModel]) -> dict[str, Any]:
    """JSON schema of a body, in one piece: the OpenAPI document has no place for its definitions."""
    whole = shape.model_json_schema()
    definitions: dict[str, Any] = whole.pop("$defs", {})

    def inlined(part: Any) -> Any:
        if isinstance(part, list):
            return [inlined(each) for each in part]
        if not isinstance(part, dict):
            return part
        if "$ref" in part:
            return inlined(definitions[part["$ref"].rpartition("/")[2]])
        return {name: inlined(each) for name, each in part.items()}

    in_one_piece: dict[str, Any] = inlined(whole)
    return in_one_piece
