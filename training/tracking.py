"""A trained model as MLflow's users expect to find it, through a client: no global run, no global address.

The model's folder is written here first and then handed to MLflow whole, so that our files lie beside MLflow's own.
``log_model`` would put them into a subfolder, and needs MLflow's global state.
"""

import json
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mediscale import registry
from mediscale.manifest import canonical
from mediscale.predictor import MODEL_FILE, PREDICTOR_FILE, REFERENCE_FILE, PredictorSpec, Reference
from mediscale.refs import Frozen, ModelRef, TableRef
from mediscale.settings import Settings

if TYPE_CHECKING:
    import xgboost
    from matplotlib.figure import Figure
    from mlflow.tracking import MlflowClient

DIGEST_TAG = "mediscale.model_digest"
URI_TAG = "mediscale.model_uri"
"""The folder as ``registry.relative`` gives it; MLflow's own source is absolute and outdated once a home was moved."""
_BATCH = 1000
"""MLflow's limit of metrics in one call."""


@dataclass(frozen=True)
class Trained:
    """All that a run leaves."""

    booster: "xgboost.Booster"
    spec: PredictorSpec
    reference: Reference
    curves: Mapping[str, list[float]]
    metrics: Mapping[str, float]
    importance: "Figure"
    rows_digests: Mapping[str, str]
    """Split → SHA-256 of its rows."""


class Registered(Frozen):
    """Where a version is: its run, its folder (``registry.locate``) and the folder's digest."""

    model: ModelRef
    run_id: str
    model_uri: str
    model_digest: str


def find(settings: Settings, name: str, key: str) -> Registered | None:
    """The version that the call of this key registered. A model that it logged, and died before registering, is
    registered now; what it left half-logged is marked as failed."""
    mlflow = registry.client(settings)
    version = registry.version_of(mlflow, name, key)
    if version is not None:
        return Registered(
            model=ModelRef(name=name, version=int(version.version)),
            run_id=version.run_id,
            model_uri=version.tags[URI_TAG],
            model_digest=version.tags[DIGEST_TAG],
        )
    experiment = registry.experiment(settings, mlflow, name)
    mine = f"tags.`{registry.KEY_TAG}` = '{key}'"
    for logged in mlflow.search_logged_models([experiment], filter_string=mine):
        if str(logged.status) == "READY":
            return _register(settings, mlflow, name, key, logged)
    for run in mlflow.search_runs([experiment], filter_string=mine):
        if run.info.status == "RUNNING":
            mlflow.set_terminated(run.info.run_id, "KILLED")
    return None


def log(
    settings: Settings, training_set: TableRef, params: Mapping[str, Any], trained: Trained
) -> Registered:
    """Logs run and model, and registers the version.

    Order matters: the model counts as logged once it is READY, and is found by ``find`` from then on.
    """
    mlflow = registry.client(settings)
    name, key = trained.spec.name, trained.spec.key
    experiment = registry.experiment(settings, mlflow, name)
    tags = {registry.KEY_TAG: key, "mediscale.stage": "risk_model", "mediscale.task": trained.spec.task}
    run = mlflow.create_run(experiment, run_name=f"risk_model {key[:8]}", tags=tags)
    _log_run(mlflow, run.info, training_set, params, trained)
    logged = mlflow.create_logged_model(experiment, name="risk", source_run_id=run.info.run_id, tags=tags)
    with tempfile.TemporaryDirectory() as folder:
        save(trained, Path(folder) / "model")
        mlflow.log_model_artifacts(logged.model_id, f"{folder}/model")
    _link(mlflow, run.info.run_id, logged.model_id)
    mlflow.finalize_logged_model(logged.model_id, "READY")
    return _register(settings, mlflow, name, key, mlflow.get_logged_model(logged.model_id))


def _link(mlflow: "MlflowClient", run_id: str, model_id: str) -> None:
    from mlflow.entities import LoggedModelOutput

    mlflow.log_outputs(run_id, [LoggedModelOutput(model_id, step=0)])


