"""Evidence files: one canonical JSON file for each call that measured something, bound by its SHA-256 digest."""

import hashlib
from pathlib import Path
from typing import TypeVar

from mediscale.core.errors import NotFoundError, StorageError
from mediscale.core.refs import Frozen, ModelRef
from mediscale.core.settings import Settings
from mediscale.storage import durable_files
from mediscale.storage.calls import canonical

EVIDENCE_FILE = "evidence.json"


class Keyed(Frozen):
    """What a stage call measured."""

    key: str
    """Of the stage call that measured it."""


class VersionEvidence(Keyed):
    """Evidence about one version of a model."""

    dataset: str
    model: ModelRef


E = TypeVar("E", bound=Keyed)


def write(settings: Settings, evidence: Keyed, file: str = EVIDENCE_FILE) -> tuple[str, str]:
    """Writes the file under the evidence's key; returns its path relative to the home, and its SHA-256."""
    relative = Path("evidence") / evidence.key / file
    content = canonical(evidence)
    durable_files.replace(settings.home / relative, content)
    return str(relative), hashlib.sha256(content.encode()).hexdigest()


def read_evidence(kind: type[E], settings: Settings, path: str, digest: str) -> E:
    """The evidence of this kind whose digest this is.

    Raises:
        NotFoundError: there is no such file.
        StorageError: it is not the file that was written, or lacks a field.
    """
    try:
        return kind.model_validate_json(read_verified(settings, path, digest))
    except ValueError as error:
        raise StorageError(f"The evidence at {path} is incomplete; evaluate the model again.") from error


def read_verified(settings: Settings, path: str, digest: str) -> bytes:
    """The file of this digest: the very bytes that were compared.

    Raises:
        NotFoundError: there is no such file.
        StorageError: it is not the file that was written.
    """
    try:
        content = (settings.home / path).read_bytes()
    except FileNotFoundError:
        raise NotFoundError(f"There is no evidence at {path}; restore it from a backup.") from None
    if hashlib.sha256(content).hexdigest() != digest:
        raise StorageError(
            f"The evidence at {path} was changed since it was written; restore it from a backup."
        )
    return content
