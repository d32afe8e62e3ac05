"""The components: thin, typed, one for every stage. What they do is in ``component``, inside the image."""

from typing import Any, NamedTuple

from kfp import dsl, kubernetes
from kfp.dsl import HTML, Artifact, Metrics, Output

from mediscale.core.settings import Settings
from mediscale.core.stage import Stage

IMAGE = "mediscale-platform:0.1.0-python3.11"
"""The platform's environment in an image; a cluster's registry is put before it by its own image policy."""

INPUTS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh")
"""What ``stage`` calls the results that it is given."""


@dsl.component(base_image=IMAGE, packages_to_install=[], install_kfp_package=False)
def prepare_source(
    pipeline: str,
    source: str,
    path: str,
    dataset: str,
    size: str,
    home: str,
    config: dict[str, Any],
    run_id: str,
    job: str,
) -> str:
    """A hospital's own files, a synthetic hospital of that size, or a set of questions."""
    from kubeflow_pipelines import component

    which = {"pipeline": pipeline, "size": size, "source": source, "path": path, "dataset": dataset}
    return component.prepare_source(home, config, run_id, job, **which)


@dsl.component(base_image=IMAGE, packages_to_install=[], install_kfp_package=False)
def stage(
    name: str,
    task: str,
    home: str,
    config: dict[str, Any],
    run_id: str,
    job: str,
    metrics: Output[Metrics],
    report: Output[HTML],
    record: Output[Artifact],
    first: str = "",
    second: str = "",
    third: str = "",
    fourth: str = "",
    fifth: str = "",
    sixth: str = "",
    seventh: str = "",
) -> str:
    """Runs one stage on the results of up to seven others; its result, as JSON, holds references only."""
    from kubeflow_pipelines import component

    upstream = [first, second, third, fourth, fifth, sixth, seventh]
    with component.quick_exit():
        done = component.run(name, task, home, config, run_id, job, upstream)
        metrics.metadata.update(done.metrics)
        record.metadata.update(done.tables)
        done.write(report=report.path, record=record.path)
    return done.result


HOME = "/mediscale"
"""Where a cluster's steps find the volume that they share."""
TRUST = f"{HOME}/trust"
"""On that volume too: the image's own is gone with a step's pod, and with it who was erased and the key that signed."""


class Cluster(NamedTuple):
    """What a pipeline names of the cluster that it is to run on; see the settings ``kfp_…``."""

    claim: str = ""
    secret: str = ""
    image: str = ""
    accelerator: str = ""


NONE = Cluster()
"""This machine: processes that share its disk and its environment."""


def place(task: dsl.PipelineTask, stage: Stage, cluster: Cluster) -> dsl.PipelineTask:
    """Asks for the resources; switches Kubeflow's cache off, because the stages' own keys decide; retries twice."""
    resources = stage.resources
    task.set_cpu_request(resources.cpu).set_cpu_limit(resources.cpu)
    task.set_memory_request(resources.memory).set_memory_limit(resources.memory)
    if resources.accelerator and cluster.accelerator:
        task.set_accelerator_type(cluster.accelerator).set_accelerator_limit(1)
    _on_cluster(task, stage, cluster)
    return task.set_caching_options(False).set_retry(2, backoff_duration="60s", backoff_factor=2)


def _on_cluster(task: dsl.PipelineTask, stage: Stage, cluster: Cluster) -> None:
    if cluster.image:
        task.set_container_image(cluster.image)
    if cluster.claim:
        kubernetes.mount_pvc(task, cluster.claim, HOME)
        task.set_env_variable("MEDISCALE_TRUST", TRUST)
        kubernetes.set_timeout(task, stage.timeout_seconds)
    if cluster.secret:
        for name in _OF_EVERY_STEP:
            kubernetes.use_secret_as_env(task, cluster.secret, {name: name}, optional=True)


_OF_EVERY_STEP = [
    f"MEDISCALE_{name.upper()}"
    for name in Settings.model_fields
    if name not in ("home", "trust") and not name.startswith("kfp_")
]
