"""``POST /predict``: the risk of one patient, from plain values or from the lake."""

import logging
import time
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response
from pydantic import TypeAdapter
from starlette.requests import ClientDisconnect

from mediscale.core.errors import BusyError, InputError, MediscaleError, NotFoundError, StorageError
from serving import auth, schemas
from serving.auth import PROBLEMS, Principal, Role, require
from serving.prediction_log import Asked
from serving.prometheus_metrics import Metrics
from serving.schemas import Answer, Problem
from serving.service import Service, error_location

BODY_BYTES = 6 * schemas.NOTE_CHARACTERS + 2**16
"""The longest note, each character escaped as many JSON clients do (\\uXXXX), and the values."""

log = logging.getLogger("mediscale.serving")

_ANSWER = TypeAdapter(Answer)
_PROBLEM = TypeAdapter(Problem)
_PROBLEMS: dict[int | str, dict[str, Any]] = {
    **PROBLEMS,
    404: {"model": Problem, "description": "The lake does not know the patient"},
    413: {"model": Problem, "description": "The body is too large"},
    422: {
        "model": Problem,
        "description": "Not JSON, an unknown field, a wrong type, or whom the models are not made for",
    },
    503: {"model": Problem, "description": "No model is served, or the prediction could not be logged"},
}
_BODY = {
    "parameters": [
        {
            "name": auth.PURPOSE_HEADER,
            "in": "header",
            "description": "Why the patient's data is used. Default: treatment, with a key or token",
            "schema": {"enum": list(auth.PURPOSES)},
        }
    ],
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": schemas.request_schema(), "examples": schemas.EXAMPLES}},
    },
}


class TooLargeError(InputError):
    """The body is larger than any request can be."""


def router(service: Service) -> APIRouter:
    """The route of one worker process's service."""
    routes = APIRouter(default_response_class=Response)

    @routes.post(
        "/predict",
        summary="Risk of one patient, from plain values or from the lake",
        responses={200: {"model": Answer, "description": "Logged and answered"}, **_PROBLEMS},
        openapi_extra=_BODY,
    )
    async def predict(
        request: Request, principal: Annotated[Principal, Depends(require(Role.CLINICIAN))]
    ) -> Response:
        begun = time.perf_counter()
        try:
            asked = Asked(principal.name, auth.purpose_of_use(request, principal))
            answer = await service.predict(await _body(request), asked)
        except ClientDisconnect:
            return Response(status_code=400)  # nobody is left to read it
        except Exception as error:
            return _refused(error, service.metrics)
        content = _ANSWER.dump_json(answer, exclude_none=True)
        service.metrics.seconds.observe(time.perf_counter() - begun)
        return Response(content, media_type="application/json")

    return routes


async def _body(request: Request) -> bytes:
    """The request's body, read no further than a request can be long."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > BODY_BYTES:
            raise TooLargeError(
                f"The body is larger than {BODY_BYTES} bytes; send one patient at a time, with a clinical_note of at "
                f"most {schemas.NOTE_CHARACTERS} characters."
            )
    return bytes(body)


_STATUS: dict[type[MediscaleError], int] = {
    TooLargeError: 413,
    InputError: 422,
    NotFoundError: 404,
    BusyError: 503,
    StorageError: 503,
}


def _refused(error: Exception, metrics: Metrics) -> Response:
    status = next((code for kind, code in _STATUS.items() if isinstance(error, kind)), 500)
    if status == 500:
        log.error("%s", error_location(error))
        error = MediscaleError("The server could not answer; its log says where. Nothing was predicted.")
    metrics.refusals.labels(status).inc()
    return Response(_PROBLEM.dump_json(Problem(str(error))), status, media_type="application/json")
