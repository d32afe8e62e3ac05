"""The code digest follows what a stage imports, and nothing else."""

from pathlib import Path

import pytest

from mediscale.storage import calls


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
    for cached in (calls.code_digest, calls.parsed, calls.source_file):
        cached.cache_clear()
    return calls.code_digest("lab.stage")


@pytest.mark.parametrize(
    ("file", "text", "changes"),
    [
        ("helper.py", "def one():\n    return 2\n", True),
        ("helper.py", "def one():\n    return 1  # a comment\n", False),
        ("unrelated.py", "x = 2\n", False),
        ("rules.yaml", "a: 2\n", True),
    ],
)
def test_code_digest_covers_the_import_closure(package: Path, file: str, text: str, changes: bool) -> None:
    before = digest()
    (package / file).write_text(text)
    assert (digest() != before) is changes
