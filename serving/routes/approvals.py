"""``GET`` and ``POST /approvals``: the second pair of eyes. What waits for approval, and an approver's signed yes.

An approval moves nothing. The gate judges again, and the alias moves, when somebody promotes the version again
(``mediscale promote``, or the night's promotion).
"""

import asyncio
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from pydantic import Field, TypeAdapter

from mediscale.core import caller
from mediscale.core.errors import UsageError
from mediscale.core.settings import Settings
from mediscale.storage import approvals, history
from mediscale.storage.history_entries import Approval, Entry, Proposal
from serving import openapi
from serving.language_schemas import StrictRequest
from serving.refusals import answered, read_body
from serving.requests import json_body
from serving.security.auth import require
from serving.security.principal import Principal, Role
from serving.service import Service

BODY_BYTES = 2**14
TOO_LARGE = "an approval is a model, a version and one sentence"


class ApprovalRequest(StrictRequest):
    """Which proposed version, and why."""

    model: str = Field(min_length=1, max_length=200, examples=["icu-mortality"])
    version: int = Field(ge=1)
    reason: str = Field(min_length=1, max_length=1000, description="One sentence for the history")


@dataclass(frozen=True, slots=True)
class Waiting:
    """A version that waits for another person's approval, and what the gate said of it."""

    model: str
    version: int
    proposed_by: str
    proposed_at: datetime
    """UTC."""
    reason: str


@dataclass(frozen=True, slots=True)
class Approved:
    """An approval as the signed history has it."""

    model: str
    version: int
    approved_by: str
    next: str
    """What moves the alias."""


_WAITING, _APPROVED = TypeAdapter(list[Waiting]), TypeAdapter(Approved)
_REFUSALS = openapi.refusals(
    openapi.OF_BODIES
    | {
        404: "The version is not the newest that was proposed",
        409: "Whoever proposed a version can't approve of it",
        422: "Not JSON, an unknown field, or one that is absent or not as it must be",
        503: "This server can't sign for the approver, or the history can't be read",
    }
)


def router(service: Service) -> APIRouter:
    """The routes of one worker process's service."""
    routes = APIRouter(default_response_class=Response)

    @routes.get(
        "/approvals",
        summary="Versions that wait for another person's approval",
        responses={200: {"model": list[Waiting]}, **_REFUSALS},
        dependencies=[Depends(require(Role.APPROVER, Role.ENGINEER, Role.AUDITOR))],
    )
    async def read() -> Response:
        return await answered(service.metrics, _waiting(service))

    @routes.post(
        "/approvals",
        status_code=201,
        summary="Approve of a version that somebody else proposed",
        responses={201: {"model": Approved, "description": "Signed, in the history"}, **_REFUSALS},
        openapi_extra=openapi.body(openapi.schema_of(ApprovalRequest)),
    )
    async def approve(
        request: Request, principal: Annotated[Principal, Depends(require(Role.APPROVER))]
    ) -> Response:
        return await answered(service.metrics, _approve(service, request, principal.actor))

    return routes


async def _waiting(service: Service) -> Response:
    waits = await asyncio.to_thread(waiting, service.settings, service.predictors.dataset)
    return Response(_WAITING.dump_json(waits), media_type="application/json")


async def _approve(service: Service, request: Request, actor: str) -> Response:
    content = await read_body(request, BODY_BYTES, TOO_LARGE)
    body = await service.parsed(partial(json_body.parse, shape=ApprovalRequest), content)
    approved = await asyncio.to_thread(record, service.settings, service.predictors.dataset, body, actor)
    return Response(_APPROVED.dump_json(approved), 201, media_type="application/json")


def waiting(settings: Settings, dataset: str) -> list[Waiting]:
    """The newest proposal of each model that nobody approved yet.

    Raises:
        StorageError: the history is not to be trusted.
    """
    recorded = history.entries(settings, dataset)
    approved = {approval.proposal for _, approval in history.bodies(recorded, Approval)}
    newest: dict[str, tuple[Entry, Proposal]] = {
        proposal.model: (entry, proposal) for entry, proposal in history.bodies(recorded, Proposal)
    }
    return [
        Waiting(proposal.model, proposal.version, entry.actor, entry.at, proposal.reason)
        for entry, proposal in newest.values()
        if entry.sequence not in approved
    ]


def record(settings: Settings, dataset: str, request: ApprovalRequest, actor: str) -> Approved:
    """Signs an approval in the name of whoever was authenticated, with a service's key that was given to the server.

    Raises:
        UsageError: no key was given, or it may not sign for others.
        NotFoundError: the version is not the newest that was proposed.
        QualityError: the proposer can't approve.
        StorageError: the history is not to be trusted.
    """
    if not settings.signing_command and not settings.signing_key.exists():
        raise UsageError(
            "This server has no signing key, so it can't record an approval; approve with `mediscale approve "
            "MODEL/VERSION --reason …`, or give the server a service's key by MEDISCALE_SIGNING_KEY or "
            "MEDISCALE_SIGNING_COMMAND."
        )
    approvals.approve(
        settings, dataset, request.model, request.version, actor=actor, reason=request.reason, at=caller.now()
    )
    again = "`mediscale promote` with this version judges again and moves the alias."
    return Approved(request.model, request.version, actor, again)
