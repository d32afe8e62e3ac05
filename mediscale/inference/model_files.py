"""Model files: which files of a version answer, the digest over them, and their bytes after that digest was checked.

MLflow's own files (MLmodel, its environments, the input example) and what only explains a model lie in the same folder.
They may say when and where a version was made, so they are no part of the digest: equal models in two homes have equal
digests.
"""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

from mediscale.core.errors import NotFoundError, StorageError
from mediscale.core.refs import ModelRef
from mediscale.core.settings import Settings
from mediscale.storage import lake, registry

MODEL_FILE = "model.json"
PREDICTOR_FILE = "predictor.json"
NOTES_FOLDER = "notes"
GRAPH_FILE = "model.onnx"
SPEC_FILE = "notes.json"
TOKENIZER_FILE = "tokenizer.json"
LANGUAGE_FILE = "language.json"
ADAPTER_FILE = "adapter_model.safetensors"
ADAPTER_CONFIG_FILE = "adapter_config.json"

NOTE_FILES = (GRAPH_FILE, SPEC_FILE, TOKENIZER_FILE)
"""Of a note model: in its own folder, and in the folder ``NOTES_FOLDER`` of a version that reads notes."""
LANGUAGE_FILES = (LANGUAGE_FILE, ADAPTER_FILE, ADAPTER_CONFIG_FILE)
"""Of a language model. Its base is no part of the version; ``LANGUAGE_FILE`` holds the base's digest."""
INDEX_MANIFEST = "manifest.json"
"""Of an index of documents: it holds the digests of all other files of the index."""
ANSWERING_FILES = frozenset(
    {
        MODEL_FILE,
        PREDICTOR_FILE,
        *NOTE_FILES,
        *(f"{NOTES_FOLDER}/{name}" for name in NOTE_FILES),
        *LANGUAGE_FILES,
        INDEX_MANIFEST,
    }
)
"""All that a server reads, by relative name. A file that is not listed here must change no answer."""

MLFLOW_META = "registered_model_meta"
"""MLflow drops this file beside a model whenever someone loads it by its registered name."""


def digest(folder: str | Path) -> str:
    """SHA-256 over the sorted relative names and contents of the files that answer.

    Raises:
        NotFoundError: there is no such folder, or no such file in it.
    """
    return _digest(str(folder), answering_files(folder))


def answering_files(folder: str | Path) -> dict[str, bytes]:
    """The files that answer, by relative name, whatever their digest."""
    return _read_files(str(folder), answering_only=True)


def read_verified(settings: Settings, model: ModelRef) -> dict[str, bytes]:
    """The files that answer, by relative name: the very bytes whose digest was compared.

    Raises:
        NotFoundError: the files are gone.
        StorageError: they were changed.
    """
    return _verified(settings, model, answering_only=True)


def all_files(settings: Settings, model: ModelRef) -> dict[str, bytes]:
    """All files of a version, MLflow's too, for a version that is made from it.

    Raises:
        NotFoundError: the files are gone.
        StorageError: those that answer were changed.
    """
    return _verified(settings, model, answering_only=False)


def note_model_files(files: Mapping[str, bytes]) -> dict[str, bytes]:
    """The note model's files of a version that reads notes."""
    prefix = f"{NOTES_FOLDER}/"
    return {name.removeprefix(prefix): content for name, content in files.items() if name.startswith(prefix)}


def _verified(settings: Settings, model: ModelRef, answering_only: bool) -> dict[str, bytes]:
    folder = registry.locate(settings, model.uri)
    files = _read_files(folder, answering_only)
    answering = {name: content for name, content in files.items() if name in ANSWERING_FILES}
    if _digest(folder, answering) != model.digest:
        raise StorageError(
            f"The files of {model} were changed since it was registered; restore them from a backup or train it again."
        )
    return files


def _digest(folder: str, files: Mapping[str, bytes]) -> str:
    if not files:
        raise NotFoundError(
            f"There is no model in {folder}; train it again or restore the folder from a backup."
        )
    lines = (f"{name}\0{hashlib.sha256(content).hexdigest()}\n" for name, content in sorted(files.items()))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _read_files(folder: str, answering_only: bool) -> dict[str, bytes]:
    from pyarrow import fs

    filesystem, root = lake.filesystem(folder)
    listed = filesystem.get_file_info(fs.FileSelector(root, allow_not_found=True, recursive=True))
    paths = {os.path.relpath(info.path, root): info.path for info in listed if info.is_file}
    names = paths.keys() & ANSWERING_FILES if answering_only else paths.keys() - {MLFLOW_META}
    return {name: filesystem.open_input_stream(paths[name]).readall() for name in sorted(names)}
