"""Encoders fetched by the hub's own client from a hub on this machine, and kept as safetensors."""

import http.server
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import pytest
import torch
from fixtures import http_servers
from transformers import BertConfig, BertForPreTraining

from data_pipeline.notes import encoders
from mediscale.core.errors import UsageError
from mediscale.core.refs import TableRef
from mediscale.core.settings import Settings
from mediscale.inference import collate
from mediscale.inference.collate import Special
from mediscale.pipeline import runtime_inputs
from training.notes import note_network
from training.notes.note_examples import Stays
from training.notes.note_network import Shape
from training.notes.note_training import Fit, Job, Recipe
from training.training_examples import Examples

REPOSITORY = f"/{encoders.CLINICAL}/resolve/{encoders.REVISIONS[encoders.CLINICAL]}/"
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "pain", "Pain", "##ful"]


class Hub(http.server.BaseHTTPRequestHandler):
    """The two routes that matter to the client: what a revision holds, and its files."""

    files: dict[str, bytes]
    asked: list[str]
    learned: dict[str, torch.Tensor]

    def do_GET(self) -> None:
        self.asked.append(self.path)
        if "/tree/" in self.path:
            held = self.files.items()
            return self._answer(json.dumps([_entry(name, content) for name, content in held]).encode())
        if content := self.files.get(self.path.removeprefix(REPOSITORY)):
            return self._answer(content)
        return self.send_error(404)

    def do_HEAD(self) -> None:
        self.do_GET()

    def _answer(self, content: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("ETag", f'"{hash(content)}"')
        self.send_header("X-Repo-Commit", encoders.REVISIONS[encoders.CLINICAL])
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        pass


def _entry(name: str, content: bytes) -> dict[str, Any]:
    return {"type": "file", "path": name, "size": len(content), "oid": str(hash(content))}


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Hub]]:
    """Holds what the pinned revision of Clinical BERT does: a configuration, words, and weights in PyTorch's format."""
    config = BertConfig(
        vocab_size=len(WORDS),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
    )
    torch.manual_seed(1)
    whole = BertForPreTraining(config).state_dict()
    torch.save(whole, tmp_path / "pytorch_model.bin")
    handler: type[Hub] = type("Held", (Hub,), {"asked": [], "learned": whole})
    handler.files = {
        "config.json": config.to_json_string().encode(),
        "vocab.txt": "\n".join(WORDS).encode(),
        "pytorch_model.bin": (tmp_path / "pytorch_model.bin").read_bytes(),
        "README.md": b"not needed",
    }
    with http_servers.hub(handler, monkeypatch):
        yield handler


def test_weights_are_fetched_once_and_kept_as_safetensors(settings: Settings, hub: type[Hub]) -> None:
    files = encoders.folder(settings, encoders.Encoder())
    assert {file.name for file in files.iterdir()} == {"config.json", "vocab.txt", "model.safetensors"}
    network = note_network.build(files, Shape(layers=0, trained_layers=2, seed=0))
    kept = dict(network.bert.named_parameters())
    assert len(kept) == 5 + 2 * 16
    assert all(torch.equal(tensor, hub.learned[f"bert.{name}"]) for name, tensor in kept.items())
    assert encoders.tokenizer(files).encode("Painful pain", add_special_tokens=False).ids == [5, 6, 4]
    asked = len(hub.asked)
    assert encoders.folder(settings, encoders.Encoder()) == files
    assert len(hub.asked) == asked
    assert not list(files.parent.glob("*.fetched"))


class Harmful:
    def __reduce__(self) -> tuple[Any, tuple[str, ...]]:
        return Path.touch, (Path("executed"),)  # type: ignore[return-value]


def test_weights_that_would_execute_something_are_refused(
    settings: Settings, hub: type[Hub], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"weight": Harmful()}, "harmful.bin")
    hub.files["pytorch_model.bin"] = Path("harmful.bin").read_bytes()
    with pytest.raises(UsageError, match="can't be read as weights"):
        encoders.folder(settings, encoders.Encoder())
    assert not Path("executed").exists()


def test_weights_of_something_else_are_refused(settings: Settings, hub: type[Hub], tmp_path: Path) -> None:
    torch.save({"weight": torch.zeros(2)}, tmp_path / "other.bin")
    hub.files["pytorch_model.bin"] = (tmp_path / "other.bin").read_bytes()
    with pytest.raises(UsageError, match="37 of a BERT's tensors are not in them"):
        encoders.folder(settings, encoders.Encoder())


