"""The files of a folder that somebody names, in which what can't be looked into is no absent thing."""

from collections.abc import Iterator
from pathlib import Path

from mediscale.core.errors import InputError

_OF_THE_FILE_SYSTEM = "lost+found"
"""A folder at the root of a disk, which its administrator alone may read."""


def files_within(root: Path, levels: int = 64) -> Iterator[Path]:
    """Every file of a folder and of the folders in it, linked ones included, hidden ones aside.

    Raises:
        InputError: a link leads nowhere.
        PermissionError: this account may not read a folder; ``glob`` passes over it without a word.
    """
    return _within(root, levels, frozenset())


def _within(folder: Path, levels: int, above: frozenset[Path]) -> Iterator[Path]:
    real = folder.resolve()
    if real in above:  # a link to a folder that it lies in
        return
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or path.name == _OF_THE_FILE_SYSTEM:
            continue
        if path.is_symlink() and not path.exists():
            raise InputError(
                f"{path.name} in {folder} is a link to what is not there; nothing was read. Is its disk mounted? "
                "Otherwise remove the link."
            )
        if path.is_file():
            yield path
        elif levels and path.is_dir():
            yield from _within(path, levels - 1, above | {real})