def _register(settings: Settings, mlflow: "MlflowClient", name: str, key: str, logged: Any) -> Registered:
    uri = registry.relative(settings, logged.artifact_location)
    digest = registry.folder_digest(registry.locate(settings, uri))
    model = registry.register(mlflow, name, logged, key, {URI_TAG: uri, DIGEST_TAG: digest})
    mlflow.set_terminated(logged.source_run_id, "FINISHED")
    return Registered(model=model, run_id=logged.source_run_id, model_uri=uri, model_digest=digest)


def save(trained: Trained, folder: Path) -> None:
    """The model's folder: MLflow's XGBoost flavour in native UBJ, and our two files beside it.

    Nothing in it depends on when or where it was made: equal models have equal digests.
    """
    import xgboost
    from mlflow import xgboost as flavour
    from mlflow.models import Model

    # MLflow would write the clock and a random identity into MLmodel; both are with the run and the logged model
    card = Model(model_uuid=trained.spec.key, utc_time_created="see the run")
    flavour.save_model(
        trained.booster,
        str(folder),
        mlflow_model=card,
        signature=_signature(trained.spec),
        input_example=_example(trained.spec),
        pip_requirements=[f"xgboost=={xgboost.__version__}"],
        model_format=Path(MODEL_FILE).suffix[1:],
    )
    (folder / PREDICTOR_FILE).write_text(canonical(trained.spec))
    (folder / REFERENCE_FILE).write_text(canonical(trained.reference))


def _signature(spec: PredictorSpec) -> Any:
    from mlflow.models.signature import ModelSignature
    from mlflow.types.schema import ColSpec, Schema

    inputs = Schema([ColSpec("double", name, required=False) for name in spec.features])
    return ModelSignature(inputs=inputs, outputs=Schema([ColSpec("double", "uncalibrated_risk")]))


def _example(spec: PredictorSpec) -> Any:
    """The known answers' made-up rows: no patient's."""
    import pandas as pd

    rows = [answer.inputs for answer in spec.known_answers]
    return pd.DataFrame(rows, columns=list(spec.features), dtype="float64")


def _log_run(
    mlflow: "MlflowClient", info: Any, training_set: TableRef, params: Mapping[str, Any], trained: Trained
) -> None:
    from mlflow.entities import Param

    named = [Param(name, _text(value)) for name, value in sorted(params.items())]
    measured = list(_metrics(trained, info.start_time))
    for start in range(0, len(measured), _BATCH):
        batch = measured[start : start + _BATCH]
        mlflow.log_batch(info.run_id, metrics=batch, params=named if start == 0 else [])
    mlflow.log_inputs(info.run_id, _datasets(training_set, trained))
    mlflow.log_figure(info.run_id, trained.importance, "shap_importance.png")
    mlflow.log_dict(info.run_id, dict(trained.spec.importance), "shap_importance.json")


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)


def _metrics(trained: Trained, at: int) -> Iterator[Any]:
    from mlflow.entities import Metric

    for name, losses in trained.curves.items():
        yield from (Metric(name, loss, at, step) for step, loss in enumerate(losses))
    yield from (Metric(name, value, at, 0) for name, value in sorted(trained.metrics.items()))


def _datasets(training_set: TableRef, trained: Trained) -> list[Any]:
    from mlflow.entities import Dataset, DatasetInput, InputTag

    source = json.dumps(
        {
            "path": f"{training_set.dataset}/{training_set.table}",
            "delta_table_version": training_set.version,
            "delta_table_id": training_set.table_id,
        }
    )
    return [
        DatasetInput(
            Dataset(f"{training_set.table}/{split}", digest[:16], "delta_table", source),
            [InputTag("mlflow.data.context", {"train": "training", "tuning": "validation"}[split])],
        )
        for split, digest in trained.rows_digests.items()
    ]
