"""The code digest follows what a stage imports, and nothing else."""

import ast
import shutil
from pathlib import Path

import pytest

from mediscale.storage import calls, syntax


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "lab"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "stage.py").write_text("def run():\n    from lab import helper\n    return helper.one()\n")
    (folder / "helper.py").write_text("def one():\n    return 1\n")
    (folder / "unrelated.py").write_text("x = 1\n")
    (folder / "rules.yaml").write_text("a: 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(calls, "FIRST_PARTY", ("lab",))
    return folder


def digest() -> str:
    for cached in (calls.code_digest, syntax.parse, calls.source_file):
        cached.cache_clear()
    return calls.code_digest("lab.stage")


@pytest.mark.parametrize(
    ("file", "text", "changes"),
    [
        ("helper.py", "def one():\n    return 2\n", True),
        ("helper.py", "def one():\n    return 1  # a comment\n", False),
        ("unrelated.py", "x = 2\n", False),
        ("rules.yaml", "a: 2\n", True),
        ("drugs.csv", "amikacin\n", True),
        ("weights.json", "{}", True),
        ("notes.md", "for people", False),
    ],
)
def test_code_digest_covers_the_import_closure(package: Path, file: str, text: str, changes: bool) -> None:
    before = digest()
    (package / file).write_text(text)
    assert (digest() != before) is changes


def test_a_file_that_was_parsed_before_is_not_parsed_again(
    package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = digest()
    with monkeypatch.context() as only:
        only.setattr(ast, "parse", None)
        assert digest() == before
    for kept in package.rglob("*.syntax.json"):
        kept.write_text("{")  # as a full disk may leave it
    assert digest() == before


def test_code_that_cannot_be_written_beside_has_the_same_digest(package: Path) -> None:
    before = digest()
    shutil.rmtree(package / "__pycache__")
    (package / "__pycache__").touch()
    assert digest() == before
