"""The files of a folder that somebody names."""

from pathlib import Path

import pytest

from mediscale.core.errors import InputError
from mediscale.core.folder_files import files_within


def test_files_of_folders_and_of_linked_ones_are_found_once_and_hidden_ones_are_not(tmp_path: Path) -> None:
    root, elsewhere = tmp_path / "extract", tmp_path / "elsewhere"
    for file in (
        root / "a.csv",
        root / "b" / "c" / "d.csv",
        root / ".b" / "e.csv",
        root / "lost+found" / "f",
    ):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    elsewhere.mkdir()
    (elsewhere / "._g.csv").touch()
    (elsewhere / "g.csv").touch()
    (root / "g").symlink_to(elsewhere)
    (root / "round").symlink_to(root)
    (root / "b" / "up").symlink_to("..")
    names = [file.relative_to(root).as_posix() for file in files_within(root)]
    assert names == ["a.csv", "b/c/d.csv", "g/g.csv"]
    assert [file.name for file in files_within(root, levels=0)] == ["a.csv"]


@pytest.mark.parametrize("place", ["labs", "labs.csv", "hosp/labs"])
def test_a_link_that_leads_nowhere_is_refused_wherever_it_stands(tmp_path: Path, place: str) -> None:
    """The folder of a disk that is not mounted would be one that the extract does not have."""
    (tmp_path / "hosp").mkdir()
    (tmp_path / place).symlink_to(tmp_path / "unmounted")
    with pytest.raises(InputError, match=r"labs.* is a link to what is not there; nothing was read"):
        list(files_within(tmp_path))
    (tmp_path / place).unlink()
    (tmp_path / place).symlink_to(tmp_path / place)
    with pytest.raises(InputError, match="is a link to what is not there"):
        list(files_within(tmp_path))
