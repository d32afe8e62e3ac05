"""Versions of an index under the artifact root: made of documents, grown by appending, cleaned by deletion.

Every change is a new version, whole; a server goes on with the one that it opened. What is embedded already is not
embedded again.
"""

import shutil
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from contextlib import AbstractContextManager, suppress
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyarrow import compute as pc

from data_pipeline.documents import abstention_fit
from data_pipeline.documents.indexed_passages import indexed_passages
from data_pipeline.documents.readers import Read
from data_pipeline.retrieval import embedders, index_files, passage_vectors
from data_pipeline.retrieval.index import Index
from data_pipeline.retrieval.index_files import Contents, Manifest, OtherFormatError, RejectedDocument
from data_pipeline.retrieval.passage_vectors import PassageVectors
from mediscale.core.errors import NotFoundError, QualityError, StorageError, UsageError
from mediscale.core.refs import ModelRef
from mediscale.core.settings import Settings
from mediscale.inference import model_files, model_signature
from mediscale.storage import locks

DEFAULT = "documents"
"""The name of an index that nobody named."""


def folder(settings: Settings, name: str) -> Path:
    """The folder with the versions of an index.

    Raises:
        UsageError: the artifact root is no folder of this machine.
    """
    if "://" in settings.artifact_root:
        raise UsageError(
            "An index is opened from a disk; set MEDISCALE_ARTIFACT_ROOT to a folder of this machine to make one."
        )
    return Path(settings.artifact_root) / "indexes" / name


def versions(settings: Settings, name: str) -> list[int]:
    """The numbers of the versions that there are, oldest first; none where models lie in an object store."""
    if "://" in settings.artifact_root:
        return []
    root = folder(settings, name)
    numbers = [int(each.name) for each in root.glob("*") if each.name.isdecimal()] if root.is_dir() else []
    return sorted(numbers)


def latest(settings: Settings, name: str) -> Path:
    """The folder of the newest version, after its signature was verified.

    Raises:
        NotFoundError: there is none, or it is not signed.
        StorageError: the signature is not of a key that is accepted here, or of another manifest.
    """
    numbers = versions(settings, name)
    if not numbers:
        raise NotFoundError(f"There is no index {name!r} in this home; make it with `mediscale index`.")
    return _verified(settings, name, numbers[-1])


def digest(index: Index) -> str:
    """SHA-256 of an index: of its manifest."""
    return model_files.digest(index.folder)


def _reference(settings: Settings, name: str, version: int) -> ModelRef:
    place = folder(settings, name) / str(version)
    inside = place.is_relative_to(settings.home)
    uri = place.relative_to(settings.home).as_posix() if inside else str(place)
    return ModelRef(name=f"{name}-index", version=version, uri=uri, digest=model_files.digest(place))


def sign(settings: Settings, name: str, version: int) -> None:
    """Signs a version that is there."""
    model = _reference(settings, name, version)
    model_signature.sign(settings, model, model.digest)


def _verified(settings: Settings, name: str, version: int) -> Path:
    """The signature covers the manifest, with which ``Index.open`` compares all other files."""
    model = _reference(settings, name, version)
    try:
        model_signature.check(settings, model, model.digest)
    except NotFoundError:
        raise NotFoundError(
            f"The index {name}/{version} has no signature of its manifest as it is now, so one of them was changed or "
            "is gone; make the index again or restore it from a backup."
        ) from None
    return folder(settings, name) / str(version)


def version_of_call(settings: Settings, name: str, key: str) -> Index | None:
    """The version that a call made, if it still is the newest."""
    index = newest(settings, name)
    return index if index and index.manifest.key == key else None


def newest(settings: Settings, name: str, threads: int = 1) -> Index | None:
    """The newest version; None where there is none, or where another release made it, whose files are not read."""
    if not versions(settings, name):
        return None
    try:
        return Index.open(latest(settings, name), threads)
    except OtherFormatError:
        return None


def build(settings: Settings, name: str, read: Read, embedder: str, key: str) -> Index:
    """A version of these documents alone; what the newest version has embedded already is taken from it.

    Raises:
        UsageError: the embedder is not to be had.
        BusyError: somebody else changes this index.
    """
    with _alone(settings, name):
        before = newest(settings, name)
        used = embedders.load(settings, embedder, threads=0)
        new, vectors, injected = indexed_passages(settings, used, read, before)
        fitted = abstention_fit.of_own_questions(settings, used)
        contents = Contents(new, vectors, used, (*read.rejected, *injected), fitted)
        return Index.open(_write(settings, name, contents, key)[0])


