"""Source files as the digest of a stage's code sees them: their syntax and what they import, no comment and no layout.

Parsing a stage's hundred files takes longer than many a stage. What came of a file is kept beside Python's own compiled
form of it, together with the digest of the bytes it came from, so that a changed file is parsed again.
"""

import ast
import hashlib
import importlib.util
import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path

from mediscale.core.refs import Frozen


class ParsedSource(Frozen):
    """What a source file adds to the digest of whatever imports it."""

    source: str
    """SHA-256 of the file, and of this one, which says what is kept."""
    digest: str
    """Of the syntax tree."""
    imports: tuple[str, ...]
    """Names of modules, and of what is imported from them, which may be modules too."""


@cache
def parse(path: Path) -> ParsedSource:
    """The syntax of a source file, parsed once in a process: the stages share most of their files."""
    content = path.read_bytes()
    source = hashlib.sha256(_this() + content).hexdigest()
    file = Path(importlib.util.cache_from_source(str(path))).with_suffix(".syntax.json")
    with suppress(OSError, ValueError):
        record = ParsedSource.model_validate_json(file.read_bytes())
        if record.source == source:
            return record
    tree = ast.parse(content)
    digest = hashlib.sha256(ast.dump(tree).encode()).hexdigest()
    record = ParsedSource(source=source, digest=digest, imports=tuple(_imports(tree)))
    if not sys.dont_write_bytecode:
        with suppress(OSError):  # an image's code can't be written to; its build has kept what there is
            _keep(file, record, path.stat().st_mode)
    return record


@cache
def _this() -> bytes:
    return Path(__file__).read_bytes()


def _keep(file: Path, record: ParsedSource, mode: int) -> None:
    """Caches a parsed source for everybody who may read the source, as Python does with its compiled form."""
    file.parent.mkdir(exist_ok=True)
    partial = file.with_suffix(f".{os.getpid()}")
    partial.write_text(record.model_dump_json())
    partial.chmod(mode & 0o666)
    partial.replace(file)


def _imports(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
