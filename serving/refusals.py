"""Refusals: the status and the one sentence that a request gets which can't be answered."""

import logging
from collections.abc import Awaitable, Callable

from fastapi import Request, Response
from pydantic import TypeAdapter
from starlette.requests import ClientDisconnect

from mediscale.core.errors import (
    BusyError,
    InputError,
    MediscaleError,
    NotFoundError,
    QualityError,
    StorageError,
    UsageError,
    failure_location,
)
from serving.language.language_engine import EngineError, NotInstalledError
from serving.metrics.prometheus_metrics import Metrics
from serving.openai_schemas import error_body
from serving.schemas import Problem
from serving.security.principal import RefusedError

log = logging.getLogger("mediscale.serving")

_PROBLEM = TypeAdapter(Problem)


RETRY_SECONDS = 2
"""After which a client may ask again where too many asked, or something is broken: a queue of notes is worked off."""


_PLAIN = ("identity", "chunked")
"""Codings of a body that leave its bytes as they are."""


class TooLargeError(InputError):
    """The body is larger than any request can be."""


class CompressedError(InputError):
    """The body is written in a way that is not read here."""


_STATUS: dict[type[MediscaleError], int] = {
    TooLargeError: 413,
    CompressedError: 415,
    InputError: 422,
    NotFoundError: 404,
    QualityError: 409,
    NotInstalledError: 501,
    BusyError: 503,
    StorageError: 503,
    EngineError: 503,
    UsageError: 503,  # the server's own settings: what a request does wrong is an InputError
}


def problem(sentence: str, _status: int) -> bytes:
    """The body of a refusal, where no protocol has one of its own."""
    return _PROBLEM.dump_json(Problem(sentence))


def body_at(path: str) -> Callable[[str, int], bytes]:
    """What writes the body of a refusal at an address: under /v1 OpenAI's protocol has a shape of its own."""
    return error_body if path.startswith("/v1/") else problem


async def answered(
    metrics: Metrics, work: Awaitable[Response], body: Callable[[str, int], bytes] = problem
) -> Response:
    """The answer to a request, or why there is none, as ``body`` writes a sentence and its status.

    Raises:
        RefusedError: whoever asks may not; the application answers it.
    """
    try:
        return await work
    except ClientDisconnect:
        return Response(status_code=400)  # nobody is left to read it
    except RefusedError as refusal:
        metrics.refusals.labels(refusal.status).inc()
        raise
    except Exception as error:
        status = _status(error)
        content = body(sentence_about(error, metrics), status)
        return Response(content, status, headers_of(status), media_type="application/json")


def headers_of(status: int) -> dict[str, str]:
    """The header fields of a refusal."""
    return {"Retry-After": str(RETRY_SECONDS)} if status == 503 else {}


def sentence_about(error: Exception, metrics: Metrics) -> str:
    """The sentence of a failure, which is counted."""
    status = _status(error)
    metrics.refusals.labels(status).inc()
    if status != 500:
        return str(error)
    log.error("%s", failure_location(error))
    return "The server could not answer; its log says where. Nothing was answered."


def _status(error: Exception) -> int:
    return next((code for kind, code in _STATUS.items() if isinstance(error, kind)), 500)


async def read_body(request: Request, most: int, remedy: str, query: tuple[str, ...] = ()) -> bytes:
    """The request's body, read no further than a request can be long; ``query`` are the parameters of the route.

    Raises:
        TooLargeError: it is longer; ``remedy`` ends the sentence.
        CompressedError: it is compressed, and might be of any length.
        InputError: the address has another parameter, which would change nothing here, or one of them twice.
    """
    _check_query(request, query)
    codings = [*request.headers.getlist("content-encoding"), *request.headers.getlist("transfer-encoding")]
    if any(one.strip().lower() not in _PLAIN for one in codings):
        raise CompressedError("The body is compressed, and this server reads none that is; send it as it is.")
    chunks, size = list[bytes](), 0
    async for chunk in request.stream():
        chunks.append(chunk)
        size += len(chunk)
        if size > most:
            raise TooLargeError(f"The body is larger than {most} bytes; {remedy}.")
    return b"".join(chunks)


def _check_query(request: Request, parameters: tuple[str, ...]) -> None:
    names = [name for name, _ in request.query_params.multi_items()]
    if set(names) - set(parameters):
        knows = f"knows {', '.join(parameters)} alone" if parameters else "takes everything in the body"
        raise InputError(f"The address has a parameter that is unknown here; this route {knows}.")
    if len(names) > len(set(names)):
        raise InputError("A parameter of the address stands twice in it; send it once.")
