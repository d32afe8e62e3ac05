"""Commands as a person has to type them from the current folder."""

import os
import sys
from pathlib import Path
from shlex import quote

_PLACES = ("HOME", "LAKE", "ARTIFACT_ROOT", "TRUST")
"""Settings without which another shell would look elsewhere, or believe nobody."""


def program(name: str, home: bool = True) -> str:
    """The program as it must be typed from here, with the home and the other places that are not the default ones."""
    places = {name: os.environ.get(f"MEDISCALE_{name}") for name in _PLACES if home}
    prefix = "".join(f"MEDISCALE_{name}={quote(place)} " for name, place in places.items() if place)
    return f"{prefix}{quote(str(relative(Path(sys.executable).parent / name)))}"


def relative(path: Path) -> Path:
    """The path as it is written from the current folder; that folder itself by its whole path, not as a full stop."""
    is_below = path != Path.cwd() and path.is_relative_to(Path.cwd())
    return path.relative_to(Path.cwd()) if is_below else path
