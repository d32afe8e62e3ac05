"""``mediscale serve``: checks that there is something to serve, takes the port, and starts the workers."""

import errno
import logging
import os
import socket
import sys
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

from mediscale.core import caller
from mediscale.core.errors import BusyError, UsageError
from mediscale.core.settings import Settings
from mediscale.storage import private_files
from mediscale.storage.history_entries import Alias
from serving import bounded_http, served_datasets, worker_processes
from serving.security.listening import Listening
from serving.served_datasets import Datasets

log = logging.getLogger("mediscale.serving")


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
    worker_processes.log_to_standard_error()
    private_files.only_owner()
    for folder in private_files.readable_by_others(settings):
        log.warning(
            "Other accounts of this machine can enter %s, which holds patient data; chmod 700 it.", folder
        )
    of = served_datasets.choose(settings, datasets, alias)
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
            factory = partial(worker_processes.only_worker, settings, datasets, alias, listening, listener)
        else:
            factory = partial(worker_processes.one_of_workers, settings, datasets, alias, listening)
        worker_processes.run(factory, listening, listener, workers)


def _listen(host: str, port: int) -> socket.socket:
    try:
        listener = socket.create_server(
            (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET
        )
        if sys.platform == "linux":  # its connections have it, too
            listener.setsockopt(
                socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, bounded_http.UNREAD_SECONDS * 1000
            )
        return listener
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise BusyError(
                f"Port {port} of {host} is in use; stop what uses it, or choose another with --port."
            ) from None
        raise UsageError(f"Port {port} of {host} can't be used: {error.strerror}.") from None
    except OverflowError:
        raise UsageError(f"Port {port} does not exist; choose one from 1 to 65535, or 0 for any.") from None
