"""``POST /feedback``: what whoever read an answer says of it."""

from functools import partial
from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from pydantic import TypeAdapter

from serving import openapi
from serving.log import feedback
from serving.log.feedback import FeedbackRequest, FeedbackTaken
from serving.refusals import answered, read_body
from serving.requests import json_body
from serving.security import auth
from serving.security.auth import require
from serving.security.principal import Principal, Role
from serving.service import Service

BODY_BYTES = 6 * feedback.CORRECTED_CHARACTERS + 2**12
"""The longest correction, each character escaped as many JSON clients do (\\uXXXX)."""
TOO_LARGE = f"a corrected_answer has at most {feedback.CORRECTED_CHARACTERS} characters"

_TAKEN = TypeAdapter(FeedbackTaken)
_EXAMPLES = {
    "a correction": {
        "summary": "An answer was wrong, and this is what it should have said",
        "value": {
            "prediction_id": "w-1-1",
            "verdict": "wrong",
            "corrected_answer": "The kidney makes urine.",
        },
    }
}


def router(service: Service) -> APIRouter:
    """The route of one worker process's service."""
    routes = APIRouter(default_response_class=Response)

    @routes.post(
        "/feedback",
        status_code=201,
        summary="Whether an answer was helpful, wrong or unsafe, and what it should have been",
        responses={
            201: {"model": FeedbackTaken, "description": "Logged; a person reviews it"},
            **openapi.refusals(
                openapi.OF_BODIES
                | {
                    404: "No answer of that prediction_id is known here",
                    422: "Not JSON, an unknown field, or not said about which risk",
                    503: "The log or the lake can't be read or written",
                }
            ),
        },
        openapi_extra=openapi.takes(openapi.schema_of(FeedbackRequest), _EXAMPLES),
    )
    async def post(
        request: Request, principal: Annotated[Principal, Depends(require(Role.CLINICIAN, Role.ENGINEER))]
    ) -> Response:
        return await answered(service.metrics, _accepted(service, request, principal))

    return routes


async def _accepted(service: Service, request: Request, principal: Principal) -> Response:
    requester = auth.requester(request, principal)
    content = await read_body(request, BODY_BYTES, TOO_LARGE)
    body = await service.parsed(partial(json_body.parse, shape=FeedbackRequest), content)
    receipt = await service.feedback(body, requester)
    return Response(_TAKEN.dump_json(receipt), 201, media_type="application/json")
