"""What a stage did, written last: a call without a manifest did not happen and is done again.

Lineage, ``reproduce``, the model card and the audit trail are reads of these files.
"""

import ast
import hashlib
import importlib.util
import json
from collections.abc import Iterator, Mapping
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from mediscale.core.errors import StorageError
from mediscale.core.refs import Frozen, TableRef
from mediscale.core.settings import Settings
from mediscale.storage import lake

FIRST_PARTY = ("mediscale", "data_pipeline", "training", "serving", "monitoring")
_LOCK = Path(__file__).parents[2] / "requirements" / "platform.txt"


class Output(Frozen):
    """A table that a stage left: its rows and its logical digest (independent of files, order and times)."""

    ref: TableRef
    rows: int
    digest: str


class Manifest(Frozen):
    """One finished stage call."""

    stage: str
    key: str
    params: dict[str, Any]
    code: str
    """Digest of the stage module's first-party import closure and its packages' YAML files."""
    lock: str
    """Digest of the locked environment."""
    result: dict[str, Any]
    outputs: tuple[Output, ...]
    started_at: datetime
    seconds: float


def canonical(value: BaseModel | Mapping[str, Any]) -> str:
    """JSON with sorted keys and no spaces: equal values give equal text."""
    plain = value.model_dump(mode="json") if isinstance(value, BaseModel) else value
    return json.dumps(plain, sort_keys=True, separators=(",", ":"))


def key_of(stage: str, params: BaseModel, code: str) -> str:
    """The identity of a call: same stage, parameters, input versions, code and lock give the same key."""
    text = canonical({"stage": stage, "params": params.model_dump(mode="json"), "code": code, "lock": lock()})
    return hashlib.sha256(text.encode()).hexdigest()[:32]


@cache
def lock() -> str:
    return hashlib.sha256(_LOCK.read_bytes()).hexdigest()


@cache
def code_digest(module: str) -> str:
    """SHA-256 over the syntax trees of the module's import closure, so that a comment changes nothing."""
    files = sorted(_closure(module).items())
    digest = hashlib.sha256()
    for name, path in files:
        digest.update(f"{name}\n{ast.dump(_tree(path))}\n".encode())
    for package in sorted({name.split(".")[0] for name, _ in files}):
        for path in sorted(Path(_file(package) or "").parent.rglob("*.yaml")):
            digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()


def _closure(module: str) -> dict[str, Path]:
    found: dict[str, Path] = {}
    waiting = [module]
    while waiting:
        name = waiting.pop()
        path = _file(name)
        if name in found or path is None:
            continue
        found[name] = path
        waiting.extend(_imports(path))
    return found


def _imports(path: Path) -> Iterator[str]:
    for node in ast.walk(_tree(path)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            continue
        yield from (name for name in names if name.split(".")[0] in FIRST_PARTY)


@cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_bytes())


@cache
def _file(module: str) -> Path | None:
    """Where a module's source is; None for the name of a function in one. Nothing is imported to find it: what a stage
    imports late may take seconds."""
    package, *parts = module.split(".")
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        return None
    place = Path(spec.origin).parent.joinpath(*parts)
    return next((p for p in (place / "__init__.py", place.with_suffix(".py")) if p.is_file()), None)


def _folder(settings: Settings, stage: str) -> str:
    return f"{settings.lake.rstrip('/')}/_manifests/{stage}"


def write(settings: Settings, manifest: Manifest) -> None:
    """Writes under a temporary name and moves it into place, so that a reader never sees half of it."""
    filesystem, folder = lake.filesystem(_folder(settings, manifest.stage))
    filesystem.create_dir(folder, recursive=True)
    path = f"{folder}/{manifest.key}.json"
    with filesystem.open_output_stream(f"{path}.part") as stream:
        stream.write(manifest.model_dump_json(indent=1).encode())
    filesystem.move(f"{path}.part", path)


def find(settings: Settings, stage: str, key: str) -> Manifest | None:
    """The manifest of a finished call, or None.

    Raises:
        StorageError: the file is there and can't be read as a manifest.
    """
    filesystem, folder = lake.filesystem(_folder(settings, stage))
    path = f"{folder}/{key}.json"
    try:
        with filesystem.open_input_stream(path) as stream:
            return Manifest.model_validate_json(stream.read())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise StorageError(
            f"The manifest {stage}/{key}.json in the lake is damaged; delete it and run again, which redoes the stage."
        ) from error


def of_stage(settings: Settings, stage: str) -> list[Manifest]:
    """All finished calls of a stage, oldest first."""
    from pyarrow import fs

    filesystem, folder = lake.filesystem(_folder(settings, stage))
    infos = filesystem.get_file_info(fs.FileSelector(folder, allow_not_found=True))
    keys = (Path(info.path).stem for info in infos if info.path.endswith(".json"))
    found = (find(settings, stage, key) for key in keys)
    return sorted((m for m in found if m is not None), key=lambda m: m.started_at)


def newest_night(settings: Settings, stage: str, dataset: str, task: str) -> Manifest | None:
    """The finished call that saw the most of a hospital: a backfilled night is done after later ones."""
    found = [
        m for m in of_stage(settings, stage) if (m.params["dataset"], m.params["task"]) == (dataset, task)
    ]
    return max(found, key=_seen, default=None)


def _seen(call: Manifest) -> tuple[datetime, datetime]:
    """By when a call's night was, which is when it ran unless its ``as_of`` says otherwise."""
    ran = call.started_at.replace(tzinfo=None)
    as_of = call.params.get("as_of")
    return (datetime.fromisoformat(as_of) if as_of else ran), ran


def everything(settings: Settings) -> list[Manifest]:
    """All finished calls of all stages, oldest first."""
    from pyarrow import fs

    filesystem, root = lake.filesystem(_folder(settings, ""))
    infos = filesystem.get_file_info(fs.FileSelector(root, allow_not_found=True))
    stages = sorted(info.base_name for info in infos if not info.is_file)
    found = [one for stage in stages for one in of_stage(settings, stage)]
    return sorted(found, key=lambda m: (m.started_at, m.key))
