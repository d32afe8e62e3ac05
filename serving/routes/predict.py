"""``POST /predict``: the risk of one patient, from plain values or from the lake."""

import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response
from starlette.requests import ClientDisconnect

from serving import schemas
from serving.log.logged_answers import Requester
from serving.refusals import read_body, refused
from serving.schemas import Answer, Problem
from serving.security import auth
from serving.security.auth import PROBLEMS, require
from serving.security.principal import Principal, Role
from serving.service import Service

BODY_BYTES = 6 * schemas.NOTE_CHARACTERS + 2**16
"""The longest note, each character escaped as many JSON clients do (\\uXXXX), and the values."""
TOO_LARGE = (
    f"send one patient at a time, with a clinical_note of at most {schemas.NOTE_CHARACTERS} characters"
)

_PROBLEMS: dict[int | str, dict[str, Any]] = {
    **PROBLEMS,
    404: {
        "model": Problem,
        "description": "The lake does not know the patient, or no such version is served",
    },
    413: {"model": Problem, "description": "The body is too large"},
    422: {
        "model": Problem,
        "description": "Not JSON, an unknown field, a wrong type, or whom the models are not made for",
    },
    503: {"model": Problem, "description": "No model is served, or the prediction could not be logged"},
}
_BODY = {
    "parameters": [auth.PURPOSE_PARAMETER],
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": schemas.request_schema(), "examples": schemas.EXAMPLES}},
    },
}


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
        return await _predicted(service, request, principal, service.predict)

    @routes.post(
        "/models/{name}/{version}/predict",
        summary="The same of one version that is served, whichever patients it is drawn for",
        responses={200: {"model": Answer, "description": "Logged and answered"}, **_PROBLEMS},
        openapi_extra=_BODY,
    )
    async def predict_by(
        name: str,
        version: int,
        request: Request,
        principal: Annotated[Principal, Depends(require(Role.CLINICIAN))],
    ) -> Response:
        return await _predicted(service, request, principal, partial(service.predict_by, name, version))

    return routes


async def _predicted(
    service: Service,
    request: Request,
    principal: Principal,
    predict: Callable[[bytes, Requester], Awaitable[bytes]],
) -> Response:
    begun = time.perf_counter()
    try:
        requester = auth.requester(request, principal)
        content = await predict(await read_body(request, BODY_BYTES, TOO_LARGE), requester)
    except ClientDisconnect:
        return Response(status_code=400)  # nobody is left to read it
    except Exception as error:
        return refused(error, service.metrics)
    service.metrics.seconds.observe(time.perf_counter() - begun)
    return Response(content, media_type="application/json")
