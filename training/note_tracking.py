"""A trained note model as MLflow's users expect to find it: its weights as safetensors, its graph as ONNX."""

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mediscale import registry
from mediscale.errors import StorageError
from mediscale.manifest import canonical
from mediscale.note_predictor import (
    CONFIG_FILE,
    GRAPH_FILE,
    SPEC_FILE,
    TOKENIZER_FILE,
    WEIGHTS_FILE,
    NoteSpec,
)
from mediscale.refs import TableRef
from mediscale.settings import Settings
from training import tracking
from training.tracking import Registered

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class TrainedNotes:
    """All that a run leaves."""

    spec: NoteSpec
    weights: "Mapping[str, torch.Tensor]"
    config: str
    tokenizer: str
    graph: bytes
    curves: Mapping[str, tuple[float, ...]]
    metrics: Mapping[str, float]
    words: Mapping[str, float]
    """What words added to the log-odds on average, of those that many patients' notes share."""


def log(
    settings: Settings, tables: Mapping[str, TableRef], params: Mapping[str, Any], trained: TrainedNotes
) -> Registered:
    """Logs run and model, and registers the version; a call that died on the way is found by ``tracking.find``."""
    from mlflow.entities import LoggedModelOutput

    mlflow = registry.client(settings)
    name, key = trained.spec.name, trained.spec.key
    experiment = registry.experiment(settings, mlflow, name)
    tags = {registry.KEY_TAG: key, "mediscale.stage": "note_model", "mediscale.task": trained.spec.task}
    run = mlflow.create_run(experiment, run_name=f"note_model {key[:8]}", tags=tags)
    _log_run(mlflow, run.info, tables, params, trained)
    logged = mlflow.create_logged_model(experiment, name="notes", source_run_id=run.info.run_id, tags=tags)
    with tempfile.TemporaryDirectory() as folder:
        save(trained, Path(folder) / "model")
        mlflow.log_model_artifacts(logged.model_id, f"{folder}/model")
    mlflow.log_outputs(run.info.run_id, [LoggedModelOutput(logged.model_id, step=0)])
    mlflow.finalize_logged_model(logged.model_id, "READY")
    found = tracking.find(settings, name, key)
    if found is None:
        raise StorageError(
            f"MLflow does not find the model {name} that it was just given; look at its store."
        )
    return found


def save(trained: TrainedNotes, folder: Path) -> None:
    """The model's folder: MLflow's ONNX flavour, and beside it what training and serving read.

    Nothing in it depends on when or where it was made: equal models have equal digests.
    """
    import onnx
    import onnxruntime
    from mlflow import onnx as flavour
    from mlflow.models import Model
    from safetensors.torch import save as safetensors

    flavour.save_model(
        onnx.load_from_string(trained.graph),
        str(folder),
        mlflow_model=Model(model_uuid=trained.spec.key, utc_time_created="see the run"),
        signature=_signature(),
        pip_requirements=[f"onnxruntime=={onnxruntime.__version__}"],
        save_as_external_data=False,
    )
    assert (folder / GRAPH_FILE).exists()
    (folder / WEIGHTS_FILE).write_bytes(safetensors(dict(trained.weights)))
    (folder / CONFIG_FILE).write_text(trained.config)
    (folder / TOKENIZER_FILE).write_text(trained.tokenizer)
    (folder / SPEC_FILE).write_text(canonical(trained.spec))


def _signature() -> Any:
    import numpy as np
    from mlflow.models.signature import ModelSignature
    from mlflow.types.schema import Schema, TensorSpec

    tokens = np.dtype("int64")
    inputs = Schema([TensorSpec(tokens, (-1, -1), name) for name in ("input_ids", "attention_mask")])
    return ModelSignature(inputs=inputs, outputs=Schema([TensorSpec(np.dtype("float32"), (-1,), "margins")]))


def _log_run(
    mlflow: Any, info: Any, tables: Mapping[str, TableRef], params: Mapping[str, Any], trained: TrainedNotes
) -> None:
    from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param

    named = [
        Param(k, v if isinstance(v, str) else json.dumps(v, sort_keys=True))
        for k, v in sorted(params.items())
    ]
    at = info.start_time
    measured = [
        Metric(k, v, at, step) for k, values in trained.curves.items() for step, v in enumerate(values)
    ]
    measured += [Metric(k, v, at, 0) for k, v in sorted(trained.metrics.items())]
    mlflow.log_batch(info.run_id, metrics=measured, params=named)
    inputs = [
        DatasetInput(
            Dataset(
                ref.table, f"{ref.table_id[:8]}v{ref.version}", "delta_table", json.dumps({"path": str(ref)})
            ),
            [InputTag("mlflow.data.context", "training")],
        )
        for ref in tables.values()
    ]
    mlflow.log_inputs(info.run_id, inputs)
    mlflow.log_dict(info.run_id, dict(trained.words), "note_words.json")
