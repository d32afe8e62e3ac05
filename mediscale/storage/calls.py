"""Call records and runs: what each stage call did, written last, and which calls a run made.

A call without a record did not happen and is done again. Lineage, ``reproduce``, the model card and the audit trail are
reads of these files.
"""

import hashlib
import importlib.util
import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from mediscale.core.errors import StorageError
from mediscale.core.refs import Frozen, TableRef
from mediscale.core.settings import Settings
from mediscale.storage import lake, syntax

ROOT = Path(__file__).parents[2]
"""The repository, or where an image has its code."""
FIRST_PARTY = ("mediscale", "data_pipeline", "training", "serving", "monitoring")
_FOLDER = "_records"
_OLDER_FOLDERS = ("_manifests", "_calls")
"""What stood in its place in older layouts, which this release does not read."""
_LOCK = ROOT / "requirements" / "platform.txt"


class Output(Frozen):
    """A table that a stage left: its rows and its logical digest (independent of files, order and times)."""

    ref: TableRef
    rows: int
    digest: str


class Call(Frozen):
    """The record of one finished stage call."""

    stage: str
    key: str
    run_id: str
    """The run that made the call; runs that found it done name it in their own lists."""
    params: dict[str, Any]
    code: str
    """Digest of the stage module's first-party import closure."""
    lock: str
    """Digest of the locked environment."""
    result: dict[str, Any]
    inputs: tuple[str, ...]
    """Ids of the artifacts that the parameters name (``lineage``)."""
    produced: tuple[str, ...]
    """Ids of the artifacts that the result names and the parameters do not."""
    outputs: tuple[Output, ...]
    started_at: datetime
    seconds: float
    commit: str = ""
    """Of the checkout that the code lay in, where it was one. ``code`` says what ran: files may have been changed."""

    @property
    def task(self) -> str:
        """The task that the call was made for; empty for what the tasks share."""
        return str(self.params.get("task") or "")


class RunEntry(Frozen):
    """A call in the list of a run."""

    run_id: str
    stage: str
    key: str
    cached: bool
    """Whether another run had made the call before, and its result was taken."""
    at: datetime


def canonical(value: BaseModel | Mapping[str, Any]) -> str:
    """JSON with sorted keys and no spaces: equal values give equal text."""
    plain = value.model_dump(mode="json") if isinstance(value, BaseModel) else value
    return json.dumps(plain, sort_keys=True, separators=(",", ":"))


def key_of(stage: str, params: BaseModel, declarations: Mapping[str, Any], code: str) -> str:
    """The identity of a call: same stage, parameters, input versions, declarations, code and lock give the same key."""
    text = canonical(
        {
            "stage": stage,
            "params": params.model_dump(mode="json"),
            "declarations": declarations,
            "code": code,
            "lock": lock(),
        }
    )
    return hashlib.sha256(text.encode()).hexdigest()[:32]


@cache
def lock() -> str:
    """SHA-256 of the file of locked requirements."""
    return hashlib.sha256(_LOCK.read_bytes()).hexdigest()


@cache
def commit() -> str:
    """The commit that this checkout is at, by Git's own files; empty where the code lies in none."""
    git = ROOT / ".git"
    if git.is_file():  # a worktree's names its folder in the repository
        git = Path(git.read_text().removeprefix("gitdir:").strip())
    try:
        head = (git / "HEAD").read_text().strip()
    except OSError:
        return ""
    if not head.startswith("ref: "):
        return head
    branch = head.removeprefix("ref: ")
    shared = git / "commondir"
    repository = git / shared.read_text().strip() if shared.exists() else git
    for folder in (git, repository):
        if (folder / branch).is_file():
            return (folder / branch).read_text().strip()
    packed = repository / "packed-refs"
    lines = packed.read_text().splitlines() if packed.exists() else []
    return next((line.split()[0] for line in lines if line.endswith(f" {branch}")), "")


_DATA = frozenset({".csv", ".json", ".npz", ".yaml"})
"""Suffixes of the files that modules read as part of themselves."""


@cache
def code_digest(module: str) -> str:
    """SHA-256 over the syntax trees of the module's import closure, so that a comment changes nothing.

    The data beside these modules count too, such as tables of drugs and fitted rules; sources and tasks lie in folders
    of their own, and a call's key covers the one of each that its parameters name.
    """
    files = sorted(_closure(module).items())
    digest = hashlib.sha256()
    for name, path in files:
        digest.update(f"{name}\n{syntax.parse(path).digest}\n".encode())
    for folder in sorted({path.parent for _, path in files}):
        for path in sorted(path for path in folder.iterdir() if path.suffix in _DATA):
            digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()


def _closure(module: str) -> dict[str, Path]:
    closure: dict[str, Path] = {}
    waiting = [module]
    while waiting:
        name = waiting.pop()
        path = source_file(name)
        if name in closure or path is None:
            continue
        closure[name] = path
        waiting.extend(n for n in syntax.parse(path).imports if n.partition(".")[0] in FIRST_PARTY)
    return closure


@cache
def source_file(module: str) -> Path | None:
    """Where a module's source is; None for the name of a function in one. Nothing is imported to find it: what a stage
    imports late may take seconds."""
    package, *parts = module.split(".")
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        return None
    place = Path(spec.origin).parent.joinpath(*parts)
    return next((p for p in (place / "__init__.py", place.with_suffix(".py")) if p.is_file()), None)


