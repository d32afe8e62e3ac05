"""Ray for one fit: the cluster of the settings, a local one that is stopped afterwards, or no cluster at all."""

import logging
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mediscale.core import network
from mediscale.core.errors import BusyError, UsageError
from mediscale.core.settings import Settings
from mediscale.storage import lake

_OBJECT_STORE = 80 * 2**20
"""Bytes: only a model of a few hundred kB passes through it, and Ray would reserve a third of the memory."""
_ENVIRONMENT = {
    "RAY_TRAIN_V2_ENABLED": "1",
    "RAY_USAGE_STATS_ENABLED": "0",  # a hospital's machine reports to nobody
    "RAY_TRAIN_METRICS_ENABLED": "0",
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "600",  # importing takes a minute on a crowded machine
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # a home may be named relative to where the command runs
    "RAY_AIR_NEW_OUTPUT": "0",  # Ray Tune would draw its tables, however quiet it is told to be
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",  # an actor, that is a process, of its own
    "RAY_worker_niceness": "0",  # Ray's 15 gives its workers 3 % of a core for which somebody else competes
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",  # by default a fit ends up to 2 s after its last round
}
"""Read when Ray is imported, here and in its workers."""
_QUIET = {"log_to_driver": False, "logging_level": "ERROR"}
_TALKS = (
    "ray.train.v2.api.config",
    "ray.train.v2._internal.execution.train_fn_utils",
    "ray.train.v2.torch.train_loop_utils",
)
"""Ray Train's local mode announces itself, each move to a device and each epoch."""
_STARTS = 3
_RESTARTS = 2
"""Times that a fit whose worker died goes on with new ones, from its last checkpoint where it keeps some."""


@dataclass(frozen=True)
class Session:
    """What a trainer of Ray Train is told about where it runs."""

    name: str
    storage: str
    workers: int
    """0 is Ray Train's local mode: the training function runs in this process."""

    def configuration(self, gpus: bool = False) -> dict[str, Any]:
        """``scaling_config`` and ``run_config`` of a trainer."""
        from ray.train import FailureConfig, RunConfig, ScalingConfig

        failures = FailureConfig(max_failures=_RESTARTS if self.workers else 0)
        return {
            "scaling_config": ScalingConfig(num_workers=self.workers, use_gpu=gpus),
            "run_config": RunConfig(name=self.name, storage_path=self.storage, failure_config=failures),
        }


@contextmanager
def session(settings: Settings, workers: int, key: str) -> Iterator[Session]:
    """Ray as long as the fit of this key takes.

    One worker without a cluster is Ray Train's local mode: the same function in this process, which saves starting a
    cluster (a dozen processes, about a minute of CPU) for a fit of seconds. More workers, or a cluster's address in
    the settings, get a cluster.

    Raises:
        UsageError: the Ray cluster of the settings can't be reached.
        BusyError: a local one does not start.
    """
    clustered = workers > 1 or bool(settings.ray_address)
    with cluster(settings, workers) if clustered else _alone(), storage(settings, key) as uri:
        yield Session(key, uri, workers if clustered else 0)


def fit_torch(
    settings: Settings, workers: int, key: str, loop: Callable[[dict[str, Any]], Any], config: dict[str, Any]
) -> Any:
    """What a training function returns under Ray Train's TorchTrainer.

    Raises:
        UsageError: the Ray cluster of the settings can't be reached.
    """
    with session(settings, workers, key) as this:
        import torch
        from ray.train.torch import TorchTrainer

        gpus = torch.cuda.is_available()
        trainer = TorchTrainer(loop, train_loop_config=config, **this.configuration(gpus))
        return trainer.fit().return_value


@contextmanager
def storage(settings: Settings, key: str) -> Iterator[str]:
    """The folder of Ray's own records of a run, which driver and workers both reach; it is deleted afterwards."""
    root = settings.artifact_root if settings.ray_address else str(settings.home.absolute())
    uri = f"{root.rstrip('/')}/ray"
    filesystem, path = lake.filesystem(uri)
    filesystem.create_dir(f"{path}/{key}", recursive=True)
    try:
        yield uri
    finally:
        filesystem.delete_dir(f"{path}/{key}")


