"""The stage with the packaged encoder: a registered version whose graph answers as the network that it is from."""

import json
from datetime import datetime
from typing import Any

import numpy as np
import onnx
import pyarrow as pa
import pytest
import torch
from deltalake import write_deltalake
from safetensors.torch import load

from data_pipeline.notes import encoders
from mediscale.core.errors import StorageError, UsageError
from mediscale.core.refs import TableRef
from mediscale.core.settings import Settings
from mediscale.core.tables import NOTE_TOKENS, TRAINING_SET
from mediscale.inference import collate, model_files
from mediscale.inference.note_model_spec import NoteSpec
from mediscale.inference.notes import NoteReader
from mediscale.storage import lake, registry
from training.notes import note_model, note_network

GOOD = "Comfortable, walks two miles daily, independent. Full code."
BAD = "In extremis, mottled, bedbound and cachectic. DNR/DNI."


def land(settings: Settings, table: str, rows: list[dict[str, Any]], schema: pa.Schema) -> TableRef:
    write_deltalake(settings.table_uri("h", table), pa.Table.from_pylist(rows, schema=schema))
    return lake.latest(settings, "h", table)


@pytest.fixture
def params(settings: Settings) -> note_model.Params:
    tokenizer = encoders.tokenizer(encoders.folder(settings, encoders.PACKAGED))
    rng = np.random.default_rng(0)
    rows, tokens = [], []
    for i in range(140):
        dies = bool(rng.random() < 0.4)
        known = {"subject_id": i, "stay_id": i, "admission_time": datetime(2150, 1, 1),
                 "prediction_time": datetime(2150, 1, 2)}  # fmt: skip
        split = "tuning" if i % 3 == 0 else "train"
        told = {**known, "boolean_value": dies, "split": split}
        rows.append({**told, "sex": "female", "age_band": "80+", "ethnicity": "unknown"})
        text = (BAD if dies else GOOD) if rng.random() < 0.9 else "No note of use."
        read = tokenizer.encode(text, add_special_tokens=False).ids
        moment = {"time": datetime(2150, 1, 1, 8), "available_time": datetime(2150, 1, 1, 9)}
        tokens.append({"note_id": i, "subject_id": i, "visit_id": i, **moment, "note_type": "admission",
                       "tokenizer": encoders.digest(tokenizer), "tokens": read})  # fmt: skip
    return note_model.Params(
        dataset="h",
        task="mortality",
        training_set=land(settings, "training_set_mortality", rows, TRAINING_SET.arrow_schema()),
        note_tokens=land(settings, "note_tokens", tokens, NOTE_TOKENS.arrow_schema()),
        encoder=encoders.PACKAGED,
        tokenizer=encoders.digest(tokenizer),
        layers=1,
        window=32,
        most_windows=1,
        epochs=3,
        batch_tokens=512,
        threads=1,
    )


def test_a_version_is_registered_once_and_its_graph_answers_as_it_says(
    settings: Settings, params: note_model.Params
) -> None:
    result = note_model.run(params, settings, "k" * 32)
    found = result.note_model
    assert found is not None
    assert str(found.model) == "h-mortality-notes v1"
    files = model_files.all_files(settings, found.model)
    assert {
        "model.onnx",
        "model.safetensors",
        "config.json",
        "tokenizer.json",
        "notes.json",
        "note_words.json",
        "MLmodel",
    } <= files.keys()
    assert not [name for name in files if name.endswith((".pkl", ".bin", ".pt"))]
    spec = NoteSpec.model_validate_json(files["notes.json"])
    reader = NoteReader(files)
    stays = [reader.windows([reader.tokens(known.text)]) for known in spec.known_texts]
    assert reader.margins(stays) == pytest.approx([known.margin for known in spec.known_texts], abs=1e-4)
    client = registry.client(settings)
    run = client.get_run(client.get_model_version(found.model.name, str(found.model.version)).run_id)
    assert run.data.metrics["tuning_auroc"] > 0.85
    assert list((settings.home / "checkpoints").rglob("*.safetensors")) == []
    assert note_model.run(params, settings, "k" * 32) == result
    told = json.dumps([run.data.params, run.data.tags, run.data.metrics])
    assert "extremis" not in told
    assert run.data.metrics["train_events"] >= 10
    margins = lake.read(settings, found.margins)
    assert margins.num_rows == run.data.metrics["tuning_rows"]
    assert min(margins["tokens"].to_pylist()) > 0


def test_the_registered_graph_multiplies_in_8_bits_and_answers_as_the_trained_weights_do(
    settings: Settings, params: note_model.Params
) -> None:
    """Each stay as it is read alone, whatever is read beside it; and near what single precision says."""
    found = note_model.run(params, settings, "k" * 32).note_model
    assert found is not None
    files = model_files.all_files(settings, found.model)
    operators = [node.op_type for node in onnx.load_from_string(files["model.onnx"]).graph.node]
    assert operators.count("MatMulInteger") >= 6, (
        "queries, keys, values, their output, and two of the feed-forward"
    )
    reader = NoteReader(files)
    texts = [known.text for known in reader.spec.known_texts if known.text]
    stays = [
        reader.windows([reader.tokens(text)]) for text in (*texts, " ".join(texts), " ".join(texts * 20))
    ]
    together = reader.margins(stays)
    assert together.tolist() == [reader.margins([stay])[0] for stay in stays]
    encoder = encoders.folder(settings, encoders.PACKAGED)
    network = note_network.build(encoder, note_network.Shape(layers=1, trained_layers=1, seed=0))
    network.load_state_dict(load(files["model.safetensors"]))
    batch = collate.batch(stays, collate.special(encoders.tokenizer(encoder)))
    with torch.no_grad():
        single = note_network.margins(network.eval(), batch, torch.device("cpu")).numpy()
    assert np.abs(together - single).max() < 0.1 * np.ptp(single)


def test_an_extract_without_notes_trains_nothing(settings: Settings, params: note_model.Params) -> None:
    without = params.model_copy(update={"note_tokens": None})
    assert note_model.run(without, settings, "k" * 32).note_model is None
    assert not lake.exists(settings, "h", "note_margins_mortality")


@pytest.mark.parametrize(
    ("change", "says"),
    [({"layers": 7}, "has 6 layers where 7 are to be kept"), ({"workers": 50}, "batches for 50 workers")],
)
def test_what_can_not_be_trained_is_refused_before_any_worker_starts(
    settings: Settings, params: note_model.Params, change: dict[str, int], says: str
) -> None:
    with pytest.raises(UsageError, match=says):
        note_model.run(params.model_copy(update=change), settings, "k" * 32)


def test_tokens_of_another_tokenizer_are_refused(settings: Settings, params: note_model.Params) -> None:
    with pytest.raises(StorageError, match="run note_tokens again"):
        note_model.run(params.model_copy(update={"tokenizer": "0" * 64}), settings, "key")
