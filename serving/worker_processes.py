"""Worker processes of a server: the application of each, and how it stops without a request that nobody answers."""

import asyncio
import ctypes
import logging
import os
import signal
import socket
import struct
import sys
import tempfile
import time
from functools import partial
from typing import TYPE_CHECKING

import uvicorn
from prometheus_client.multiprocess import mark_process_dead
from uvicorn.supervisors import Multiprocess

from mediscale.core import logs
from mediscale.core.settings import Settings
from mediscale.storage.history_entries import Alias
from serving.bounded_http import BoundedHttp
from serving.security.listening import Listening
from serving.served_datasets import Datasets

if TYPE_CHECKING:  # a supervisor of workers needs none of it
    from fastapi import FastAPI

    from serving.service import Service

DRAIN_SECONDS = 3.0
"""From SIGTERM to the closing of the listener: within half of it a load balancer hears that the worker is not ready."""
_SO_ATTACH_FILTER, _RETURN = 26, 6
"""Of Linux's socket(7), and of its packet filters."""

HUNG_SECONDS = 15
"""After which a worker that answers its supervisor nothing is killed. One that starts on a busy machine may need more
than uvicorn's five."""
SWITCH_SECONDS = 0.0001
"""How long a thread that reads a patient's record may keep another from going on (Python's default is 0.005). An
answer waits for it several times: the event loop and the log's thread ask for Python again after each read, write and
sync."""

log = logging.getLogger("mediscale.serving")


def run(factory: "partial[FastAPI]", listening: Listening, listener: socket.socket, workers: int) -> None:
    """Answers until the process is told to end: in it where there is one worker, else in processes under it."""
    config = uvicorn.Config(
        factory,
        factory=True,
        loop="serving.bounded_http:Loop",
        http=BoundedHttp,
        ws="none",
        lifespan="on",
        workers=workers,
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        headers=listening.answer_headers,
        ssl_certfile=listening.certificate,
        ssl_keyfile=listening.private_key,
        timeout_graceful_shutdown=10,
        timeout_worker_healthcheck=HUNG_SECONDS,
    )
    if workers == 1:
        uvicorn.Server(config).run(sockets=[listener])
        return
    with tempfile.TemporaryDirectory() as shared:
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = shared
        _Workers(config, listener).run()


class _Workers(Multiprocess):
    """The processes of a server with several workers, and their supervisor."""

    def __init__(self, config: uvicorn.Config, listener: socket.socket) -> None:
        super().__init__(config, sockets=[listener])
        self._listener = listener

    def keep_subprocess_alive(self) -> None:
        """Says so where a worker is started anew: uvicorn tells of it in a line that is not shown. What the one that is
        gone last said of itself, such as that it was not ready, is no longer in /metrics."""
        before = [*self.processes]
        super().keep_subprocess_alive()
        for old, new in zip(before, self.processes, strict=True):
            if new is not old:
                log.warning(
                    "Worker process %d was killed or hung, and process %d takes its place.", old.pid, new.pid
                )
                mark_process_dead(old.pid)  # type: ignore[no-untyped-call]

    def terminate_all(self) -> None:
        """The workers drain; a listener that stayed open here would take connections that nobody accepts."""
        super().terminate_all()
        time.sleep(DRAIN_SECONDS / 2)
        _keep_out(self._listener)
        self._listener.close()


def only_worker(
    settings: Settings, datasets: Datasets, alias: Alias, listening: Listening, listener: socket.socket
) -> "FastAPI":
    """The application of a process that is its own supervisor."""
    app = application(settings, datasets, alias, listening)
    _drain_before_the_end(app.state.service, listener)
    return app


def one_of_workers(settings: Settings, datasets: Datasets, alias: Alias, listening: Listening) -> "FastAPI":
    """The application of a process under a supervisor, which has the listener."""
    app = application(settings, datasets, alias, listening)
    _drain_before_the_end(app.state.service, None)
    return app


def application(settings: Settings, datasets: Datasets, alias: Alias, listening: Listening) -> "FastAPI":
    """The application of one worker process."""
    from serving.app import create_app
    from serving.language.languages import Languages
    from serving.log.prediction_log import PredictionLog
    from serving.risk.models import Predictors

    log_to_standard_error()
    sys.setswitchinterval(SWITCH_SECONDS)
    predictors, log_of_worker = (
        Predictors(settings, datasets.risk, alias),
        PredictionLog(settings, datasets.risk),
    )
    log_of_language = (
        log_of_worker if datasets.language == datasets.risk else PredictionLog(settings, datasets.language)
    )
    language = Languages(settings, datasets.language, alias), log_of_language
    return create_app(settings, predictors, log_of_worker, listening=listening, language=language)


def log_to_standard_error() -> None:
    """Our own lines on standard error, and only warnings of the libraries: no request is logged."""
    logging.basicConfig(level=logging.WARNING, handlers=[logs.to_standard_error()])
    log.setLevel(logging.INFO)
    # A peer that sends no HTTP would fill the log; each such request is counted in /metrics.
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)


def _drain_before_the_end(service: "Service", listener: socket.socket | None) -> None:
    """On SIGTERM the worker first says that it is not ready and ends its connections with their next answers.

    Meanwhile it accepts new ones, so that who has not yet heard of it is answered. Then new ones are kept out, those
    that wait are accepted, and uvicorn closes the listener: what waits at a listener that is closed would be reset.
    """
    end = signal.getsignal(signal.SIGTERM)
    loop = asyncio.get_running_loop()

    def drain(number: int, _frame: object) -> None:
        if not service.draining and callable(end):
            service.draining = True
            if listener is not None:
                loop.call_soon_threadsafe(loop.call_later, DRAIN_SECONDS / 2, _keep_out, listener)
            loop.call_soon_threadsafe(loop.call_later, DRAIN_SECONDS, end, number, None)

    signal.signal(signal.SIGTERM, drain)


def _keep_out(listener: socket.socket) -> None:
    """Lets the kernel drop whatever asks for a connection, by a filter that takes nothing; the peer tries again."""
    if sys.platform == "linux":
        take_nothing = ctypes.create_string_buffer(struct.pack("HBBI", _RETURN, 0, 0, 0))
        program = struct.pack("HL", 1, ctypes.addressof(take_nothing))
        listener.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)
