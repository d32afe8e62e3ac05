"""A file is replaced as a whole or not at all, and nothing unfinished stays beside it."""

import os
from pathlib import Path

import pytest

from mediscale.core import atomic_files
from mediscale.core.errors import UsageError
from mediscale.storage import durable_files


@pytest.mark.parametrize("write", [atomic_files.write_text, durable_files.replace])
def test_a_write_that_fails_leaves_the_old_content_and_nothing_beside_it(write, tmp_path: Path) -> None:
    path = tmp_path / "made" / "page.html"
    write(path, "Ärztin")
    with pytest.raises(UnicodeEncodeError):
        write(path, "new, and what UTF-8 has no bytes for: \ud800")
    assert path.read_text(encoding="utf-8") == "Ärztin"
    write(path, "new")
    assert path.read_text(encoding="utf-8") == "new"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("write", [atomic_files.write_text, durable_files.replace])
def test_what_is_no_file_is_not_replaced(write, tmp_path: Path) -> None:
    """As an administrator one can replace /dev/null by a report, for every process of the machine."""
    pipe, folder = tmp_path / "pipe", tmp_path / "folder"
    os.mkfifo(pipe)
    folder.mkdir()
    link = tmp_path / "link"
    link.symlink_to(pipe)
    for path, what in ((pipe, "a pipe"), (link, "a pipe"), (folder, "a folder")):
        with pytest.raises(UsageError, match=what):
            write(path, "a report")
    assert pipe.is_fifo()
    assert link.is_symlink()
    assert sorted(tmp_path.iterdir()) == [folder, link, pipe]


def test_the_old_content_is_read_until_the_new_one_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    path.write_text("old")
    with atomic_files.replacing(path) as part:
        part.write_text("half")
        assert path.read_text() == "old"
        part.write_text("whole")
    assert path.read_text() == "whole"
    assert list(tmp_path.iterdir()) == [path]
