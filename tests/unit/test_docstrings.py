"""A docstring begins with its subject, so that its first sentence can be read, and searched for, alone."""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDERS = (
    "mediscale", "data_pipeline", "training", "serving", "monitoring", "kubeflow_pipelines", "dags", "infra"
)  # fmt: skip
NO_SUBJECT = frozenset({"As", "By", "It", "Its", "Of", "Per", "That", "Those", "With", "Without"})
"""Words that a sentence about something named elsewhere begins with."""


def docstrings() -> Iterator[tuple[str, str]]:
    for file in (file for folder in FOLDERS for file in sorted((ROOT / folder).rglob("*.py"))):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                name = getattr(node, "name", "module")
                yield f"{file.relative_to(ROOT)}:{name}", ast.get_docstring(node) or ""


def test_no_docstring_begins_without_its_subject() -> None:
    written = [(place, text) for place, text in docstrings() if text]
    assert len(written) > 2000
    assert [place for place, text in written if text.split()[0].rstrip(",:") in NO_SUBJECT] == []