def add(
    settings: Settings, name: str, read: Read, embedder: str = embedders.PACKAGED
) -> tuple[Path, Manifest]:
    """A version with documents added to the newest one, or a first one of them. A file that is there is replaced.

    Where another release made the newest one, it is made anew, of all its files.

    Raises:
        StorageError: another release made it, and some of its files are not among the documents.
        UsageError: the index has another embedder, or the embedder is not to be had.
        BusyError: somebody else changes this index.
    """
    with _alone(settings, name):
        before = newest(settings, name, threads=0)
        if before is None:
            _check_complete(settings, name, {each.file for each in read.documents})
        if before is not None and before.manifest.embedder.name != embedder.partition("@")[0]:
            raise UsageError(
                f"The index {name} was made with the embedder {before.manifest.embedder.name}; add with that one, or "
                "make another index."
            )
        used = before.embedder if before else embedders.load(settings, embedder, threads=0)
        new, vectors, injected = indexed_passages(settings, used, read, before)
        rejected = (*read.rejected, *injected)
        if before is None:
            contents = Contents(new, vectors, used, rejected, abstention_fit.of_own_questions(settings, used))
        else:
            contents = _added(before, new, vectors, rejected, {each.file for each in read.documents})
        return _write(settings, name, contents)


def _check_complete(settings: Settings, name: str, read: AbstractSet[str]) -> None:
    """Raises StorageError where a version of another release has files that were not read now."""
    numbers = versions(settings, name)
    if not numbers:
        return
    place = folder(settings, name) / str(numbers[-1])
    missing = sorted(set(index_files.read_passages(place)["file"].to_pylist()) - read)
    if missing:
        raise StorageError(
            f"The index {name} was made by another release and has to be made again from all of its files; "
            f"{len(missing)} were not named: {', '.join(missing[:5])}{', …' if len(missing) > 5 else ''}. Name them, "
            f"too, or delete {place.parent} to begin another one."
        )


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


def without(before: Index, removed: pa.ChunkedArray) -> Contents:
    """The contents of an index without some of its passages.

    Raises:
        QualityError: nothing is.
    """
    rows = np.flatnonzero(~removed.to_numpy(zero_copy_only=False))
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


def erase(settings: Settings, dataset: str, subject_id: int) -> int:
    """Removes a patient's passages from every index and every version; how many the newest versions had.

    A newest version without them is made first; then all versions that have some are deleted.
    """
    removed = 0
    for name in _names(settings):
        with _alone(settings, name):
            removed += _erase(settings, name, dataset, subject_id)
    return removed


def count(settings: Settings, dataset: str, subject_id: int) -> int:
    """A patient's passages in the newest version of every index."""
    places = (folder(settings, name) / str(versions(settings, name)[-1]) for name in _names(settings))
    return sum(int(pc.sum(_of_patient(place, dataset, subject_id)).as_py() or 0) for place in places)


def _names(settings: Settings) -> list[str]:
    if "://" in settings.artifact_root:
        return []
    root = folder(settings, "any").parent
    return sorted(each.name for each in root.glob("*") if versions(settings, each.name))


def _erase(settings: Settings, name: str, dataset: str, subject_id: int) -> int:
    root = folder(settings, name)
    numbers = versions(settings, name)
    with_some = {
        number: removed
        for number in numbers
        if pc.any(removed := _of_patient(root / str(number), dataset, subject_id)).as_py()
    }
    of_newest = with_some.get(numbers[-1])
    if of_newest is not None and not pc.all(of_newest).as_py():
        with suppress(OtherFormatError):  # nobody can open it: it goes, and the next run makes it again
            _write(settings, name, without(Index.open(root / str(numbers[-1])), of_newest))
    for left_behind in root.glob("*.partial"):
        shutil.rmtree(left_behind)
    for number in with_some:
        for signature in root.glob(f"{number}.*.sig"):
            signature.unlink()
        shutil.rmtree(root / str(number))
    return int(pc.sum(of_newest).as_py()) if of_newest is not None else 0


def _of_patient(place: Path, dataset: str, subject_id: int) -> pa.ChunkedArray:
    """Which passages are a patient's."""
    rows = index_files.read_passages(place).select(["dataset", "subject_id"])
    mine = pc.and_(pc.equal(rows["dataset"], dataset), pc.equal(rows["subject_id"], subject_id))
    return pc.fill_null(mine, False)


def _alone(settings: Settings, name: str) -> AbstractContextManager[None]:
    return locks.exclusive(settings, f"index-{name}", f"A change of the index {name}")


def _added(
    before: Index,
    new: pa.Table,
    vectors: PassageVectors,
    rejected: Sequence[RejectedDocument],
    read: AbstractSet[str],
) -> Contents:
    replaced = pc.is_in(before.passages["file"], pa.array(sorted(read)))
    rows = np.flatnonzero(~replaced.to_numpy(zero_copy_only=False))
    again = read | {each.file for each in rejected}
    old_rejected = [each for each in before.manifest.rejected if each.file not in again]
    return Contents(
        passages=pa.concat_tables([before.passages.take(rows), new]),
        vectors=passage_vectors.joined([before.vectors(rows), vectors]),
        embedder=before.embedder,
        rejected=(*old_rejected, *rejected),
        abstention=before.abstention,
    )


def _write(settings: Settings, name: str, contents: Contents, key: str = "") -> tuple[Path, Manifest]:
    number = max(versions(settings, name), default=0) + 1
    path = folder(settings, name) / str(number)
    manifest = index_files.write(path, name, number, contents, key)
    sign(settings, name, number)
    return path, manifest