def check_layout(settings: Settings) -> None:
    """Refuses a home whose layout is an older one.

    Raises:
        StorageError: the home was made by an older version, whose records and models this one does not read.
    """
    from pyarrow import fs

    filesystem, root = lake.filesystem(settings.lake.rstrip("/"))
    older = filesystem.get_file_info([f"{root}/{folder}" for folder in _OLDER_FOLDERS])
    if any(info.type != fs.FileType.NotFound for info in older):
        raise StorageError(
            f"{settings.home} was made by an older version of MediScale, which this one does not read; choose another "
            "MEDISCALE_HOME, or move this one away, and run again."
        )


def _folder(settings: Settings, stage: str) -> str:
    return f"{settings.lake.rstrip('/')}/{_FOLDER}/{stage}"


def _run_folder(settings: Settings, run_id: str) -> str:
    return f"{settings.lake.rstrip('/')}/_runs/{run_id}"


def write(settings: Settings, call: Call) -> None:
    """Writes a record whole or not at all."""
    _write(f"{_folder(settings, call.stage)}/{call.key}.json", call)


def forget(settings: Settings, call: Call) -> None:
    """Deletes a record: what the call did counts as not done, and is done again."""
    filesystem, path = lake.filesystem(f"{_folder(settings, call.stage)}/{call.key}.json")
    filesystem.delete_file(path)


def _write(uri: str, record: BaseModel) -> None:
    lake.write_whole(uri, record.model_dump_json(indent=1).encode())


def find(settings: Settings, stage: str, key: str) -> Call | None:
    """The record of a finished call, or None.

    Raises:
        StorageError: the file is there and can't be read as this call's record.
    """
    read = content(settings, stage, key)
    if read is None:
        return None
    damaged = StorageError(
        f"The record {stage}/{key}.json in the lake is damaged; restore it from a backup or, if nothing was staged "
        "since, delete it and run again, which redoes the stage."
    )
    try:
        call = Call.model_validate_json(read)
    except ValueError as error:
        raise damaged from error
    if (call.stage, call.key) != (stage, key):  # it would stand in another call's place
        raise damaged
    return call


def content(settings: Settings, stage: str, key: str) -> bytes | None:
    """The bytes of a record's file, or None."""
    try:
        return lake.read_whole(f"{_folder(settings, stage)}/{key}.json")
    except FileNotFoundError:
        return None


def of_stage(settings: Settings, stage: str) -> list[Call]:
    """All finished calls of a stage, oldest first."""
    keys = (Path(name).stem for name in _names(_folder(settings, stage)))
    records = (find(settings, stage, key) for key in keys)
    return sorted((call for call in records if call is not None), key=lambda call: call.started_at)


def newest_night(settings: Settings, stage: str, dataset: str, task: str) -> Call | None:
    """The finished call that saw the most of a hospital: a backfilled night is done after later ones."""
    records = [
        call
        for call in of_stage(settings, stage)
        if (call.params["dataset"], call.params["task"]) == (dataset, task)
    ]
    return max(records, key=_as_of, default=None)


def _as_of(call: Call) -> tuple[datetime, datetime]:
    """The time of a call's night: its ``as_of``, else when it ran."""
    ran = call.started_at.replace(tzinfo=None)
    as_of = call.params.get("as_of")
    return (datetime.fromisoformat(as_of) if as_of else ran), ran


def all_calls(settings: Settings) -> list[Call]:
    """All finished calls of all stages, oldest first."""
    records = [
        call for stage in _folders(_folder(settings, "").rstrip("/")) for call in of_stage(settings, stage)
    ]
    return sorted(records, key=lambda call: (call.started_at, call.key))


# --- runs --------------------------------------------------------------------------------------------------------


def new_run_id(runner: str) -> str:
    """An id that tells who ran and when (UTC), and no two runs share."""
    import secrets

    return f"{runner}-{datetime.now(UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(3)}"


def run_id_of(text: str) -> str:
    """An orchestrator's own id as the name of a folder.

    >>> run_id_of("mediscale_loop-manual__2026-11-28T01:00:00+00:00")
    'mediscale_loop-manual__2026-11-28T01-00-00-00-00'
    """
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", text).strip("-.")


def list_in_run(settings: Settings, run_id: str, call: Call) -> bool:
    """Enters a call into the list of a run; returns whether the run took it from another one.

    A repeated entry changes nothing: a task that is tried again finds its own finished work.
    """
    uri = f"{_run_folder(settings, run_id)}/{call.stage}-{call.key}.json"
    entry = _entry(uri)
    if entry is None:
        cached = call.run_id != run_id
        entry = RunEntry(run_id=run_id, stage=call.stage, key=call.key, cached=cached, at=datetime.now(UTC))
        _write(uri, entry)
    return entry.cached


def _entry(uri: str) -> RunEntry | None:
    try:
        return RunEntry.model_validate_json(lake.read_whole(uri))
    except FileNotFoundError:
        return None


def run_ids(settings: Settings) -> list[str]:
    """Ids of all runs that made or found a call."""
    return _folders(_run_folder(settings, "").rstrip("/"))


def entries(settings: Settings, run_id: str) -> list[RunEntry]:
    """The calls of a run in the order in which they ended."""
    folder = _run_folder(settings, run_id)
    records = (_entry(f"{folder}/{name}") for name in _names(folder))
    return sorted((entry for entry in records if entry is not None), key=lambda entry: (entry.at, entry.key))


def _names(uri: str) -> list[str]:
    return sorted(info.base_name for info in lake.list_files(uri) if info.base_name.endswith(".json"))


def _folders(uri: str) -> list[str]:
    from pyarrow import fs

    filesystem, folder = lake.filesystem(uri)
    infos = filesystem.get_file_info(fs.FileSelector(folder, allow_not_found=True))
    return sorted(info.base_name for info in infos if not info.is_file)