@contextmanager
def _alone() -> Iterator[None]:
    os.environ.update(_ENVIRONMENT)
    for logger_name in _TALKS:
        logging.getLogger(logger_name).setLevel(logging.WARNING)
    yield


@contextmanager
def cluster(settings: Settings, workers: int) -> Iterator[None]:
    """The cluster of the settings, or one already joined; else a local one on loopback, stopped afterwards.

    Raises:
        UsageError: the Ray cluster of the settings can't be reached.
        BusyError: a local one does not start.
    """
    os.environ.update(_ENVIRONMENT)
    import ray

    if ray.is_initialized():
        yield
        return
    with _node(settings.ray_address) if settings.ray_address else nullcontext():
        _join(ray, settings.ray_address) if settings.ray_address else _start(ray, workers)
        try:
            yield
        finally:
            ray.shutdown()


def _join(ray: Any, address: str) -> None:
    """Connects to a cluster. It started the workers, so the variables that Ray reads are sent to them.

    Raises:
        UsageError: the cluster can't be reached.
    """
    try:
        ray.init(address=address, runtime_env={"env_vars": _ENVIRONMENT}, **_QUIET)
    except ConnectionError as error:
        raise _refusal(address, str(error.__cause__)) from error


def _refusal(address: str, reason: str) -> UsageError:
    if "AuthToken" in reason or "authentication" in reason.lower():
        return UsageError(
            f"The Ray cluster at {address} asks for its token; set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN or "
            "RAY_AUTH_TOKEN_PATH to what its nodes have."
        )
    return UsageError(
        f"The Ray cluster at {address} does not answer; start it, or unset MEDISCALE_RAY_ADDRESS to train on this "
        "machine alone."
    )


@contextmanager
def _node(address: str) -> Iterator[None]:
    """This machine as a node of the cluster, with no cores for others: a driver talks to the cluster by the node on its
    own machine, and a pod or a container is a machine. Where a node of the cluster runs already, that one is used.

    Raises:
        UsageError: the cluster can't be reached, or asks for its token.
    """
    if address == "auto":
        yield
        return
    if not network.is_listening(address):  # Ray tries for a minute
        raise _refusal(address, "")
    from ray._private import services

    host, _, port = address.rpartition(":")
    head = f"{socket.gethostbyname(host)}:{port}"
    if head in services.find_gcs_addresses():
        yield
        return
    ray = str(Path(sys.executable).with_name("ray"))
    options = [f"--address={head}", "--num-cpus=0", f"--object-store-memory={_OBJECT_STORE}"]
    with tempfile.TemporaryFile() as log:
        node = subprocess.Popen([ray, "start", "--block", *options], stdout=log, stderr=log)
        try:
            while head not in services.find_gcs_addresses():
                if node.poll() is not None:
                    log.seek(0)
                    raise _refusal(address, log.read().decode(errors="replace"))
                time.sleep(0.2)
            yield
        finally:
            node.terminate()
            node.wait()


def _start(ray: Any, workers: int) -> None:
    """Ray gives its own processes a fixed 30 seconds; on a crowded machine the second try finds them in memory."""
    from ray._private import services

    # or it takes this machine's address, and listens to everybody
    services.resolve_ip_for_localhost = lambda host: host
    for attempt in range(_STARTS):
        try:
            ray.init(
                num_cpus=workers + 1,  # one more for the trainer's controller, or the workers never start
                include_dashboard=False,
                object_store_memory=_OBJECT_STORE,
                _node_ip_address="127.0.0.1",
                **_QUIET,
            )
        except Exception as error:  # Ray raises the bare class
            ray.shutdown()
            if "timed out during startup" not in str(error):
                raise
            if attempt + 1 == _STARTS:
                raise BusyError(
                    f"Ray could not start {_STARTS} times in a row: this machine is too busy; try again later, or "
                    "train with one worker, which needs no cluster."
                ) from error
        else:
            return
