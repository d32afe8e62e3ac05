"""The HTTP application of one worker process: its routes, and what it does in the background."""

import asyncio
import gc
import math
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import NamedTuple

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException

from mediscale.core import caller
from mediscale.core.settings import Settings
from mediscale.inference.model_spec import NOTICE
from serving import refusals
from serving.language.languages import Languages
from serving.log import logged_answers
from serving.log.prediction_log import PredictionLog
from serving.requests import json_body
from serving.risk.models import Predictors
from serving.routes import admin, analyze, approvals, docs, ehr, feedback, generate, openai, predict
from serving.security.listening import Listening
from serving.security.principal import RefusedError
from serving.service import Clock, Service

POLL_SECONDS = 1.5
"""How often the promotion history and the API keys are looked at."""
FILES_SECONDS = 300.0
"""How often the files of the served versions are looked at."""
FLUSH_SECONDS = 30.0
"""How often logged predictions are moved to the lake."""
LAKE_SECONDS = 60.0
"""How often the lake is asked whether a night or its monitoring has written down anything new."""


def create_app(
    settings: Settings,
    predictors: Predictors,
    prediction_log: PredictionLog,
    clock: Clock = caller.now,
    listening: Listening | None = None,
    language: tuple[Languages, PredictionLog] | None = None,
) -> FastAPI:
    """The application of one worker process; it closes the logs when it ends. ``clock`` dates the predictions.

    ``language`` is whose language version answers, and its log. Default: that of the predictors' dataset, in their log.
    ``listening`` decides who may ask. Without it nothing listens: the account of this process asks within it.
    """
    own = Languages(settings, predictors.dataset, predictors.alias), prediction_log
    service = Service(settings, predictors, prediction_log, clock, listening, *(language or own))
    app = FastAPI(
        title="MediScale",
        description=f"Risks of hospital patients, each with its reasons, and answers of a language model. {NOTICE}",
        version="1",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,  # a proxy's client would be sent to http, with a patient's values in its body
        lifespan=_lifespan(service),
        routes=[
            *predict.router(service).routes,
            *ehr.router(service).routes,
            *generate.router(service).routes,
            *openai.router(service).routes,
            *analyze.router(service).routes,
            *approvals.router(service).routes,
            *feedback.router(service).routes,
            *admin.router(service).routes,
            *docs.router().routes,
        ],
        telemetry={"tracing": False, "metrics": False, "logs": False},
        exception_handlers={
            RefusedError: _refused,
            RequestValidationError: _unreadable,
            HTTPException: _unroutable,
        },
    )
    app.state.service = service
    app.openapi()  # made once and kept, before HEAD, of which it need not tell
    for methods in (route.methods for route in app.routes if isinstance(route, APIRoute)):
        if methods and "GET" in methods:
            methods.add("HEAD")  # as HTTP asks of every server; balancers and monitors send it
    return app


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, RefusedError)  # for the types: it handles no other
    body = refusals.body_at(request.url.path)
    return Response(
        body(str(error), error.status), error.status, error.headers, media_type="application/json"
    )


async def _unroutable(request: Request, error: Exception) -> Response:
    """An address or a method that there is not, in the shape of every other refusal."""
    assert isinstance(error, HTTPException)  # for the types
    methods = (error.headers or {}).get("Allow", "another method").split(", ")
    allowed = ", ".join(sorted(methods))
    sentences = {
        404: "There is no such address; the page /docs lists them all.",
        405: f"This address does not take {request.method}; it takes {allowed}.",
    }
    sentence = sentences.get(error.status_code, error.detail)
    _count(request, error.status_code)
    body = refusals.body_at(request.url.path)
    return Response(
        body(sentence, error.status_code), error.status_code, error.headers, media_type="application/json"
    )


async def _unreadable(request: Request, error: Exception) -> Response:
    """Which part of the address is wrong and why; what was sent is not repeated."""
    assert isinstance(error, RequestValidationError)  # for the types
    mistakes = [each | {"loc": each["loc"][1:]} for each in error.errors()]
    sentence = json_body.sentence(mistakes, request.path_params)
    _count(request, 422)
    return Response(refusals.problem(sentence, 422), 422, media_type="application/json")


def _count(request: Request, status: int) -> None:
    service: Service = request.app.state.service
    service.metrics.refusals.labels(status).inc()


def _lifespan(service: Service) -> Callable[[FastAPI], AbstractAsyncContextManager[Mapping[str, Service]]]:
    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[Mapping[str, Service]]:
        await asyncio.to_thread(service.check_keys)
        await asyncio.to_thread(service.follow)
        rounds = [
            _Round(service.check_keys, POLL_SECONDS, POLL_SECONDS),
            _Round(service.follow, POLL_SECONDS, POLL_SECONDS),
            _Round(service.follow_language, POLL_SECONDS),
            _Round(service.check_log, POLL_SECONDS, POLL_SECONDS),
            _Round(service.check_files, FILES_SECONDS, FILES_SECONDS),
            _Round(service.check_certificate, FILES_SECONDS, FILES_SECONDS),
            _Round(service.check_language, FILES_SECONDS, FILES_SECONDS),
            _Round(service.flush, FLUSH_SECONDS, FLUSH_SECONDS),
            _Round(service.follow_lake, LAKE_SECONDS),
            _Round(service.flush_orphaned_logs, math.inf),
        ]
        # Each has a thread: while a lake hangs, keys that were revoked are refused all the same.
        threads = ThreadPoolExecutor(len(rounds), "background")
        tasks = [asyncio.create_task(_repeat(each, threads)) for each in rounds]
        # Arrow imports a library for its first table: before the first answer waits for it, and frozen with the rest
        logged_answers.table_of("", [])
        gc.collect()
        gc.freeze()  # what is loaded now lives as long as the process: no collection need look at it
        yield {"service": service}
        gc.unfreeze()  # else what is frozen is reported as leaked when the interpreter ends
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.to_thread(service.flush)
        await asyncio.to_thread(threads.shutdown)
        await asyncio.to_thread(service.close)

    return lifespan


class _Round(NamedTuple):
    """Work that is done in the background."""

    work: Callable[[], None]
    seconds: float
    """From one round to the next."""
    first: float = 0.0
    """Seconds until the first."""


async def _repeat(each: _Round, threads: Executor) -> None:
    await asyncio.sleep(each.first)
    while True:
        await asyncio.get_running_loop().run_in_executor(threads, each.work)
        await asyncio.sleep(each.seconds)
