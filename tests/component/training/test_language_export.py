"""A language version in other forms: each is read back by its own runtime and answers as its parent, or is blocked."""

import base64
import dataclasses
import hashlib
import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import write_deltalake

from data_pipeline.documents.questions import Question
from mediscale.core.errors import UsageError
from mediscale.core.refs import ModelRef
from mediscale.core.settings import Settings
from mediscale.core.tables import QUESTIONS
from mediscale.inference import base_models, model_files
from mediscale.storage import lake
from training.language import language_model
from training.language.export import NAMES, formats, gguf_file, onnx_graph, receipts
from training.language.export.receipts import RECEIPT_FILE, Receipt

DATASET = "toys"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return Settings(home=tmp_path_factory.mktemp("exporting"))


@pytest.fixture(scope="module")
def version(home: Settings, toy_base: Path, toy_questions: list[Question]) -> ModelRef:
    """A version that learnt from a few questions, its files where those of a registered one are."""
    rows = [
        q.model_dump() | {"split": "tuning" if i % 4 == 3 else "train"}
        for i, q in enumerate(toy_questions[:40])
    ]
    table = pa.Table.from_pylist(rows, schema=QUESTIONS.arrow_schema())
    write_deltalake(home.table_uri(DATASET, QUESTIONS.name), table)
    params = language_model.Params(
        dataset=DATASET, questions=lake.latest(home, DATASET, QUESTIONS.name), base=str(toy_base),
        base_model=base_models.resolve(str(toy_base)), rank=4, alpha=8, epochs=1, learning_rate=1e-2,
        batch_tokens=256, max_length=96, threads=1,
    )  # fmt: skip
    folder = Path(home.artifact_root) / "toys-1"
    folder.parent.mkdir(parents=True, exist_ok=True)
    language_model.fit(params, home, "k").save(folder)
    return ModelRef(name="toys-language", version=1, uri=str(folder), digest=model_files.digest(folder))


def test_every_form_that_a_runtime_here_reads_answers_as_its_parent(
    home: Settings, version: ModelRef, tmp_path: Path
) -> None:
    names = [name for name in NAMES if name != "hub"]
    made = {receipt.format: receipt for receipt in receipts.export(home, version, names, tmp_path)}
    assert formats.FORMATS.keys() == set(NAMES)
    for name, receipt in made.items():
        folder = tmp_path / name
        assert Receipt.model_validate_json((folder / RECEIPT_FILE).read_bytes()) == receipt
        files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
        assert files == {*receipt.files, RECEIPT_FILE}
        if name == "tensorrt":
            assert receipt.state == "not compared"
            assert "TensorRT-LLM" in receipt.needs
        else:
            assert receipt.state == "usable"
            assert receipt.compared is not None
            assert receipt.compared.largest_difference < 0.01
            assert receipt.compared.n_answers == receipt.compared.same_answers == 12
    assert not list(tmp_path.glob(".*")), "a half-written form is left"
    with pytest.raises(UsageError, match="has merged already"):
        list(receipts.export(home, version, ["merged"], tmp_path))


def test_a_signature_covers_every_file_of_a_form_and_its_receipt(
    home: Settings, version: ModelRef, tmp_path: Path
) -> None:
    (receipt,) = receipts.export(home, version, ["adapter"], tmp_path)
    envelope = json.loads((tmp_path / "adapter.sig").read_bytes())["dsseEnvelope"]
    predicate = json.loads(base64.b64decode(envelope["payload"]))["predicate"]
    signed = {entry["name"]: entry["digest"] for entry in predicate["resources"]}
    content = (tmp_path / "adapter" / RECEIPT_FILE).read_bytes()
    assert signed == receipt.files | {RECEIPT_FILE: hashlib.sha256(content).hexdigest()}


