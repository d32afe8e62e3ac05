"""``mediscale serve``: checks that there is something to serve, takes the port, and starts the workers."""

import asyncio
import ctypes
import errno
import logging
import os
import signal
import socket
import struct
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from mediscale.core import caller, logs
from mediscale.core.errors import BusyError, NotFoundError, UsageError
from mediscale.core.settings import Settings
from mediscale.inference import language_spec
from mediscale.storage import lake, private_files, registry
from mediscale.storage.history_entries import Alias
from serving.security.listening import Listening

if TYPE_CHECKING:
    from fastapi import FastAPI

    from serving.service import Service

DRAIN_SECONDS = 3.0
"""From SIGTERM to the closing of the listener: within half of it a load balancer hears that the worker is not ready."""
_SO_ATTACH_FILTER, _RETURN = 26, 6
"""Of Linux's socket(7), and of its packet filters."""

SWITCH_SECONDS = 0.0001
"""How long a thread that reads a patient's record may keep another from going on (Python's default is 0.005). An
answer waits for it several times: the event loop and the log's thread ask for Python again after each read, write and
sync."""

log = logging.getLogger("mediscale.serving")


class Datasets(NamedTuple):
    """Whose models a server answers with; the same where a dataset has both kinds, or only one kind is served."""

    risk: str
    language: str


def serve(
    settings: Settings,
    datasets: Sequence[str],
    alias: Alias,
    host: str = "127.0.0.1",
    port: int = 8000,
    workers: int = 1,
    certificate: Path | None = None,
    private_key: Path | None = None,
    behind_proxy: bool = False,
) -> None:
    """Answers until it is stopped. Port 0 takes any free port and says which.

    ``datasets`` names those whose models are served, at most one with risk models and one with a language model; none:
    those that are the only ones of their kind.

    With ``certificate`` and ``private_key`` it speaks TLS; ``behind_proxy`` says that a proxy in front of it does.

    Raises:
        NotFoundError: no model of the dataset is under the alias.
        UsageError: several datasets have models of one kind and none was named, the host or port can't be used, or
            whoever reaches it there could not prove who they are, or not in secret.
        BusyError: the port is in use.
    """
    _say_what_happens()
    private_files.only_owner()
    for folder in private_files.readable_by_others(settings):
        log.warning(
            "Other accounts of this machine can enter %s, which holds patient data; chmod 700 it.", folder
        )
    of = _datasets(settings, datasets, alias)
    listener = _listen(host, port)
    listening = Listening(listener.getsockname()[0], certificate, private_key, behind_proxy)
    with listener:
        listening.check(settings)
        _serve_at(settings, of, alias, listening, listener, host, workers)


def _serve_at(
    settings: Settings,
    datasets: Datasets,
    alias: Alias,
    listening: Listening,
    listener: socket.socket,
    host: str,
    workers: int,
) -> None:
    scheme, port = "https" if listening.certificate else "http", listener.getsockname()[1]
    log.info(
        "MediScale listens on %s://%s:%d (try /docs)", scheme, f"[{host}]" if ":" in host else host, port
    )
    if listening.is_open(settings):
        log.info(
            "Every account of this machine can ask it, in the name of %s; the first `mediscale keys create` ends that.",
            caller.account(),
        )
    # One thread per process: a row is microseconds of work, and pools of threads only take each other's cores.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    with suppress(KeyboardInterrupt):
        if workers == 1:
            factory = partial(only_worker, settings, datasets, alias, listening, listener)
        else:
            factory = partial(one_of_workers, settings, datasets, alias, listening)
        _run(factory, listening, listener, workers)


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

    _say_what_happens()
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


def _run(factory: "partial[FastAPI]", listening: Listening, listener: socket.socket, workers: int) -> None:
    import uvicorn
    from uvicorn.supervisors import Multiprocess

    from serving.bounded_http import BoundedHttp

    class Workers(Multiprocess):
        def keep_subprocess_alive(self) -> None:
            """Says so where a worker is started anew: uvicorn tells of it in a line that is not shown."""
            before = [*self.processes]
            super().keep_subprocess_alive()
            for old, new in zip(before, self.processes, strict=True):
                if new is not old:
                    log.warning(
                        "Worker process %d was killed or hung, and process %d takes its place.",
                        old.pid,
                        new.pid,
                    )

        def terminate_all(self) -> None:
            """The workers drain; a listener that stayed open here would take connections that nobody accepts."""
            super().terminate_all()
            time.sleep(DRAIN_SECONDS / 2)
            _keep_out(listener)
            listener.close()

    config = uvicorn.Config(
        factory,
        factory=True,
        loop="uvloop",
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
    )
    if workers == 1:
        uvicorn.Server(config).run(sockets=[listener])
        return
    with tempfile.TemporaryDirectory() as shared:
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = shared
        Workers(config, sockets=[listener]).run()


def _say_what_happens() -> None:
    """Our own lines on standard error, and only warnings of the libraries: no request is logged."""
    logging.basicConfig(level=logging.WARNING, handlers=[logs.to_standard_error()])
    log.setLevel(logging.INFO)


def _datasets(settings: Settings, names: Sequence[str], alias: Alias) -> Datasets:
    """Whose risk models and whose language model are served: of the named datasets, or of all in the lake."""
    for name in names:
        if not _models(settings, name, alias):
            others = [name] if _models(settings, name, _other_alias(alias)) else []
            raise NotFoundError(_nothing(f"Dataset {name}", alias, others))
    models = {name: _models(settings, name, alias) for name in names or lake.datasets(settings)}
    risk = [name for name, tasks in models.items() if tasks - {language_spec.TASK}]
    language = [name for name, tasks in models.items() if language_spec.TASK in tasks]
    if not risk and not language:
        raise NotFoundError(
            _nothing(f"The lake {settings.lake}", alias, _other_alias_datasets(settings, alias))
        )
    for of_one_kind in (risk, language):
        if len(of_one_kind) > 1:
            raise UsageError(
                f"Several datasets have a model as {alias}: {', '.join(of_one_kind)}; name one with --dataset."
            )
    return Datasets(*(risk or language), *(language or risk))


def _models(settings: Settings, dataset: str, alias: Alias) -> set[str]:
    """The tasks that have a version under the alias."""
    return {move.task for move in registry.attested(settings, dataset) if move.alias == alias}


def _other_alias_datasets(settings: Settings, alias: Alias) -> list[str]:
    return [name for name in lake.datasets(settings) if _models(settings, name, _other_alias(alias))]


def _other_alias(alias: Alias) -> Alias:
    return "staging" if alias == "production" else "production"


def _nothing(where: str, alias: Alias, others: list[str]) -> str:
    remedy = (
        f"{', '.join(others)} has one as {_other_alias(alias)}: `mediscale serve --alias {_other_alias(alias)}`"
        if others
        else "train one with `mediscale run`"
    )
    return f"{where} has no model as {alias}; {remedy}."


def _listen(host: str, port: int) -> socket.socket:
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise BusyError(
                f"Port {port} of {host} is in use; stop what uses it, or choose another with --port."
            ) from None
        raise UsageError(f"Port {port} of {host} can't be used: {error.strerror}.") from None
    except OverflowError:
        raise UsageError(f"Port {port} does not exist; choose one from 1 to 65535, or 0 for any.") from None
