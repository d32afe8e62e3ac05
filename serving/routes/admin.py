"""``GET /live``, ``/ready``, ``/health`` and ``/metrics``: what operates the server. None waits for a thread."""

from fastapi import APIRouter, Depends, Response
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import TypeAdapter

from serving import openapi
from serving.schemas import Health, Status
from serving.security.auth import require
from serving.security.principal import Role
from serving.service import Service

_HEALTH = TypeAdapter(Health)


def router(service: Service) -> APIRouter:
    """The routes of one worker process's service."""
    routes = APIRouter(default_response_class=Response)

    @routes.get("/live", summary="Liveness: the process answers; one that does not is to be restarted")
    async def live() -> Response:
        return Response("live", media_type="text/plain")

    @routes.get(
        "/ready",
        summary="Readiness: /predict can be answered now; requests are to go elsewhere while it can't",
        responses={503: {"description": "No model is served, the log can't be written, or the server ends"}},
    )
    async def ready() -> Response:
        status = service.health().status
        return Response(status, _code(status), media_type="text/plain")

    @routes.get(
        "/health",
        summary="Which versions are served, and what is wrong",
        responses={
            200: {"model": Health},
            503: {"model": Health, "description": "Not ready: see problems"},
            **openapi.refusals({}),
        },
        dependencies=[Depends(require(Role.ENGINEER, Role.APPROVER, Role.AUDITOR))],
    )
    async def health() -> Response:
        report = service.health()
        return Response(_HEALTH.dump_json(report), _code(report.status), media_type="application/json")

    @routes.get(
        "/metrics",
        summary="Numbers for Prometheus",
        responses=openapi.refusals({}),
        dependencies=[Depends(require(Role.ENGINEER))],
    )
    async def metrics() -> Response:
        return Response(service.metrics.exposition(), media_type=CONTENT_TYPE_LATEST)

    return routes


def _code(status: Status) -> int:
    return 503 if status == "unavailable" else 200
