"""Model registry: the promotion history in the lake is the truth, MLflow's aliases follow it.

The history is read without MLflow, so that serving can follow it. MLflow is imported inside the functions that talk to
it, always through a client with explicit addresses: no global tracking state is set.
"""

import fcntl
import json
import logging
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlparse

from mediscale.core import network, refs, task_names
from mediscale.core.errors import MediscaleError, StorageError, UsageError
from mediscale.core.refs import ModelRef, TableRef
from mediscale.core.settings import Settings
from mediscale.storage import approvals
from mediscale.storage.history import append, bodies, entries
from mediscale.storage.history_entries import Alias, AliasMove, Draft, Entry

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

KEY_TAG = "mediscale.key"
"""Tag of runs, logged models and versions: the key of the stage call that made them."""

_TRAINING = {"mlflow.experimentKind": "custom_model_development"}
"""MLflow's UI opens an experiment of this kind with its runs and models instead of traces and prompts."""


class Move(AliasMove):
    """A move of an alias, with what the history's entry says around it."""

    sequence: int
    actor: str
    moved_at: datetime
    key: str

    @property
    def body(self) -> AliasMove:
        """The move without what the history's entry says around it."""
        return AliasMove.model_validate(self.model_dump(include=set(AliasMove.model_fields)))


def card_file(name: str, version: int) -> str:
    """The file of a version's model card, which lies beside the report."""
    return f"model-card-{name}-v{version}.html"


def card_page(settings: Settings, name: str, version: int) -> str:
    """Where servers find that page: under the artifact root, which they read; a home may be another machine's."""
    return f"{settings.artifact_root.rstrip('/')}/model-cards/{card_file(name, version)}"


def model_name(dataset: str, task: str) -> str:
    """Every hospital's model has its own name, so that none is ever judged against another hospital's."""
    return f"{dataset}-{task}"


def parse_version(text: str) -> tuple[str, str, int]:
    """Dataset, task and number of a version as people name it, ``MODEL/VERSION``.

    Raises:
        UsageError: it names no version of a task's model.
    """
    name, number = refs.parse_version(text) or (text, 0)
    tasks = (*task_names.all_names(), task_names.LANGUAGE)
    task = next((task for task in tasks if name.endswith(f"-{task}")), None)
    if task is None or not number:
        raise UsageError(f"{text!r} is no version of a task's model; name it as MODEL/VERSION.")
    return name.removesuffix(f"-{task}"), task, number


def locate(settings: Settings, uri: str) -> str:
    """Where a model's files are: a URI as it is, a path joined to the home.

    Raises:
        StorageError: that is not under the artifact root, from where alone models are loaded.
    """
    location = uri if "://" in uri else str(settings.home / uri)
    if not _is_inside(location, settings.artifact_root):
        raise StorageError(
            f"The model folder {uri} is not under the artifact root {settings.artifact_root}, so it is not loaded; "
            "move it there and register it anew, or set MEDISCALE_ARTIFACT_ROOT to where models are kept."
        )
    return location


def _is_inside(location: str, root: str) -> bool:
    """Whether a folder lies in another one: of paths on a disk, links followed, or of URIs."""
    location, root = location.removeprefix("file://"), root.removeprefix("file://").rstrip("/")
    if "://" in location:
        return location.startswith(f"{root}/") and ".." not in location.split("/")
    return Path(location).resolve().is_relative_to(Path(root or "/").resolve())


def relative(settings: Settings, location: str) -> str:
    """The ``ModelRef.uri`` of a folder: relative to the home when it lies inside, so that a home can be moved."""
    path = Path(location.removeprefix("file://"))
    return str(path.relative_to(settings.home)) if path.is_relative_to(settings.home) else location


# --- the history -------------------------------------------------------------------------------------------------


def history(settings: Settings, dataset: str) -> list[Move]:
    """Every alias move of the dataset's models, oldest first.

    Raises:
        StorageError: the history can't be read, or is not to be trusted (``history.entries``).
    """
    return moves_in(entries(settings, dataset))


def moves_in(recorded: Sequence[Entry]) -> list[Move]:
    """The alias moves among a history's entries."""
    return [
        Move(**dict(move), sequence=entry.sequence, actor=entry.actor, moved_at=entry.at, key=entry.key)
        for entry, move in bodies(recorded, AliasMove)
    ]


def attested(settings: Settings, dataset: str) -> list[Move]:
    """The moves that may be followed: of those into production the approved ones, where the dataset needs approval."""
    return attested_in(settings, entries(settings, dataset))


def attested_in(settings: Settings, recorded: Sequence[Entry]) -> list[Move]:
    """The moves of a history that was read already which may be followed: see ``attested``."""
    uncovered = approvals.uncovered(settings, recorded)
    return [move for move in moves_in(recorded) if move.sequence not in uncovered]


def current(settings: Settings, dataset: str, task: str, alias: Alias) -> Move | None:
    """The newest move of an alias, or None if it never pointed anywhere."""
    name = model_name(dataset, task)
    moves = [move for move in attested(settings, dataset) if (move.model, move.alias) == (name, alias)]
    return moves[-1] if moves else None


