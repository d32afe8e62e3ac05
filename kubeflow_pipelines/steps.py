"""The components: thin, typed, one for every stage. What they do is in ``component``, inside the image."""

from typing import Any, NamedTuple

from kfp import dsl, kubernetes
from kfp.dsl import HTML, Artifact, Metrics, Output

from mediscale.core.settings import Settings

IMAGE = "mediscale-platform:0.1.0-python3.11"
"""The platform's environment in an image; a cluster's registry is put before it by its own image policy."""

INPUTS = ("first", "second", "third", "fourth", "fifth", "sixth")
"""What ``stage`` calls the results that it is given."""


@dsl.component(base_image=IMAGE, packages_to_install=[], install_kfp_package=False)
def extract(source: str, path: str, dataset: str, size: str, home: str, config: dict[str, Any]) -> str:
    """A hospital's own files, or a synthetic hospital of that size."""
    from kubeflow_pipelines import component

    return component.extract(home, config, size=size, source=source, path=path, dataset=dataset)


@dsl.component(base_image=IMAGE, packages_to_install=[], install_kfp_package=False)
def stage(
    name: str,
    task: str,
    home: str,
    config: dict[str, Any],
    metrics: Output[Metrics],
    report: Output[HTML],
    record: Output[Artifact],
    first: str = "",
    second: str = "",
    third: str = "",
    fourth: str = "",
    fifth: str = "",
    sixth: str = "",
) -> str:
    """Runs one stage on the results of up to six others; its result, as JSON, holds references only."""
    from kubeflow_pipelines import component

    done = component.run(name, task, home, config, [first, second, third, fourth, fifth, sixth])
    metrics.metadata.update(done.metrics)
    record.metadata.update(done.tables)
    done.write(report=report.path, record=record.path)
    return done.result


HOME = "/mediscale"
"""Where a cluster's steps find the volume that they share."""
LONGEST_SECONDS = 4 * 3600


class Cluster(NamedTuple):
    """What a pipeline names of the cluster that it is to run on; see the settings ``kfp_…``."""

    claim: str = ""
    secret: str = ""
    image: str = ""
    accelerator: str = ""


NONE = Cluster()
"""This machine: processes that share its disk and its environment."""


class Resources(NamedTuple):
    """What a step asks of the cluster."""

    cpu: str
    memory: str
    accelerator: str = ""
    """Resource name of the one that it asks for, such as ``nvidia.com/gpu``; empty: none."""


SPARK = Resources(cpu="2", memory="6G")
SMALL = Resources(cpu="1", memory="3G")
TRAINING = Resources(cpu="4", memory="8G")
"""Trees: XGBoost's threads on four cores beat a GPU's start at the sizes of one hospital."""
NOTES = Resources(cpu="4", memory="12G")
"""The step that gets the cluster's accelerator where MEDISCALE_KFP_ACCELERATOR names one."""

RESOURCES = {
    "bronze": SPARK,
    "quality": SPARK,
    "silver": SPARK,
    "labels": SPARK,
    "gold": SPARK,
    "deidentify": SPARK,
    "note_tokens": SPARK,
    "training_set": SPARK,
    "risk_model": TRAINING,
    "note_model": NOTES,
    "combination": SPARK,
    "evaluate": SPARK,
}


def wanted_by(stage: str, accelerator: str = "") -> Resources:
    """What a stage's step asks for, on a cluster whose accelerator is this one."""
    wanted = RESOURCES.get(stage, SMALL)
    return wanted._replace(accelerator=accelerator) if wanted is NOTES else wanted


def place(task: dsl.PipelineTask, wanted: Resources, cluster: Cluster) -> dsl.PipelineTask:
    """Asks for the resources; switches Kubeflow's cache off, because the stages' own keys decide; retries twice."""
    task.set_cpu_request(wanted.cpu).set_cpu_limit(wanted.cpu)
    task.set_memory_request(wanted.memory).set_memory_limit(wanted.memory)
    if wanted.accelerator:
        task.set_accelerator_type(wanted.accelerator).set_accelerator_limit(1)
    _on_cluster(task, cluster)
    return task.set_caching_options(False).set_retry(2, backoff_duration="60s", backoff_factor=2)


def _on_cluster(task: dsl.PipelineTask, cluster: Cluster) -> None:
    if cluster.image:
        task.set_container_image(cluster.image)
    if cluster.claim:
        kubernetes.mount_pvc(task, cluster.claim, HOME)
        kubernetes.set_timeout(task, LONGEST_SECONDS)
    if cluster.secret:
        for name in _OF_EVERY_STEP:
            kubernetes.use_secret_as_env(task, cluster.secret, {name: name}, optional=True)


_OF_EVERY_STEP = [
    f"MEDISCALE_{name.upper()}"
    for name in Settings.model_fields
    if name != "home" and not name.startswith("kfp_")
]