def test_weights_that_cannot_be_had_are_one_sentence(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UsageError, match="revision d5892b39a4ad can't be had from the hub"):
        encoders.folder(settings, encoders.Encoder())


def test_clinical_bert_is_trained_as_its_authors_did_unless_told_otherwise(settings: Settings) -> None:
    clinical = encoders.Encoder().model_dump()
    recipe = runtime_inputs.filled("note_model", {"epochs": 1}, [{"encoder": clinical}], settings)
    assert (recipe["layers"], recipe["learning_rate"], recipe["epochs"]) == (0, 2e-5, 1)
    assert "layers" not in runtime_inputs.filled(
        "note_model", {}, [{"encoder": encoders.PACKAGED.model_dump()}], settings
    )


def test_an_encoder_without_a_pinned_revision_is_refused(settings: Settings) -> None:
    assert encoders.configured(settings) == encoders.PACKAGED
    clinical = encoders.configured(settings.model_copy(update={"encoder": encoders.CLINICAL}))
    assert clinical.revision == encoders.REVISIONS[encoders.CLINICAL]
    with pytest.raises(UsageError, match="No revision of the encoder 'bert' is pinned"):
        encoders.configured(settings.model_copy(update={"encoder": "bert"}))


@pytest.mark.soak
def test_clinical_bert_in_its_own_size_learns_from_the_pinned_revision(
    settings: Settings, hub: type[Hub], tmp_path: Path, soak: bool
) -> None:
    """All twelve layers, of 768 numbers under soak, with weights that nobody trained: fetched, kept, and moved by three
    steps."""
    config = BertConfig(vocab_size=28_996, **({} if soak else {"hidden_size": 48, "intermediate_size": 96}))
    torch.save(BertForPreTraining(config).state_dict(), tmp_path / "pytorch_model.bin")
    hub.files["config.json"] = config.to_json_string().encode()
    hub.files["vocab.txt"] = "\n".join([*WORDS, *(f"word{i}" for i in range(28_989))]).encode()
    hub.files["pytorch_model.bin"] = (tmp_path / "pytorch_model.bin").read_bytes()
    chosen = encoders.configured(settings.model_copy(update={"encoder": encoders.CLINICAL}))
    files = encoders.folder(settings, chosen)
    own = runtime_inputs.filled("note_model", {}, [{"encoder": chosen.model_dump()}], settings)
    shape = Shape(layers=own["layers"], trained_layers=own["trained_layers"], seed=0)
    network = note_network.build(files, shape)
    assert len(network.bert.encoder.layer) == 12
    before = {name: tensor.sum().item() for name, tensor in network.named_parameters()}
    stays = written(12, collate.special(encoders.tokenizer(files)))
    job = three_steps(files, shape, own["learning_rate"], str(tmp_path / "checkpoints"))
    fitted = Fit(network, torch.device("cpu"), job).run(stays, stays, lambda _: None)
    assert fitted.state.step == 3
    assert np.isfinite([*fitted.state.train_losses, *fitted.state.tuning_losses]).all()
    moved = {name for name, tensor in network.named_parameters() if tensor.sum().item() != before[name]}
    assert {f"bert.encoder.layer.{i}.output.dense.weight" for i in range(12)} <= moved
    assert not [name for name in moved if "embeddings" in name]


def written(n: int, special: Special) -> Stays:
    """Stays with one short note each, of which every third has the outcome."""
    chance = np.random.default_rng(0)
    outcomes = (np.arange(n) % 3 == 0).astype(np.float64)
    pieces = [[chance.integers(special.end + 1, 28_996, 14).astype(np.int32)] for _ in range(n)]
    times = np.full(n, np.datetime64("2150-01-01", "us"))
    rows = Examples(np.arange(n, dtype=np.int64), times, outcomes, np.zeros((n, 0), np.float32), {}, times)
    return Stays(rows, pieces)


def three_steps(files: Path, shape: Shape, learning_rate: float, checkpoints: str) -> Job:
    """One epoch of three batches of four stays."""
    recipe = Recipe(epochs=1, patience=1, learning_rate=learning_rate, batch_tokens=4 * 16,
                    gradient_accumulation_steps=1, max_examples_per_epoch=12, checkpoint_every=100,
                    threads=2, seed=0)  # fmt: skip
    nowhere = TableRef(dataset="h", table="t", table_id="", version=0)
    special = collate.special(encoders.tokenizer(files))
    return Job(home="", lake="", task="mortality", training_set=nowhere, note_tokens=nowhere, tokenizer="",
               encoder=str(files), special=special, window=16, most_windows=1, shape=shape, recipe=recipe,
               checkpoints=checkpoints)  # fmt: skip