def test_a_form_that_answers_otherwise_is_blocked_alone(
    home: Settings, version: ModelRef, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    straight = gguf_file._laid_out
    monkeypatch.setattr(
        gguf_file, "_laid_out", lambda key, values, config: straight(key, values, config)[..., ::-1].copy()
    )
    made = {
        receipt.format: receipt for receipt in receipts.export(home, version, ["gguf", "merged"], tmp_path)
    }
    assert made["gguf"].state == "blocked"
    assert "log-likelihoods differ" in made["gguf"].problems[0]
    assert not (tmp_path / "gguf").exists()
    assert not (tmp_path / "gguf.sig").exists()
    assert Receipt.model_validate_json((tmp_path / f"gguf.{RECEIPT_FILE}").read_bytes()) == made["gguf"]
    assert made["merged"].state == "usable"


@pytest.mark.filterwarnings("error::FutureWarning")
def test_a_form_whose_file_is_spoiled_is_blocked_with_a_sentence_and_the_others_are_kept(
    home: Settings, version: ModelRef, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoiled(form: formats.Format) -> formats.Format:
        def write(of: formats.Version, folder: Path) -> None:
            form.write(of, folder)
            largest = max(folder.rglob("*"), key=lambda path: path.stat().st_size)
            content = largest.read_bytes()
            largest.write_bytes(bytes(255 - byte for byte in content[:16]) + content[16:])

        return dataclasses.replace(form, write=write)

    spoiled_names = ["merged", "gguf", "onnx"]
    changed = {name: spoiled(formats.FORMATS[name]) for name in spoiled_names}
    monkeypatch.setattr(receipts, "FORMATS", formats.FORMATS | changed)
    made = list(receipts.export(home, version, [*spoiled_names, "adapter"], tmp_path))
    assert [receipt.state for receipt in made] == [*["blocked"] * 3, "usable"]
    for receipt in made[:3]:
        (sentence,) = receipt.problems
        assert "can't be read" in sentence or "can't read back" in sentence
        assert not (tmp_path / receipt.format).exists()


def test_a_base_that_a_format_can_not_hold_is_blocked_with_what_to_do(
    home: Settings, version: ModelRef, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_network: Any) -> None:
        raise UsageError("GGUF is written here for bases of Llama's architecture, and this one is gemma3.")

    monkeypatch.setattr(gguf_file, "check", refuse)
    (receipt,) = receipts.export(home, version, ["gguf"], tmp_path)
    assert receipt.problems == (
        "GGUF is written here for bases of Llama's architecture, and this one is gemma3.",
    )


class Hub(http.server.BaseHTTPRequestHandler):
    """The part of the hub's protocol by which a small repository is made, filled and read; one commit of it."""

    files: dict[str, bytes]
    commit = "c" * 40

    def do_POST(self) -> None:
        path, body = self.path.partition("?")[0], self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if path == "/api/repos/create":
            assert json.loads(body)["visibility"] == "private", "an adapter was made public"
            self.answer({"url": self.address("own/toy")})
        elif "/preupload/" in path:
            names = [file["path"] for file in json.loads(body)["files"]]
            asked = [{"path": name, "uploadMode": "regular", "shouldIgnore": False} for name in names]
            self.answer({"files": asked})
        elif "/commit/" in path:
            lines = [json.loads(line) for line in body.splitlines()]
            for value in (line["value"] for line in lines if line["key"] == "file"):
                self.files[value["path"]] = base64.b64decode(value["content"])
            self.answer(
                {"commitUrl": self.address(f"own/toy/commit/{self.commit}"), "commitOid": self.commit}
            )
        else:
            self.answer({})

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        prefix = f"/own/toy/resolve/{self.commit}/"
        if path.startswith("/api/models/own/toy/tree/"):
            self.answer(
                [
                    {"type": "file", "oid": name, "size": len(self.files[name]), "path": name}
                    for name in self.files
                ]
            )
        elif path.startswith("/api/models/own/toy"):
            siblings = [{"rfilename": name} for name in self.files]
            self.answer({"id": "own/toy", "sha": self.commit, "siblings": siblings})
        elif path.startswith(prefix):
            self.answer(self.files[path.removeprefix(prefix)])
        else:
            self.answer({}, 404)

    def do_HEAD(self) -> None:
        self.do_GET()

    def address(self, path: str) -> str:
        return f"http://{self.headers['Host']}/{path}"

    def answer(self, body: Any, status: int = 200) -> None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("X-Repo-Commit", self.commit)
        self.send_header("ETag", f'"{hashlib.sha1(content).hexdigest()}"')  # noqa: S324
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        """Says nothing."""


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Hub]]:
    class Fresh(Hub):
        files: dict[str, bytes] = {}

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Fresh)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("HF_TOKEN", "hf_of_the_test")
    yield Fresh
    server.shutdown()
    server.server_close()


def test_an_adapter_goes_to_the_hub_and_what_the_hub_gives_back_is_compared(
    home: Settings, version: ModelRef, tmp_path: Path, hub: type[Hub]
) -> None:
    (receipt,) = receipts.export(home, version, ["hub"], tmp_path, "own/toy")
    assert receipt.state == "usable", receipt.problems
    assert (
        hub.files["adapter_model.safetensors"]
        == model_files.read_verified(home, version)["adapter_model.safetensors"]
    )
    assert b"base_model: toy-llama" in hub.files["README.md"]
    with pytest.raises(UsageError, match="needs --repository"):
        list(receipts.export(home, version, ["hub"], tmp_path / "other"))


def test_what_the_hub_gives_back_otherwise_is_blocked_and_where_it_lies_is_said(
    home: Settings, version: ModelRef, tmp_path: Path, hub: type[Hub], monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoiled(asked: Hub, body: Any, status: int = 200) -> None:
        is_weights = asked.command == "GET" and "adapter_model" in asked.path
        answer(asked, body[:-400] + b"\x7f" * 400 if is_weights else body, status)

    answer = Hub.answer
    monkeypatch.setattr(hub, "answer", spoiled)
    (receipt,) = receipts.export(home, version, ["hub"], tmp_path, "own/toy")
    assert "some of its log-likelihoods are no numbers" in receipt.problems
    assert receipt.problems[-1].endswith("lies in its repository until it is deleted there")
    assert [path.name for path in tmp_path.iterdir()] == ["hub.receipt.json"]


def test_onnx_keeps_what_it_has_read(home: Settings, version: ModelRef, tmp_path: Path) -> None:
    list(receipts.export(home, version, ["onnx"], tmp_path))
    model = onnx_graph.OnnxModel(tmp_path / "onnx", "Answer.")
    assert model.answers([("Which organ?", ""), ("Why does it beat?", "")], 5) == [
        model.answers([("Which organ?", "")], 5)[0],
        model.answers([("Why does it beat?", "")], 5)[0],
    ]
