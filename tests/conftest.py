"""Fixtures that more than one test folder uses."""

import gc
import json
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hypothesis
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from deltalake import CommitProperties, write_deltalake

from mediscale.core import tables
from mediscale.core.refs import TableRef
from mediscale.core.settings import Settings
from mediscale.core.table import Table
from mediscale.inference import collate, notes
from mediscale.inference.model_spec import Calibration, Combination, PredictorSpec
from mediscale.inference.note_model_spec import KnownText, NoteSpec
from mediscale.storage import lake, signing
from mediscale.storage.calls import canonical

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytest_plugins = (
    "fixtures.clusters",
    "fixtures.drawn_hospitals",
    "fixtures.indexed_documents",
    "fixtures.kafka_broker",
    "fixtures.language_versions",
    "fixtures.monitored_hospital",
    "fixtures.promoted_models",
    "fixtures.run_records",
    "fixtures.server_process",
    "fixtures.toy_language",
    "fixtures.undisturbed_run",
)
"""Each made once per session, for every tier."""

os.umask(0o077)  # as every entry point has it
gc.set_threshold(50_000)  # as every stage has it
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # else each process that a test starts compiles our code
# Threads of torch and the trees that wait for another sleep meanwhile: on cores that other tests need too, turning on
# the spot for it doubled a fit's CPU.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

for _name in [name for name in os.environ if name.startswith("MEDISCALE_")]:
    del os.environ[_name]  # a test must not write to the lake of whoever runs it
os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", tempfile.gettempdir())  # pytest's own folders outlive the run
_scratch = tempfile.TemporaryDirectory(prefix="ms-", ignore_cleanup_errors=True)
"""Gone with the run, and with it what killed processes left of theirs. Sockets lie in it, whose names must be short."""
Path(_scratch.name).chmod(0o711)  # a service of another account goes through it
os.environ["TMPDIR"] = tempfile.tempdir = _scratch.name
_trust = Path(_scratch.name) / "trust"
os.environ["MEDISCALE_TRUST"] = str(_trust)
# nor sign with that person's key; processes that a test starts get it too
signing.make_key(_trust / "signing_key.pem", _trust / "signers" / "tests.service.pem")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--soak", action="store_true", help="thousands of cases, dozens of kills: minutes become hours"
    )


def pytest_configure(config: pytest.Config) -> None:
    cases = 5000 if config.getoption("--soak") else 40
    hypothesis.settings.register_profile("ours", max_examples=cases, deadline=None)
    hypothesis.settings.load_profile("ours")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        if getattr(getattr(item, "obj", None), "is_hypothesis_test", False):
            item.add_marker("soak")
    if not config.getoption("--soak"):
        left_out = [item for item in items if item.get_closest_marker("only_soak")]
        items[:] = [item for item in items if item not in left_out]
        config.hook.pytest_deselected(items=left_out)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """What there is before a test lives on: a server collects garbage as it starts, and need not look at all of it."""
    gc.freeze()


def pytest_sessionfinish() -> None:
    gc.unfreeze()  # pytest collects once more, and fails on what was never closed


@pytest.fixture(scope="session")
def soak(pytestconfig: pytest.Config) -> bool:
    """Whether the tests marked ``soak`` are to go as far as they can (``make soak``)."""
    return bool(pytestconfig.getoption("--soak"))


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A home of its own for each test."""
    return Settings(home=tmp_path / "a home")


@pytest.fixture
def keyboard() -> "Iterator[None]":
    """Ctrl-C reaches this process, also where a shell started it in the background and so had it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="session")
def spark(tmp_path_factory: pytest.TempPathFactory) -> "Iterator[SparkSession]":
    """The session that every stage of this run of the tests gets, whatever its home."""
    from mediscale.storage import spark as lake_spark

    home = tmp_path_factory.mktemp("spark")
    session = lake_spark.session(Settings(home=home, spark_master="local[2]", spark_memory="1g"))
    yield session
    session.stop()


def _table(text: str, declaration: Table = tables.EVENTS) -> pa.Table:
    header, *lines = [line for line in text.strip().splitlines() if line.strip()]
    names = [name.strip() for name in header.split("|")]
    rows = [[cell.strip() or None for cell in line.split("|")] for line in lines]
    columns = (
        dict(zip(names, map(list, zip(*rows, strict=True)), strict=True)) if rows else {n: [] for n in names}
    )
    schema = declaration.arrow_schema()
    return pa.table(
        {field.name: pa.array(columns.get(field.name, [None] * len(rows)), pa.string()) for field in schema}
    ).cast(schema)