def succession(settings: Settings, dataset: str, version: ModelRef) -> str:
    """What took a version's place in production, as a sentence; empty while it is there, and of one that never was."""
    try:
        recorded = history(settings, dataset)
    except MediscaleError as error:
        return f"Whether it still is in production can't be told: {error}"
    moves = [move for move in recorded if (move.model, move.alias) == (version.name, "production")]
    left = [move for move in moves if move.from_version == version.version]
    if not left or moves[-1].to_version == version.version:
        return ""
    move = left[-1]
    return (
        f"It is not in production any more: v{move.to_version} took its place on {move.moved_at:%Y-%m-%d %H:%M} UTC, "
        f"by {move.actor}: {move.reason}"
    )


def next_sequence(settings: Settings, dataset: str) -> int:
    """The number that the next entry must carry. For callers, which resolve it into Params; never inside a stage."""
    return len(entries(settings, dataset)) + 1


def record(settings: Settings, dataset: str, *moves: Move) -> Move:
    """Appends moves with consecutive numbers in one commit; what the same key recorded before is not written again.

    Returns the first of them as the history has it.

    Raises:
        BusyError: another entry took the first number; nothing was written.
    """
    drafts = [Draft(move.body, move.actor, move.moved_at, move.key) for move in moves]
    (recorded,) = moves_in([append(settings, dataset, *drafts, sequence=moves[0].sequence)])
    return recorded


# --- MLflow ------------------------------------------------------------------------------------------------------


