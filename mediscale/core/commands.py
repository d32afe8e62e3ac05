"""Commands as a person has to type them from the current folder."""

import os
import sys
from pathlib import Path
from shlex import quote


def program(name: str, home: bool = True) -> str:
    """The program as it must be typed from here, with the home if it is not the default one."""
    moved = os.environ.get("MEDISCALE_HOME")
    prefix = f"MEDISCALE_HOME={quote(moved)} " if moved and home else ""
    return f"{prefix}{quote(str(relative(Path(sys.executable).parent / name)))}"


def relative(path: Path) -> Path:
    """The path as it is written from the current folder."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
