"""The HTTP application: reads a request, asks the served versions, logs, answers."""

import asyncio
import gc
import logging
import time
import traceback
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.routing import APIRoute
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import TypeAdapter
from starlette.routing import BaseRoute

from mediscale.errors import BusyError, InputError, MediscaleError, NotFoundError, StorageError
from mediscale.predictor import NOTICE
from mediscale.settings import Settings
from serving import answers, schemas
from serving.metrics import Metrics
from serving.patients import Patients
from serving.prediction_log import PredictionLog, flush_left_behind
from serving.predictors import Predictors
from serving.schemas import Answer, Health, ModelHealth, Problem, Values

BODY_BYTES = 64 * 1024
POLL_SECONDS = 1.5
"""How often the promotion history is looked at."""
FLUSH_SECONDS = 5.0
"""How often logged predictions are moved to the lake."""

Clock = Callable[[], datetime]

log = logging.getLogger("mediscale.serving")

_ANSWER = TypeAdapter(Answer)
_HEALTH = TypeAdapter(Health)
_PROBLEM = TypeAdapter(Problem)
_PROBLEMS: dict[int | str, dict[str, Any]] = {
    404: {"model": Problem, "description": "The lake does not know the patient"},
    413: {"model": Problem, "description": "The body is too large"},
    422: {"model": Problem, "description": "Not JSON, an unknown field, or a wrong type"},
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


class Service:
    """What the endpoints share in one worker process."""

    def __init__(
        self, settings: Settings, predictors: Predictors, prediction_log: PredictionLog, clock: Clock
    ) -> None:
        self.settings = settings
        self.clock = clock
        self.predictors = predictors
        self.log = prediction_log
        self.patients = Patients(settings, predictors.dataset)
        self.metrics = Metrics()
        self.flush_problem: str | None = None

    async def predict(self, body: bytes) -> Answer:
        """One answer, durable in the log when this returns.

        Raises:
            MediscaleError: the request is wrong, no model is served, or the log could not take the answer.
        """
        asked = schemas.parse(body)
        served, now = self.predictors.current, self.clock()
        if not served:
            raise BusyError(f"No {self.predictors.alias} model of {self.predictors.dataset} is served yet.")
        if isinstance(asked, Values):
            answer, logged = answers.of_values(asked, served, now)
        else:
            known = await asyncio.to_thread(self.patients.find, asked, tuple(served))
            answer, logged = answers.of_patient(known, served, now)
        await self.log.append(logged)
        for risk in answer.predictions:
            self.metrics.predictions.labels(risk.task, risk.version).inc()
        return answer

    def health(self) -> Health:
        served, refused = self.predictors.current, self.predictors.refused
        models = tuple(
            ModelHealth(task, found.model.name, found.model.version, found.moved_at)
            for task, found in sorted(served.items())
        )
        problems = (*refused.values(), *([self.flush_problem] if self.flush_problem else []))
        status: schemas.Status = "unavailable" if not served else "degraded" if problems else "ready"
        return Health(
            status, self.predictors.dataset, self.predictors.alias, models, problems, self.log.backlog()
        )

    def follow(self) -> None:
        """Looks at the history once; what is served stays when it can't be read."""
        self.predictors.refresh()
        for task, found in self.predictors.current.items():
            self.metrics.version.labels(task).set(found.model.version)

    def flush(self) -> None:
        """Moves what is logged to the lake; what the lake does not take now stays in the log."""
        try:
            self.log.flush()
            self.flush_problem = None
        except Exception:
            self.metrics.failed_flushes.inc()
            self.flush_problem = "The lake does not take the prediction log; it is kept here and tried again."
            raise
        finally:
            self.metrics.backlog.set(self.log.backlog())

    def flush_left_behind(self) -> None:
        """Moves what killed workers of this home logged to the lake."""
        flush_left_behind(self.settings, self.log.dataset)


def utc_now() -> datetime:
    """Naive, as all times here."""
    return datetime.now(UTC).replace(tzinfo=None)


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


class _OwnBodyRoute(APIRoute):
    """Hands the request over as it is: documented like any route, without FastAPI's reading of parameters."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handler: Callable[[Request], Coroutine[Any, Any, Response]] = self.endpoint
        return handler


def _routes(service: Service) -> list[BaseRoute]:
    router = APIRouter(route_class=_OwnBodyRoute, default_response_class=Response)

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
    async def health(_request: Request) -> Response:
        found = await asyncio.to_thread(service.health)
        status = 503 if found.status == "unavailable" else 200
        return Response(_HEALTH.dump_json(found), status, media_type="application/json")

    @router.get("/metrics", summary="Numbers for Prometheus")
    async def metrics(_request: Request) -> Response:
        return Response(service.metrics.exposition(), media_type=CONTENT_TYPE_LATEST)

    return router.routes


def _lifespan(service: Service) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        await _quietly(service.follow)
        tasks = [
            asyncio.create_task(_repeat(service.follow, POLL_SECONDS)),
            asyncio.create_task(_repeat(service.flush, FLUSH_SECONDS)),
            asyncio.create_task(_quietly(service.flush_left_behind)),
        ]
        gc.collect()
        gc.freeze()  # what is loaded now lives as long as the process: no collection need look at it
        yield
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await _quietly(service.flush)
        service.log.close()

    return lifespan


async def _repeat(work: Callable[[], object], seconds: float) -> None:
    while True:
        await asyncio.sleep(seconds)
        await _quietly(work)


async def _quietly(work: Callable[[], object]) -> None:
    """Runs background work; a failure is logged and the next round tries again."""
    try:
        await asyncio.to_thread(work)
    except MediscaleError as error:
        log.warning("%s", error)
    except Exception as error:
        log.error("%s", _place(error))


async def _body(request: Request) -> bytes:
    """The request's body, read no further than a request can be long."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > BODY_BYTES:
            raise TooLargeError(f"The body is larger than {BODY_BYTES} bytes; send one patient at a time.")
    return body


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
        log.error("%s", _place(error))
        error = MediscaleError("The server could not answer; its log says where. Nothing was predicted.")
    metrics.refusals.labels(status).inc()
    return Response(_PROBLEM.dump_json(Problem(str(error))), status, media_type="application/json")


def _place(error: BaseException) -> str:
    """Kind and place of a failure, without its message, which may hold a patient's values."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f"{frames[-1].filename}:{frames[-1].lineno}" if frames else "unknown place"
    return f"{type(error).__name__} at {where}"