@pytest.fixture
def table() -> Callable[..., pa.Table]:
    """``table("subject_id | time | code …", declaration)``: a table drawn as text; an empty cell is null, as is every
    declared column that is not drawn."""
    return _table


@pytest.fixture
def events() -> Callable[[str], pa.Table]:
    """A drawn events table in which what is not drawn is ordinary: known at once, each row an event of its own."""

    def draw(text: str) -> pa.Table:
        drawn = _table(text)
        n = drawn.num_rows
        usual: dict[str, Any] = {
            "available_time": drawn["time"],
            "event_id": pa.array(range(1000, 1000 + n), pa.int64()),
            "retracted": pa.array([False] * n, pa.bool_()),
            "source": pa.array(["test"] * n, pa.string()),
        }
        for name, value in usual.items():
            i = drawn.schema.get_field_index(name)
            drawn = drawn.set_column(i, drawn.schema.field(i), pc.coalesce(drawn[name], value))
        return drawn

    return draw


@pytest.fixture
def land_events(settings: Settings) -> Callable[..., TableRef]:
    """``land_events(drawn, shards, dataset)``: writes drawn events as silver lays them out."""

    def land(drawn: pa.Table, shards: int, dataset: str = "test") -> TableRef:
        shard = pa.array([subject % shards for subject in drawn["subject_id"].to_pylist()], pa.int64())
        write_deltalake(
            settings.table_uri(dataset, "events"),
            drawn.set_column(drawn.schema.get_field_index("shard"), "shard", shard),
            partition_by=["shard"],
            commit_properties=CommitProperties(
                custom_metadata={"userMetadata": json.dumps({"shards": shards})}
            ),
        )
        return lake.latest(settings, dataset, "events")

    return land


WORDS = [
    "patient",
    "presents",
    "with",
    "chest",
    "pain",
    "comfortable",
    "mottled",
    "bedbound",
    ".",
    "quillfeather",
]
TOGETHER = Combination(
    table=0.8, notes=0.7, reference_mean=-1.0, intercept=0.2, thresholds={"clinical": 0.12}
)


def _note_files() -> dict[str, bytes]:
    """A small network that was never trained, in the files of a logged note model."""
    import torch
    from tokenizers import BertWordPieceTokenizer
    from transformers import BertConfig, BertModel

    from training.notes import note_export
    from training.notes.note_pooling import NoteNetwork

    torch.manual_seed(0)
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    words = BertWordPieceTokenizer({word: i for i, word in enumerate(vocabulary)}, lowercase=True)
    shape = {
        "vocab_size": len(vocabulary),
        "hidden_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
    }
    bert = BertModel(
        BertConfig(**shape, intermediate_size=64, max_position_embeddings=64), add_pooling_layer=False
    )
    network = NoteNetwork(bert).eval()
    texts = ("patient comfortable.", "mottled")
    stays = [collate.windows([np.array(words.encode(t, add_special_tokens=False).ids, np.int32)], 34, 1)
             for t in texts]  # fmt: skip
    special = collate.Special(start=2, end=3, padding=0)
    graph = note_export.to_onnx(network, 34)
    margins = [notes.margin(notes.session(graph), pieces, special) for pieces in stays]
    spec = NoteSpec(
        name="synthetic-mortality-notes",
        dataset="synthetic",
        task="mortality",
        encoder="made up",
        revision="",
        tokenizer="t" * 64,
        window=34,
        most_windows=2,
        calibration=Calibration(slope=1.1, intercept=-0.3),
        thresholds={},
        known_texts=tuple(KnownText(text=t, margin=m) for t, m in zip(texts, margins, strict=True)),
    )
    return {
        "model.onnx": graph,
        "tokenizer.json": words.to_str().encode(),
        "notes.json": canonical(spec).encode(),
    }


@pytest.fixture(scope="session")
def add_notes() -> Callable[[Path], None]:
    """Lets the model in a folder read notes too, in the numbers of the tokenizer ``"t" * 64``."""
    files = _note_files()

    def add(folder: Path) -> None:
        spec = PredictorSpec.model_validate_json((folder / "predictor.json").read_bytes())
        (folder / "predictor.json").write_text(canonical(spec.model_copy(update={"notes": TOGETHER})))
        (folder / "notes").mkdir()
        for name, content in files.items():
            (folder / "notes" / name).write_bytes(content)

    return add
