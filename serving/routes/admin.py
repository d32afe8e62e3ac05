"""``GET /health`` and ``GET /metrics``: what operates the server."""

import asyncio

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import TypeAdapter

from serving.schemas import Health
from serving.service import Service

_HEALTH = TypeAdapter(Health)


def router(service: Service) -> APIRouter:
    """The routes of one worker process's service."""
    routes = APIRouter(default_response_class=Response)

    @routes.get(
        "/health",
        summary="Which versions are served, and what is wrong",
        responses={200: {"model": Health}, 503: {"model": Health, "description": "No model is served"}},
    )
    async def health() -> Response:
        report = await asyncio.to_thread(service.health)
        status = 503 if report.status == "unavailable" else 200
        return Response(_HEALTH.dump_json(report), status, media_type="application/json")

    @routes.get("/metrics", summary="Numbers for Prometheus")
    async def metrics() -> Response:
        return Response(service.metrics.exposition(), media_type=CONTENT_TYPE_LATEST)

    return routes
