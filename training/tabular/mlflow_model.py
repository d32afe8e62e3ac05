"""The risk model's folder and run: MLflow's flavours, the predictor's own files, SHAP importance."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mediscale.core.refs import TableRef
from mediscale.inference import mlflow_flavor
from mediscale.inference.model_files import MODEL_FILE, PREDICTOR_FILE
from mediscale.inference.model_spec import PredictorSpec
from mediscale.storage.calls import canonical
from training.tracking import Data, Training

if TYPE_CHECKING:
    import xgboost
    from matplotlib.figure import Figure
    from mlflow.tracking import MlflowClient


@dataclass(frozen=True)
class TrainedRun:
    """All that a run leaves."""

    booster: "xgboost.Booster"
    spec: PredictorSpec
    curves: Mapping[str, list[float]]
    metrics: Mapping[str, float]
    counts: Mapping[str, int]
    importance: "Figure"
    rows_digests: Mapping[str, str]
    """Split → SHA-256 of its rows."""


def training(trained: TrainedRun, training_set: TableRef, params: Mapping[str, Any], key: str) -> Training:
    """What ``tracking.log`` is to leave; ``key`` is the stage call's."""
    contexts = {"train": "training", "tuning": "validation"}
    return Training(
        name=trained.spec.name,
        key=key,
        stage="risk_model",
        task=trained.spec.task,
        kind="risk",
        params=params,
        curves=trained.curves,
        metrics=trained.metrics,
        counts=trained.counts,
        data=[
            Data(training_set, contexts[split], split, digest)
            for split, digest in trained.rows_digests.items()
        ],
        save=partial(save, trained, key),
        artifacts=partial(_importance, trained),
    )


def _importance(trained: TrainedRun, mlflow: "MlflowClient", run_id: str) -> None:
    mlflow.log_figure(run_id, trained.importance, "shap_importance.png")
    mlflow.log_dict(run_id, dict(trained.spec.importance), "shap_importance.json")


def save(trained: TrainedRun, key: str, folder: Path) -> None:
    """The model's folder: MLflow's XGBoost flavour in XGBoost's own JSON, our file beside it, and our flavour, which
    reads both and is what ``mlflow.pyfunc`` answers by.

    Which call made it stands in MLflow's card alone: the files that answer are the same for equal models.
    """
    from mlflow import pyfunc
    from mlflow import xgboost as flavour
    from mlflow.models import Model
    from mlflow.models.model import MLMODEL_FILE_NAME

    # MLflow would write the clock and a random identity into MLmodel; both are with the run and the logged model
    card = Model(model_uuid=key, utc_time_created="see the run")
    flavour.save_model(
        trained.booster,
        str(folder),
        mlflow_model=card,
        signature=_signature(trained.spec),
        input_example=_example(trained.spec),
        pip_requirements=[f"{package}=={version(package)}" for package in ("mediscale", "xgboost")],
        model_format=Path(MODEL_FILE).suffix[1:],
    )
    (folder / PREDICTOR_FILE).write_text(canonical(trained.spec))
    environments = card.flavors[pyfunc.FLAVOR_NAME][pyfunc.ENV]
    pyfunc.add_to_model(
        card,
        loader_module=mlflow_flavor.__name__,
        conda_env=environments["conda"],
        python_env=environments["virtualenv"],
    )
    card.save(str(folder / MLMODEL_FILE_NAME))


def _signature(spec: PredictorSpec) -> Any:
    from mlflow.models.signature import ModelSignature
    from mlflow.types.schema import ColSpec, Schema

    # a missing value is NaN or null; a column that is absent is refused, for its name may be misspelled
    inputs = Schema([ColSpec("double", name) for name in spec.features])
    outputs = Schema([ColSpec("double", "risk"), ColSpec("boolean", "needs_clinician_review")])
    return ModelSignature(inputs=inputs, outputs=outputs)


def _example(spec: PredictorSpec) -> Any:
    """The known answers' synthetic rows: no patient's."""
    import pandas as pd

    rows = [answer.inputs for answer in spec.known_answers]
    return pd.DataFrame(rows, columns=list(spec.features), dtype="float64")
