"""Versions of an index under the artifact root: made of documents, grown by appending, cleaned by deletion.

Every change is a new version, whole; a server goes on with the one that it opened. What is embedded already is not
embedded again.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyarrow import compute as pc

from data_pipeline.documents import abstention_fit, passages
from data_pipeline.documents.passages import RejectedDocument
from data_pipeline.documents.readers import Read
from data_pipeline.retrieval import embedders, index_files
from data_pipeline.retrieval.index import Index
from data_pipeline.retrieval.index_files import Contents, Manifest
from mediscale.core.errors import NotFoundError, QualityError, UsageError
from mediscale.core.settings import Settings
from mediscale.storage import locks

DEFAULT = "documents"
"""The name of an index that nobody named."""


def folder(settings: Settings, name: str) -> Path:
    """Where the versions of an index are.

    Raises:
        UsageError: the artifact root is no folder of this machine.
    """
    if "://" in settings.artifact_root:
        raise UsageError(
            "An index is opened from a disk; set MEDISCALE_ARTIFACT_ROOT to a folder of this machine to make one."
        )
    return Path(settings.artifact_root) / "indexes" / name


def versions(settings: Settings, name: str) -> list[int]:
    """The numbers of the versions that there are, oldest first."""
    root = folder(settings, name)
    made = [int(each.name) for each in root.glob("*") if each.name.isdecimal()] if root.is_dir() else []
    return sorted(made)


def latest(settings: Settings, name: str) -> Path:
    """The folder of the newest version.

    Raises:
        NotFoundError: there is none.
    """
    numbers = versions(settings, name)
    if not numbers:
        raise NotFoundError(f"There is no index {name!r} in this home; make it with `mediscale index`.")
    return folder(settings, name) / str(numbers[-1])


def add(
    settings: Settings, name: str, read: Read, embedder: str = embedders.PACKAGED, key: str = ""
) -> tuple[Path, Manifest]:
    """A version with documents added to the newest one, or a first one of them. A file that is there is replaced.

    Raises:
        UsageError: the index has another embedder, or the embedder is not to be had.
        BusyError: somebody else changes this index.
    """
    with _alone(settings, name):
        new = passages.table(read.documents)
        if not versions(settings, name):
            used = embedders.load(settings, embedder, threads=0)
            fitted = abstention_fit.of_own_questions(settings, used)
            contents = Contents(new, index_files.embed(used, new), used, tuple(read.rejected), fitted)
        else:
            before = Index.open(latest(settings, name), threads=0)
            if before.manifest.embedder.name != embedder.partition("@")[0]:
                raise UsageError(
                    f"The index {name} was made with the embedder {before.manifest.embedder.name}; add with that one, "
                    "or make another index."
                )
            contents = _added(before, new, read.rejected)
        return _write(settings, name, contents, key)


def remove(settings: Settings, name: str, files: Sequence[str]) -> tuple[Path, Manifest]:
    """A version without the passages of some files.

    Raises:
        NotFoundError: there is no such index, or it has no passage of one of them.
        QualityError: nothing would be left.
        BusyError: somebody else changes this index.
    """
    with _alone(settings, name):
        before = Index.open(latest(settings, name))
        unknown = sorted(set(files) - set(before.passages["file"].to_pylist()))
        if unknown:
            raise NotFoundError(f"The index {name} has no passage of {', '.join(unknown)}.")
        return _write(settings, name, without(before, pc.is_in(before.passages["file"], pa.array(files))))


def without(before: Index, gone: pa.ChunkedArray) -> Contents:
    """What is left of an index without some of its passages.

    Raises:
        QualityError: nothing is.
    """
    rows = np.flatnonzero(~gone.to_numpy(zero_copy_only=False))
    if not len(rows):
        raise QualityError(
            f"Nothing would be left of the index {before.manifest.name}; delete its folder {before.folder.parent} "
            "instead."
        )
    return Contents(
        before.passages.take(rows),
        before.vectors(rows),
        before.embedder,
        before.manifest.rejected,
        before.abstention,
    )


def _alone(settings: Settings, name: str) -> AbstractContextManager[None]:
    return locks.exclusive(settings, f"index-{name}", f"A change of the index {name}")


def _added(before: Index, new: pa.Table, rejected: Sequence[RejectedDocument]) -> Contents:
    read = set(new["file"].to_pylist())
    gone = pc.is_in(before.passages["file"], pa.array(sorted(read)))
    rows = np.flatnonzero(~gone.to_numpy(zero_copy_only=False))
    again = read | {each.file for each in rejected}
    old_rejected = [each for each in before.manifest.rejected if each.file not in again]
    return Contents(
        passages=pa.concat_tables([before.passages.take(rows), new]),
        vectors=np.vstack([before.vectors(rows), index_files.embed(before.embedder, new)]),
        embedder=before.embedder,
        rejected=(*old_rejected, *rejected),
        abstention=before.abstention,
    )


def _write(settings: Settings, name: str, contents: Contents, key: str = "") -> tuple[Path, Manifest]:
    number = max(versions(settings, name), default=0) + 1
    path = folder(settings, name) / str(number)
    return path, index_files.write(path, name, number, contents, key)
