"""``mediscale serve``: checks that there is something to serve, takes the port, and starts the workers."""

import errno
import logging
import os
import socket
import tempfile
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from mediscale.core.errors import BusyError, NotFoundError, UsageError
from mediscale.core.settings import Settings
from mediscale.storage import lake, registry
from mediscale.storage.registry import Alias

if TYPE_CHECKING:
    from fastapi import FastAPI

log = logging.getLogger("mediscale.serving")


def serve(
    settings: Settings,
    dataset: str | None,
    alias: Alias,
    host: str = "127.0.0.1",
    port: int = 8000,
    workers: int = 1,
) -> None:
    """Answers until it is stopped. Port 0 takes any free port and says which.

    Raises:
        NotFoundError: no model of the dataset is under the alias.
        UsageError: several datasets have models and none was named, or the host or port can't be used.
        BusyError: the port is in use.
    """
    _say_what_happens()
    name = dataset or _only_dataset(settings, alias)
    _check_models(settings, name, alias)
    listener = _listen(host, port)
    log.info("MediScale listens on http://%s:%d (try /docs)", host, listener.getsockname()[1])
    # One thread per process: a row is microseconds of work, and OpenMP's pools only take each other's cores.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with listener, suppress(KeyboardInterrupt):
        _run(partial(application, settings, name, alias), listener, workers)


def application(settings: Settings, dataset: str, alias: Alias) -> "FastAPI":
    """The application of one worker process."""
    from serving.app import create_app
    from serving.models import Predictors
    from serving.prediction_log import PredictionLog

    _say_what_happens()
    return create_app(settings, Predictors(settings, dataset, alias), PredictionLog(settings, dataset))


def _run(factory: "partial[FastAPI]", listener: socket.socket, workers: int) -> None:
    import uvicorn
    from uvicorn.supervisors import Multiprocess

    config = uvicorn.Config(
        factory,
        factory=True,
        loop="uvloop",
        http="httptools",
        ws="none",
        lifespan="on",
        workers=workers,
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=10,
    )
    if workers == 1:
        uvicorn.Server(config).run(sockets=[listener])
        return
    with tempfile.TemporaryDirectory() as shared:
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = shared
        Multiprocess(config, sockets=[listener]).run()


def _say_what_happens() -> None:
    """Our own lines on standard error, and only warnings of the libraries: no request is logged."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    log.setLevel(logging.INFO)


def _only_dataset(settings: Settings, alias: Alias) -> str:
    datasets = [name for name in lake.datasets(settings) if _models(settings, name, alias)]
    if not datasets:
        raise NotFoundError(_nothing(f"No dataset in {settings.lake}", alias, _others(settings, alias)))
    if len(datasets) > 1:
        raise UsageError(
            f"Several datasets have a model as {alias}: {', '.join(datasets)}; name one with --dataset."
        )
    return datasets[0]


def _check_models(settings: Settings, dataset: str, alias: Alias) -> None:
    if not _models(settings, dataset, alias):
        others = [dataset] if _models(settings, dataset, _other(alias)) else []
        raise NotFoundError(_nothing(f"Dataset {dataset}", alias, others))


def _models(settings: Settings, dataset: str, alias: Alias) -> set[str]:
    return {move.model for move in registry.history(settings, dataset) if move.alias == alias}


def _others(settings: Settings, alias: Alias) -> list[str]:
    return [name for name in lake.datasets(settings) if _models(settings, name, _other(alias))]


def _other(alias: Alias) -> Alias:
    return "staging" if alias == "production" else "production"


def _nothing(where: str, alias: Alias, others: list[str]) -> str:
    remedy = (
        f"{', '.join(others)} has one as {_other(alias)}: `mediscale serve --alias {_other(alias)}`"
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
