"""A trained model as MLflow's users expect to find it, through a client: no global run, no global address.

The model's folder is written here first and then handed to MLflow whole, so that our files lie beside MLflow's own.
``log_model`` would put them into a subfolder, and needs MLflow's global state.
"""

import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mediscale.core import privacy
from mediscale.core.refs import ModelRef, TableRef
from mediscale.core.settings import Settings
from mediscale.inference import model_files
from mediscale.storage import registry

if TYPE_CHECKING:
    import pyarrow as pa
    from mlflow.tracking import MlflowClient

DIGEST_TAG = "mediscale.model_digest"
URI_TAG = "mediscale.model_uri"
"""The folder as ``registry.relative`` gives it; MLflow's own source is absolute and outdated once a home was moved."""
_BATCH = 1000
"""MLflow's limit of metrics in one call."""


@dataclass(frozen=True)
class Data:
    """A table that a run read, and what for: ``training``, ``validation``."""

    ref: TableRef
    context: str
    part: str = ""
    digest: str = ""
    """Of its rows; by default the table's version says enough."""


@dataclass(frozen=True)
class Training:
    """What a stage leaves in MLflow: a run with its parameters, curves and figures, and a model with its files."""

    name: str
    """Registered model's."""
    key: str
    stage: str
    task: str
    kind: str
    """Name of the logged model: ``risk``, ``notes`` or ``together``."""
    params: Mapping[str, Any]
    """Of the stage; ``dataset`` names the experiment, in which all runs of a dataset lie side by side."""
    curves: Mapping[str, Sequence[float]]
    """Metric by step."""
    metrics: Mapping[str, float]
    counts: Mapping[str, int]
    """Of patients or of what is theirs: small ones are suppressed."""
    data: Sequence[Data]
    save: Callable[[Path], None]
    """Writes the model's folder. Files that answer may not depend on when or where: equal models have equal digests."""
    artifacts: "Callable[[MlflowClient, str], None]" = lambda _mlflow, _run_id: None
    """Logs what else belongs to the run, by its id."""
    margins: "pa.Table | None" = None
    """Rows of NOTE_MARGINS for the lake. Of patients, so never in MLflow."""


def find(settings: Settings, dataset: str, name: str, key: str) -> ModelRef | None:
    """The version that the call of this key registered. A model that it logged, and died before registering, is
    registered now; a run that it died before ending is ended, and what it left half-logged is marked as failed."""
    mlflow = registry.client(settings)
    version = registry.version_of(mlflow, name, key)
    experiment = registry.experiment(settings, mlflow, dataset)
    mine = f"tags.`{registry.KEY_TAG}` = '{key}'"
    if version is not None:
        if mlflow.get_run(version.run_id).info.status == "RUNNING":
            for logged in _complete_models(mlflow, experiment, mine):
                _end(mlflow, name, key, logged, {})
        tags = version.tags
        return ModelRef(name=name, version=int(version.version), uri=tags[URI_TAG], digest=tags[DIGEST_TAG])
    for logged in _complete_models(mlflow, experiment, mine):
        return _register(settings, mlflow, name, key, logged)
    for run in mlflow.search_runs([experiment], filter_string=mine):
        if run.info.status == "RUNNING":
            mlflow.set_terminated(run.info.run_id, "KILLED")
    return None


def _complete_models(mlflow: "MlflowClient", experiment: str, mine: str) -> list[Any]:
    """The logged model of a call, where it was logged whole."""
    logged_models = mlflow.search_logged_models([experiment], filter_string=mine)
    return [logged for logged in logged_models if str(logged.status) == "READY"][:1]


def log(settings: Settings, training: Training) -> ModelRef:
    """Logs run and model, and registers the version.

    Order matters: the model counts as logged once it is READY, and is found by ``find`` from then on.
    """
    mlflow = registry.client(settings)
    experiment = registry.experiment(settings, mlflow, training.params["dataset"])
    tags = {
        registry.KEY_TAG: training.key,
        "mediscale.stage": training.stage,
        "mediscale.task": training.task,
    }
    run = mlflow.create_run(experiment, run_name=f"{training.stage} {training.key[:8]}", tags=tags).info
    _log_run(mlflow, run, training)
    logged = mlflow.create_logged_model(experiment, name=training.kind, source_run_id=run.run_id, tags=tags)
    with tempfile.TemporaryDirectory() as folder:
        training.save(Path(folder) / "model")
        mlflow.log_model_artifacts(logged.model_id, f"{folder}/model")
    _link(mlflow, run.run_id, logged.model_id)
    mlflow.finalize_logged_model(logged.model_id, "READY")
    return _register(settings, mlflow, training.name, training.key, mlflow.get_logged_model(logged.model_id))


def _log_run(mlflow: "MlflowClient", run: Any, training: Training) -> None:
    from mlflow.entities import Metric, Param

    params = [Param(name, _text(value)) for name, value in sorted(training.params.items())]
    at = run.start_time
    measured = [
        Metric(k, v, at, step) for k, values in training.curves.items() for step, v in enumerate(values)
    ]
    # a small count would follow from the other splits' and the cohort's
    counts = {} if any(map(privacy.is_small, training.counts.values())) else training.counts
    figures = {**training.metrics, **counts}
    measured += [Metric(k, v, at, 0) for k, v in sorted(figures.items())]
    for start in range(0, len(measured), _BATCH):
        batch = measured[start : start + _BATCH]
        mlflow.log_batch(run.run_id, metrics=batch, params=params if start == 0 else [])
    read = [registry.dataset_input(data.ref, data.context, data.part, data.digest) for data in training.data]
    mlflow.log_inputs(run.run_id, read)
    training.artifacts(mlflow, run.run_id)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)


def _link(mlflow: "MlflowClient", run_id: str, model_id: str) -> None:
    from mlflow.entities import LoggedModelOutput

    mlflow.log_outputs(run_id, [LoggedModelOutput(model_id, step=0)])


def _register(settings: Settings, mlflow: "MlflowClient", name: str, key: str, logged: Any) -> ModelRef:
    uri = registry.relative(settings, logged.artifact_location)
    digest = model_files.digest(registry.locate(settings, uri))
    version = _end(mlflow, name, key, logged, {URI_TAG: uri, DIGEST_TAG: digest})
    return ModelRef(name=name, version=version, uri=uri, digest=digest)


def _end(mlflow: "MlflowClient", name: str, key: str, logged: Any, tags: Mapping[str, str]) -> int:
    """Registers the version if it is not there yet, and ends its run."""
    version = registry.register(mlflow, name, logged, key, tags)
    mlflow.set_terminated(logged.source_run_id, "FINISHED")
    return version
