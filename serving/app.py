"""The HTTP application: reads a request, asks the served versions, logs, answers."""

import asyncio
import gc
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import TypeAdapter
from starlette.requests import ClientDisconnect
from starlette.routing import BaseRoute

from mediscale.core.errors import BusyError, InputError, MediscaleError, NotFoundError, StorageError
from mediscale.core.settings import Settings
from mediscale.inference.model_spec import NOTICE
from serving import schemas
from serving.models import Predictors
from serving.prediction_log import PredictionLog
from serving.prometheus_metrics import Metrics
from serving.schemas import Answer, Health, Problem
from serving.service import Clock, Service, error_location, utc_now

BODY_BYTES = 6 * schemas.NOTE_CHARACTERS + 2**16
"""The longest note, each character escaped as many JSON clients do (\\uXXXX), and the values."""
POLL_SECONDS = 1.5
"""How often the promotion history is looked at."""
FLUSH_SECONDS = 30.0
"""How often logged predictions are moved to the lake."""

log = logging.getLogger("mediscale.serving")

_ANSWER = TypeAdapter(Answer)
_HEALTH = TypeAdapter(Health)
_PROBLEM = TypeAdapter(Problem)
_PROBLEMS: dict[int | str, dict[str, Any]] = {
    404: {"model": Problem, "description": "The lake does not know the patient"},
    413: {"model": Problem, "description": "The body is too large"},
    422: {
        "model": Problem,
        "description": "Not JSON, an unknown field, a wrong type, or whom the models are not made for",
    },
    503: {"model": Problem, "description": "No model is served, or the prediction could not be logged"},
}
_BODY = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": schemas.request_schema(), "examples": schemas.EXAMPLES}},
    }
}


class TooLargeError(InputError):
    """The body is larger than any request can be."""


def create_app(
    settings: Settings, predictors: Predictors, prediction_log: PredictionLog, clock: Clock = utc_now
) -> FastAPI:
    """The application of one worker process; it closes the log when it ends. ``clock`` dates the predictions."""
    service = Service(settings, predictors, prediction_log, clock)
    return FastAPI(
        title="MediScale",
        description=f"Risks of hospital patients, each with its reasons. {NOTICE}",
        version="1",
        lifespan=_lifespan(service),
        routes=_routes(service),
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )


def _routes(service: Service) -> list[BaseRoute]:
    router = APIRouter(default_response_class=Response)

    @router.post(
        "/predict",
        summary="Risk of one patient, from plain values or from the lake",
        responses={200: {"model": Answer, "description": "Logged and answered"}, **_PROBLEMS},
        openapi_extra=_BODY,
    )
    async def predict(request: Request) -> Response:
        begun = time.perf_counter()
        try:
            answer = await service.predict(await _body(request))
        except ClientDisconnect:
            return Response(status_code=400)  # nobody is left to read it
        except Exception as error:
            return _refused(error, service.metrics)
        content = _ANSWER.dump_json(answer, exclude_none=True)
        service.metrics.seconds.observe(time.perf_counter() - begun)
        return Response(content, media_type="application/json")

    @router.get(
        "/health",
        summary="Which versions are served, and what is wrong",
        responses={200: {"model": Health}, 503: {"model": Health, "description": "No model is served"}},
    )
    async def health() -> Response:
        report = await asyncio.to_thread(service.health)
        status = 503 if report.status == "unavailable" else 200
        return Response(_HEALTH.dump_json(report), status, media_type="application/json")

    @router.get("/metrics", summary="Numbers for Prometheus")
    async def metrics() -> Response:
        return Response(service.metrics.exposition(), media_type=CONTENT_TYPE_LATEST)

    return router.routes


def _lifespan(service: Service) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        await asyncio.to_thread(service.follow)
        tasks = [
            asyncio.create_task(_repeat(service.follow, POLL_SECONDS)),
            asyncio.create_task(_repeat(service.flush, FLUSH_SECONDS)),
            asyncio.create_task(asyncio.to_thread(service.flush_left_behind)),
        ]
        gc.collect()
        gc.freeze()  # what is loaded now lives as long as the process: no collection need look at it
        yield
        gc.unfreeze()  # else what is frozen is reported as leaked when the interpreter ends
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.to_thread(service.flush)
        service.log.close()

    return lifespan


async def _repeat(work: Callable[[], None], seconds: float) -> None:
    while True:
        await asyncio.sleep(seconds)
        await asyncio.to_thread(work)


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
