"""``POST /predict``: the risk of one patient, from plain values or from the lake."""

import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response

from serving import openapi, schemas
from serving.log.logged_answers import Requester
from serving.refusals import answered, read_body
from serving.schemas import Answer
from serving.security import auth
from serving.security.auth import require
from serving.security.principal import Principal, Role
from serving.service import Service

BODY_BYTES = 6 * schemas.NOTE_CHARACTERS + 2**16
"""The longest note, each character escaped as many JSON clients do (\\uXXXX), and the values."""
TOO_LARGE = (
    f"send one patient at a time, with a clinical_note of at most {schemas.NOTE_CHARACTERS} characters"
)

_RESPONSES: openapi.Refusals = {
    200: {"model": Answer, "description": "Logged and answered"},
    **openapi.refusals(
        openapi.OF_BODIES
        | {
            404: "The lake does not know the patient, or no such version is served",
            422: "Not JSON, an unknown field, a wrong type, or whom the models are not made for",
            503: "No model is served, or the prediction could not be logged",
        }
    ),
}
_BODY = openapi.takes(schemas.request_schema(), schemas.EXAMPLES)


def router(service: Service) -> APIRouter:
    """The route of one worker process's service."""
    routes = APIRouter(default_response_class=Response)

    @routes.post(
        "/predict",
        summary="Risk of one patient, from plain values or from the lake",
        responses=_RESPONSES,
        openapi_extra=_BODY,
    )
    async def predict(
        request: Request, principal: Annotated[Principal, Depends(require(Role.CLINICIAN))]
    ) -> Response:
        return await answered(service.metrics, _predicted(service, request, principal, service.predict))

    @routes.post(
        "/models/{name}/{version}/predict",
        summary="The same of one version that is served, whichever patients it is drawn for",
        responses=_RESPONSES,
        openapi_extra=_BODY,
    )
    async def predict_by(
        name: str,
        version: int,
        request: Request,
        principal: Annotated[Principal, Depends(require(Role.CLINICIAN))],
    ) -> Response:
        predict = partial(service.predict_by, name, version)
        return await answered(service.metrics, _predicted(service, request, principal, predict))

    return routes


async def _predicted(
    service: Service,
    request: Request,
    principal: Principal,
    predict: Callable[[bytes, Requester], Awaitable[bytes]],
) -> Response:
    begun = time.perf_counter()
    requester = auth.requester(request, principal)
    content = await predict(await read_body(request, BODY_BYTES, TOO_LARGE), requester)
    service.metrics.seconds.observe(time.perf_counter() - begun)
    return Response(content, media_type="application/json")
