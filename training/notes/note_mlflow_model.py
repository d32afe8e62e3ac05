"""A trained note model as MLflow's users expect to find it: its weights as safetensors, its graph as ONNX."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mediscale.core.refs import Frozen, ModelRef, TableRef
from mediscale.inference.model_files import GRAPH_FILE, SPEC_FILE, TOKENIZER_FILE
from mediscale.inference.note_model_spec import CONFIG_FILE, WEIGHTS_FILE, NoteSpec
from mediscale.storage.calls import canonical
from training.notes.note_export import OUTPUTS
from training.tracking import Data, Training

if TYPE_CHECKING:
    import pyarrow as pa
    import torch

WORDS_FILE = "note_words.json"
"""In the model's folder: ``TrainedNotes.words``."""


class NoteModel(Frozen):
    """A registered note model, and its answers."""

    model: ModelRef
    margins: TableRef
    """NOTE_MARGINS: its answers on the tuning split, for whoever combines it with another model."""


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
    counts: Mapping[str, int]
    words: Mapping[str, float]
    """What words added to the log-odds on average, of those that many patients' notes share."""
    margins: "pa.Table"
    """Rows of NOTE_MARGINS: its answers on the tuning split. Of patients, so never in MLflow."""


def training(
    trained: TrainedNotes, tables: Sequence[TableRef], params: Mapping[str, Any], key: str
) -> Training:
    """What ``tracking.log`` is to leave; ``key`` is the stage call's."""
    return Training(
        name=trained.spec.name,
        key=key,
        stage="note_model",
        task=trained.spec.task,
        kind="notes",
        params=params,
        curves=trained.curves,
        metrics=trained.metrics,
        counts=trained.counts,
        data=[Data(ref, "training") for ref in tables],
        save=partial(save, trained, key),
        margins=trained.margins,
    )


def save(trained: TrainedNotes, key: str, folder: Path) -> None:
    """The model's folder: MLflow's ONNX flavour, beside it what training and serving read, and what the report shows.

    Which call made it stands in MLflow's card alone: the files that answer are the same for equal models.
    """
    import onnx
    import onnxruntime
    from mlflow import onnx as flavour
    from mlflow.models import Model
    from safetensors.torch import save as safetensors

    flavour.save_model(
        onnx.load_from_string(trained.graph),
        str(folder),
        mlflow_model=Model(model_uuid=key, utc_time_created="see the run"),
        signature=_signature(),
        input_example=_example(trained),
        pip_requirements=[f"onnxruntime=={onnxruntime.__version__}"],
        save_as_external_data=False,
    )
    assert (folder / GRAPH_FILE).exists()
    (folder / WEIGHTS_FILE).write_bytes(safetensors(dict(trained.weights)))
    (folder / CONFIG_FILE).write_text(trained.config)
    (folder / TOKENIZER_FILE).write_text(trained.tokenizer)
    (folder / SPEC_FILE).write_text(canonical(trained.spec))
    (folder / WORDS_FILE).write_text(json.dumps(dict(trained.words)))


def _signature() -> Any:
    import numpy as np
    from mlflow.models.signature import ModelSignature
    from mlflow.types.schema import Schema, TensorSpec

    tokens = np.dtype("int64")
    inputs = Schema([TensorSpec(tokens, (-1, -1), name) for name in ("input_ids", "attention_mask")])
    outputs = Schema([TensorSpec(np.dtype("float32"), (-1, -1), name) for name in OUTPUTS])
    return ModelSignature(inputs=inputs, outputs=outputs)


def _example(trained: TrainedNotes) -> Any:
    """The tokens of a known text, which is made up."""
    import numpy as np
    from tokenizers import Tokenizer

    ids = Tokenizer.from_str(trained.tokenizer).encode(trained.spec.known_texts[-1].text).ids
    return {"input_ids": np.array([ids]), "attention_mask": np.ones((1, len(ids)), dtype=np.int64)}
