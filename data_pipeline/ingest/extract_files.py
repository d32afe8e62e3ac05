"""Files of an extract: which belong to which table, and their digest."""

import fnmatch
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import Literal

from data_pipeline.ingest import source as sources
from data_pipeline.ingest.source import Source
from mediscale.core import folder_files
from mediscale.core.errors import InputError

TEXT = (".csv", ".tsv", ".txt", ".psv")
"""Ends of names of text files with a delimiter; each may be compressed, ``.gz``."""
COLUMNAR = (".parquet",)
NESTED = (".ndjson", ".jsonl")
"""Ends of names of files with a JSON object a line; each may be compressed, ``.gz``."""
ENDINGS = tuple(sorted((*(f"{end}{gz}" for end in (*TEXT, *NESTED) for gz in ("", ".gz")), *COLUMNAR), key=len,
                       reverse=True))  # fmt: skip

SETTLED_SECONDS = 10
"""After a file was written: by then every file system tells by its times that it was written again."""

Format = Literal["CSV", "Parquet", "NDJSON"]


def format_of(path: Path) -> Format:
    """What a file of an extract is, by its name."""
    name = path.name.lower().removesuffix(".gz")
    return "Parquet" if name.endswith(COLUMNAR) else "NDJSON" if name.endswith(NESTED) else "CSV"


Files = dict[str, tuple[Path, ...]]
"""By table, its files."""


def _check_name(path: Path) -> None:
    """Refuses a name that is no text, which no engine opens.

    Raises:
        InputError: its bytes are not UTF-8.
    """
    try:
        str(path).encode()
    except UnicodeEncodeError:
        shown = str(path).encode(errors="replace").decode()
        raise InputError(f"The name {shown} is no text in UTF-8; nothing was landed. Rename it.") from None


def files_of(root: Path) -> dict[str, Path]:
    """The files of data in a folder and the folders within two levels, by their path in lower case.

    Raises:
        InputError: there is no such folder, a link in it leads nowhere, or two of its files differ in the case of their
            names alone.
        PermissionError: this account may not read a folder in it.
    """
    if not root.is_dir():
        raise InputError(f"There is no directory {root}; give the folder that holds the extract.")
    files: dict[str, Path] = {}
    _check_name(root)
    for path in folder_files.files_within(root, levels=2):
        if path.name.lower().endswith(ENDINGS):
            _check_name(path)
            named = path.relative_to(root).as_posix()
            if (other := files.setdefault(named.lower(), path)) is not path:
                raise _two_files_error(root, "the same name but for the case", (other, path))
    return files


def locate(source: Source, root: Path) -> Files:
    """The files of the extract by table, whatever their case, compressed or not, one or in parts.

    A table's file ``labs`` is ``labs.csv``, ``labs.csv.gz``, ``labs.parquet`` or every such file of a folder ``labs``;
    ``labs_*`` is each file whose name fits.

    Raises:
        InputError: the directory or a required table is missing, a table's files are of several formats, or a table
            stands there twice.
    """
    present = files_of(root)
    by_table = {
        name: files for name, table in source.tables.items() if (files := _files(table.file, present, root))
    }
    missing = [table.file for name, table in source.tables.items() if table.required and name not in by_table]
    if missing:
        raise InputError(
            f"{root} lacks {', '.join(f'{file}.csv.gz' for file in missing)}, which the source {source.name} requires;"
            " check the path, or that the extract was unpacked whole."
        )
    for name, files in by_table.items():
        if len(formats := sorted({format_of(file) for file in files})) > 1:
            raise InputError(
                f"The table {name} has {' and '.join(formats)} files in {root}; leave the files of one format there."
            )
    return by_table


def _two_files_error(root: Path, what: str, files: tuple[Path, ...]) -> InputError:
    names = " and ".join(file.relative_to(root).as_posix() for file in files)
    return InputError(
        f"{names} in {root} have {what}, and may not tell the same; nothing was landed. Leave one of them there."
    )


def _files(stem: str, present: Mapping[str, Path], root: Path) -> tuple[Path, ...]:
    """The files of a table: the one of that name, else all that its pattern or its folder has."""
    stem = stem.lower()
    if "*" not in stem:
        of_that_name = tuple(present[stem + end] for end in ENDINGS if stem + end in present)
        if len(of_that_name) > 1:
            raise _two_files_error(root, "the same table's name", of_that_name)
        if of_that_name:
            return of_that_name
        return tuple(path for name, path in sorted(present.items()) if name.rpartition("/")[0] == stem)
    return tuple(path for name, path in sorted(present.items()) if fnmatch.fnmatchcase(_stem(name), stem))


def _stem(name: str) -> str:
    return name.removesuffix(next(end for end in ENDINGS if name.endswith(end)))


def unread(files: Files, root: Path) -> list[Path]:
    """The files of data in the folder that no table is read from, largest first."""
    read = {file for parts in files.values() for file in parts}
    return sorted(set(files_of(root).values()) - read, key=lambda file: (-file.stat().st_size, file))


def digest_of(path: str, source: str) -> str:
    """The SHA-256 digest of the extract's files that the source declares; a caller passes it as ``extract_digest``.

    Raises:
        InputError: there is no such source, or the directory or a required table is missing.
    """
    root = Path(path)
    files = locate(sources.load(source), root)
    return digest(files, root, file_digests(files))


def digest(files: Files, root: Path, digests: Mapping[Path, str]) -> str:
    """The SHA-256 digest over the digests of the tables' files, in order of the tables' names."""
    import hashlib

    named = sorted(_named(files, root))
    return hashlib.sha256("".join(f"{name} {digests[file]}\n" for name, file in named).encode()).hexdigest()


def file_digests(files: Files) -> dict[Path, str]:
    """The SHA-256 digest of each file."""
    paths = sorted({path for parts in files.values() for path in parts})
    with ThreadPoolExecutor() as pool:
        return dict(zip(paths, pool.map(_file_digest, paths), strict=True))


def _named(files: Files, root: Path) -> Iterator[tuple[str, Path]]:
    for name, parts in files.items():
        if len(parts) == 1:
            yield name, parts[0]
        else:
            yield from ((f"{name} {part.relative_to(root).as_posix()}", part) for part in parts)


def _file_digest(path: Path) -> str:
    """The digest of a file, which is read once in a process: a run digests an extract before a stage lands it."""
    written = path.stat()
    if time.time() - written.st_mtime < SETTLED_SECONDS:
        return _sha256(path)
    return _settled_digest(path, written.st_ino, written.st_size, (written.st_mtime_ns, written.st_ctime_ns))


@lru_cache(1 << 14)
def _settled_digest(path: Path, inode: int, size: int, times: tuple[int, int]) -> str:  # noqa: ARG001 - of the key
    """The change's time tells, too, where a copy kept the time at which the original was written."""
    return _sha256(path)


def _sha256(path: Path) -> str:
    import hashlib

    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
