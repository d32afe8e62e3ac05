import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from mediscale.cli import main, verbs
from mediscale.core.settings import Settings
from mediscale.storage import locks, private_files


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


def test_a_command_writes_what_only_its_owner_reads(settings: Settings) -> None:
    assert main.main(["--help"]) == 0
    with locks.exclusive(settings, "stage", "It"):
        made = [settings.home, *settings.home.rglob("*")]
    assert len(made) == 3
    assert [path for path in made if path.stat().st_mode & private_files.OTHERS] == []


def test_an_open_home_is_closed_and_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    home = tmp_path / "home"
    home.mkdir(mode=0o755)
    monkeypatch.setenv("MEDISCALE_HOME", str(home))
    verbs.settings()
    assert home.stat().st_mode & 0o777 == 0o700
    assert "could be read by other accounts" in capsys.readouterr().err
    verbs.settings()
    assert capsys.readouterr().err == ""


def test_a_lake_of_its_own_that_others_can_enter_is_named(tmp_path: Path) -> None:
    for name in ("home", "lake"):
        (tmp_path / name).mkdir(mode=0o755)
    apart = Settings(home=tmp_path / "home", lake=str(tmp_path / "lake"))
    assert private_files.readable_by_others(apart) == [tmp_path / "home", tmp_path / "lake"]
    (tmp_path / "home").chmod(0o700)
    assert private_files.readable_by_others(apart) == [tmp_path / "lake"]
    elsewhere = Settings(home=tmp_path / "home", lake="s3://hospital/lake")
    assert private_files.readable_by_others(elsewhere) == []