def client(settings: Settings) -> "MlflowClient":
    """A client of the tracking store and registry; makes its tables in a database on first use.

    Raises:
        StorageError: the store does not answer, or the database refuses who asks.
    """
    _check_tracking(settings.tracking_uri)
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # a hospital's machine reports to nobody
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # between a run's own lines
    settings.home.mkdir(parents=True, exist_ok=True)
    from mlflow.tracking import MlflowClient

    for noisy in ("mlflow", "alembic"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    # it prints the error that it raises
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
    connect = partial(MlflowClient, tracking_uri=settings.tracking_uri, registry_uri=settings.tracking_uri)
    if settings.tracking_uri.startswith(("http://", "https://")):
        return connect()
    # read alone: so may be a home that is audited
    lock = os.open(settings.home / "mlflow.lock", os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two that come first would both make its tables
        _begin_with_made_store(settings)
        client = connect()
        client.search_registered_models(max_results=1)
    finally:
        os.close(lock)
    return client


_MADE_STORE = Path(sys.prefix) / "store" / "mlflow.db"
"""What set-up left: an empty store with its tables."""


def _begin_with_made_store(settings: Settings) -> None:
    """Copies an empty store for a home that has none: MLflow's own migrations take ten seconds of a busy disk.

    Whoever names no experiment logs to MLflow's Default, whose files are put under our artifact root; by MLflow they
    would lie in ``mlruns`` where set-up ran.
    """
    uri = settings.tracking_uri
    file = Path(uri.removeprefix("sqlite:///"))
    if uri.startswith("sqlite:///") and not file.exists() and _MADE_STORE.exists():
        partial = file.with_name(f"{file.name}.partial")
        shutil.copyfile(_MADE_STORE, partial)
        with closing(sqlite3.connect(partial)) as store, store:
            folder = f"{settings.artifact_root.rstrip('/')}/Default"
            store.execute("UPDATE experiments SET artifact_location = ? WHERE name = 'Default'", (folder,))
        partial.replace(file)


def _check_tracking(uri: str) -> None:
    """Refuses at once a tracking store that does not answer: MLflow itself would try for minutes."""
    place = urlparse(uri)
    port = place.port or {"http": 80, "https": 443, "postgresql": 5432}.get(place.scheme.partition("+")[0])
    if place.hostname and port and not network.is_listening(f"{place.hostname}:{port}"):
        raise StorageError(
            f"MLflow's store at {place.hostname}:{port} does not answer; start it, or set MEDISCALE_TRACKING_URI to "
            "where it is."
        )
    if place.scheme.startswith("postgresql"):
        _check_database(uri)


def _check_database(uri: str) -> None:
    """Refuses at once a database that can't be used: MLflow would try for minutes, then print its password."""
    from sqlalchemy import create_engine
    from sqlalchemy.exc import OperationalError

    engine = create_engine(uri, connect_args={"connect_timeout": round(network.CONNECTS_WITHIN)})
    try:
        engine.connect().close()
    except OperationalError as error:
        message = " ".join(str(error.orig).split()).rstrip(".")  # the driver's own words hold no password
        raise StorageError(
            f"MLflow's database can't be used ({message}); set user, password and database in MEDISCALE_TRACKING_URI."
        ) from None
    finally:
        engine.dispose()


def experiment(settings: Settings, mlflow: "MlflowClient", name: str) -> str:
    """Id of the experiment of this name, whose files are put under our artifact root.

    MLflow keeps an experiment's folder for good, as an absolute path. In a home that was moved or copied that folder is
    the old home's: there the experiment keeps its runs under another name, and a new one takes its place.

    Raises:
        StorageError: a tracking server's experiment has its folder elsewhere.
    """
    folder = f"{settings.artifact_root.rstrip('/')}/{name}"
    experiment = mlflow.get_experiment_by_name(name)
    if experiment is not None and not _is_inside(experiment.artifact_location, settings.artifact_root):
        if not settings.tracking_uri.startswith("sqlite:"):  # others may use it as it is
            raise StorageError(
                f"MLflow's experiment {name} keeps its files in {experiment.artifact_location}, which is not under the "
                f"artifact root {settings.artifact_root}; set MEDISCALE_ARTIFACT_ROOT to a folder that it is in."
            )
        mlflow.rename_experiment(
            experiment.experiment_id, f"{name} (of a moved home, {experiment.experiment_id})"
        )
        experiment = None
    if experiment is None:
        with _made_by_another():
            mlflow.create_experiment(name, artifact_location=folder, tags=_TRAINING)
    return str(mlflow.get_experiment_by_name(name).experiment_id)


def version_of(mlflow: "MlflowClient", name: str, key: str) -> Any | None:
    """The version that the stage call of this key registered, or None."""
    registered: Sequence[Any] = mlflow.search_model_versions(
        f"name = '{name}' AND tags.`{KEY_TAG}` = '{key}'"
    )
    return registered[0] if registered else None


def register(mlflow: "MlflowClient", name: str, logged: Any, key: str, tags: Mapping[str, str]) -> int:
    """Registers a logged model once per key, and returns its version: a repeated call finds it."""
    registered = version_of(mlflow, name, key)
    if registered is None:
        with _made_by_another():
            mlflow.create_registered_model(name)
        # by its folder: a models:/ source is resolved by the SQL registry against MLflow's global tracking address
        registered = mlflow.create_model_version(
            name, source=logged.artifact_location, run_id=logged.source_run_id, tags={**tags, KEY_TAG: key}
        )
    versions = json.dumps([{"name": name, "version": int(registered.version)}])
    # the link that MLflow's UI shows
    mlflow.set_logged_model_tags(logged.model_id, {"mlflow.modelVersions": versions})
    return int(registered.version)


def dataset_input(ref: TableRef, context: str, part: str = "", digest: str = "") -> Any:
    """A table, or a part of it, as an input of an MLflow run; without a ``digest`` its version says which rows."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    source = {
        "path": f"{ref.dataset}/{ref.table}",
        "delta_table_version": ref.version,
        "delta_table_id": ref.table_id,
    }
    name = f"{ref.table}/{part}" if part else ref.table
    dataset = Dataset(
        name, digest[:16] or f"{ref.table_id[:8]}v{ref.version}", "delta_table", json.dumps(source)
    )
    return DatasetInput(dataset, [InputTag("mlflow.data.context", context)])


@contextmanager
def _made_by_another() -> Iterator[None]:
    """What is made here may be made by another process at this moment."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


class WrongAlias(NamedTuple):
    """An alias of MLflow's that does not say what the history says."""

    model: str
    alias: str
    says: int | None
    wanted: int | None


def wrong_aliases(settings: Settings, moves: Sequence[Move]) -> list[WrongAlias]:
    """The aliases that do not point where the moves, oldest first, pointed them."""
    from mlflow.exceptions import MlflowException

    versions = {(move.model, str(move.alias)): move.to_version for move in moves}
    mlflow, wrong = client(settings), []
    for name in sorted({model for model, _ in versions}):
        try:
            recorded = {alias: int(v) for alias, v in mlflow.get_registered_model(name).aliases.items()}
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            recorded = {}
        for alias in ("staging", "production"):
            says, version = recorded.get(alias), versions.get((name, alias))
            if says != version:
                wrong.append(WrongAlias(name, alias, says, version))
    return wrong


def repair(settings: Settings, dataset: str) -> int:
    """Makes MLflow's aliases say what the history says; returns how many were wrong.

    A crash between the history's commit and the alias leaves the alias behind; the next call of this puts it right.
    """
    moves = history(settings, dataset)
    wrong = wrong_aliases(settings, moves) if moves else []
    for name, alias, _, version in wrong:
        if version is None:
            client(settings).delete_registered_model_alias(name, alias)
        else:
            client(settings).set_registered_model_alias(name, alias, str(version))
    return len(wrong)


def repair_later(dataset: str) -> None:
    """Starts ``repair`` in a process of its own, with the environment's settings: importing MLflow takes seconds. It
    yields to servers, which follow the history meanwhile."""
    work = (
        "import os, sys; os.nice(10); from mediscale.core.settings import Settings; "
        "from mediscale.storage import registry; "
    )
    command = [sys.executable, "-c", f"{work}registry.repair(Settings(), sys.argv[1])", dataset]
    nowhere = subprocess.DEVNULL
    subprocess.Popen(command, stdin=nowhere, stdout=nowhere, stderr=nowhere, start_new_session=True)
