"""Compiled SQL: the engine's text of each query, kept in the home between runs.

Parsing what a source's file says takes longer than the rows of a night do. A text is kept by the digest of the query,
of the code that compiles it and of the locked packages; those of other code are deleted.
"""

import hashlib
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path

from mediscale.core.settings import Settings
from mediscale.storage import calls, durable_files

_FOLDER: ContextVar[Path | None] = ContextVar("folder of compiled SQL", default=None)


@contextmanager
def cached_in(settings: Settings, compiler: str) -> Iterator[None]:
    """Keeps in the home what ``compiled_text`` compiles within, by the module ``compiler``."""
    version = hashlib.sha256(f"{calls.code_digest(compiler)} {calls.lock()}".encode()).hexdigest()
    before = _FOLDER.set(settings.home / "sql" / version[:16])
    try:
        yield
    finally:
        _FOLDER.reset(before)


def compiled_text(query: str, compile_query: Callable[[str], str]) -> str:
    """What ``compile_query`` makes of a query, now or in an earlier run."""
    folder = _FOLDER.get()
    if folder is None:
        return compile_query(query)
    file = folder / f"{hashlib.sha256(query.encode()).hexdigest()}.sql"
    with suppress(OSError):
        return file.read_text("utf-8")
    text = compile_query(query)
    with suppress(OSError):  # of a home that is full or read-only the next run compiles again
        if not folder.exists():
            for other in folder.parent.glob("*"):
                shutil.rmtree(other, ignore_errors=True)
        durable_files.replace(file, text)
    return text
