"""The files of an index: a folder with a manifest that says the digest of each, written whole or not at all.

Nothing in it is pickled: ONNX and JSON (the embedder), Arrow (passages), FAISS's own format (vectors), NumPy arrays
(vectors of sentences, 8 bits a dimension) and with JSON beside them (BM25).
"""

import hashlib
import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from data_pipeline.retrieval.abstention import Abstention
from data_pipeline.retrieval.embedder import Embedder, EmbedderSpec, Vectors
from data_pipeline.retrieval.passage_vectors import PassageVectors, SentenceVectors
from data_pipeline.retrieval.words import stems
from mediscale.core.errors import NotFoundError, StorageError
from mediscale.core.refs import Frozen
from mediscale.inference.model_files import INDEX_MANIFEST as MANIFEST

if TYPE_CHECKING:
    import pyarrow as pa

GRAPH, TOKENIZER = "embedder.onnx", "tokenizer.json"
PASSAGES = "passages.arrow"
VECTORS = "vectors.faiss"
SENTENCES, FIRST_SENTENCES = "sentences.npy", "first_sentences.npy"
ABSTENTION = "abstention.json"

FORMAT = 5
"""Of an index's files: 5 since BM25 parts words at hyphens. Another number is refused."""
EXACT = 20_000
"""Passages up to which every vector is compared with the question's; beyond, those of the nearest lists are."""


class RejectedDocument(Frozen):
    """A file, or rows of one, that no passage was made of."""

    file: str
    reason: str
    """A whole sentence without a word of the content."""


class Manifest(Frozen):
    """The manifest of an index: what it is made of. Its own SHA-256 is the digest of the index."""

    format: int = FORMAT
    name: str
    version: int
    key: str = ""
    """Of the call that made it; empty where a person did."""
    embedder: EmbedderSpec
    passages: int
    documents: int
    rejected: tuple[RejectedDocument, ...]
    files: dict[str, str]
    """SHA-256 of each file by its relative name."""


class OtherFormatError(StorageError):
    """An index of another release, which this one does not read."""


def read_manifest(folder: Path) -> Manifest:
    """The manifest of the index in a folder.

    Raises:
    NotFoundError: there is no index in the folder.
    OtherFormatError: another release made it, with other files.
    StorageError: its manifest is damaged.
    """
    try:
        content = (folder / MANIFEST).read_bytes()
        _check_format(folder, json.loads(content))
        return Manifest.model_validate_json(content)
    except (FileNotFoundError, NotADirectoryError):
        raise NotFoundError(f"There is no index in {folder}; make one with `mediscale index`.") from None
    except (ValueError, OSError) as error:
        raise StorageError(
            f"The manifest of the index in {folder} is damaged; make the index again."
        ) from error


def _check_format(folder: Path, manifest: Any) -> None:
    number = manifest.get("format") if isinstance(manifest, dict) else None
    if isinstance(number, int) and number != FORMAT:
        raise OtherFormatError(
            f"The index in {folder} has format {number}, and this release reads format {FORMAT}: make it again from "
            "its documents, with the run of the pipeline or `mediscale index PATH` that made it."
        )


def check(folder: Path, manifest: Manifest) -> None:
    """Compares every file with its digest.

    Raises:
        StorageError: a file is missing or was changed.
    """
    with ThreadPoolExecutor() as threads:  # hashing lets go of the interpreter
        digests = threads.map(_digest, (folder / name for name in manifest.files))
        wrong = [
            name
            for name, digest in zip(manifest.files, digests, strict=True)
            if digest != manifest.files[name]
        ]
    if wrong:
        raise StorageError(
            f"{len(wrong)} files of the index {manifest.name}/{manifest.version} are not as its manifest says "
            f"({', '.join(sorted(wrong))}); make the index again or restore it from a backup."
        )


@dataclass(frozen=True)
class Contents:
    """The contents of an index."""

    passages: "pa.Table"
    """Rows of ``data_pipeline.documents.passages.PASSAGES``."""
    vectors: PassageVectors
    embedder: Embedder
    rejected: tuple[RejectedDocument, ...] = ()
    abstention: Abstention | None = None


def read_passages(folder: Path) -> "pa.Table":
    """The passages of an index, mapped into memory."""
    import pyarrow as pa

    return pa.ipc.open_file(pa.memory_map(str(folder / PASSAGES))).read_all()


def read_sentences(folder: Path) -> SentenceVectors:
    """The vectors of an index's sentences, mapped into memory: an answer reads those of a few passages."""
    return SentenceVectors(
        np.load(folder / SENTENCES, mmap_mode="r", allow_pickle=False),
        np.load(folder / FIRST_SENTENCES, allow_pickle=False),
    )


def write(folder: Path, name: str, version: int, contents: Contents, key: str = "") -> Manifest:
    """Writes an index; the folder appears whole, or not at all."""
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True, mode=0o700)
    (partial / GRAPH).write_bytes(contents.embedder.graph)
    (partial / TOKENIZER).write_bytes(contents.embedder.tokenizer)
    _write_passages(partial / PASSAGES, contents.passages)
    _write_vectors(partial / VECTORS, contents.vectors.whole)
    np.save(partial / SENTENCES, contents.vectors.sentences.values, allow_pickle=False)
    np.save(partial / FIRST_SENTENCES, contents.vectors.sentences.first, allow_pickle=False)
    _write_bm25(partial / "bm25", contents.passages)
    if contents.abstention:
        (partial / ABSTENTION).write_text(contents.abstention.model_dump_json(indent=1))
    files = sorted(path.relative_to(partial).as_posix() for path in partial.rglob("*") if path.is_file())
    manifest = Manifest(
        name=name,
        version=version,
        key=key,
        embedder=contents.embedder.spec,
        passages=contents.passages.num_rows,
        documents=len(set(contents.passages["file"].to_pylist())),
        rejected=contents.rejected,
        files={file: _digest(partial / file) for file in files},
    )
    (partial / MANIFEST).write_text(manifest.model_dump_json(indent=1))
    partial.rename(folder)
    return manifest


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""


def _write_passages(path: Path, passages: "pa.Table") -> None:
    import pyarrow as pa

    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, passages.schema) as writer:
        writer.write_table(passages.combine_chunks())


def _write_vectors(path: Path, vectors: Vectors) -> None:
    """Inner product of unit vectors is their cosine. Beyond ``EXACT`` an inverted file (Jégou et al. 2011) of half
    precision: 0.998 of the exact neighbours at a hundredth of the time (benchmarks/retrieval.py)."""
    import faiss

    n, dimensions = vectors.shape
    lists = int(4 * n**0.5)
    kind = "Flat" if n <= EXACT else f"IVF{lists},SQfp16"
    index: Any = faiss.index_factory(dimensions, kind, faiss.METRIC_INNER_PRODUCT)
    if n > EXACT:
        index.train(vectors)
        index.nprobe = max(1, lists // 40)
    index.add(vectors)
    faiss.write_index(index, str(path))


def _write_bm25(folder: Path, passages: "pa.Table") -> None:
    import bm25s

    texts = (f"{title} {text}" for title, text in zip(passages["title"], passages["text"], strict=True))
    bm25 = bm25s.BM25(backend="numpy")
    bm25.index([stems(text) for text in texts], show_progress=False)
    bm25.save(str(folder), allow_pickle=False, show_progress=False)
    params = json.loads((folder / "params.index.json").read_text())
    (folder / "params.index.json").write_text(json.dumps(params, sort_keys=True))
