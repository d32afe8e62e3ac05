"""A lake and its models in Azure's blob store, by Azurite: a fault is a sentence, writers lose nothing, one machine
holds a lease, and a loop leaves there what it leaves on a disk."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pytest
from fixtures import azurite
from fixtures.undisturbed_run import CONFIG, ROOT, around, finish, start, tables

from mediscale.core.errors import BusyError, StorageError
from mediscale.core.settings import Settings
from mediscale.storage import commits, datasets, lake, locks, object_store, registry

pytestmark = pytest.mark.timeout(1800)

PROGRAM = ROOT / ".venv-infra" / "azurite" / "node_modules" / ".bin" / "azurite-blob"


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    with azurite.azurite(PROGRAM, tmp_path_factory.mktemp("azurite")) as said:
        yield said


@pytest.fixture
def store(
    settings: Settings, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Settings]:
    """Settings of a lake of this test's own in the store."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    object_store._check.cache_clear()
    yield settings.model_copy(update={"lake": f"{azurite.ROOT}/{settings.home.parent.name}"})
    object_store._check.cache_clear()


def test_a_wrong_key_is_a_sentence(store: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", "d3Jvbmc=")
    with pytest.raises(StorageError, match=r"^The store refuses to list abfss://hospital@"):
        lake.datasets(store)


def test_a_container_that_is_not_there_is_a_sentence(store: Settings) -> None:
    elsewhere = azurite.ROOT.replace(azurite.CONTAINER, "elsewhere")
    with pytest.raises(StorageError, match=r"^There is no bucket abfss://elsewhere@.*; make it"):
        lake.datasets(store.model_copy(update={"lake": f"{elsewhere}/lake"}))


def test_writers_at_the_same_moment_lose_no_version_and_no_row(store: Settings) -> None:
    writers, rounds = 4, 5

    def write(writer: int) -> None:
        for number in range(rounds):
            rows = pa.table({"writer": [writer], "number": [number]})
            assert commits.append(store, "t", rows, "h", f"writer {writer}", number)

    with ThreadPoolExecutor(writers) as pool:
        list(pool.map(write, range(writers)))
    newest = lake.latest(store, "h", "t")
    assert newest.version == writers * rounds  # the first made the table
    rows = {(row["writer"], row["number"]) for row in lake.read(store, newest).to_pylist()}
    assert rows == {(writer, number) for writer in range(writers) for number in range(rounds)}
    assert lake.tables(store, "h") == ["t"]
    datasets.delete(store, "h")
    assert lake.datasets(store) == []


def test_one_machine_holds_a_lease(store: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(object_store, "RENEWED_EVERY", 0.2)
    held, goes_on = threading.Event(), threading.Event()

    def other_machine() -> None:
        home = store.model_copy(update={"home": store.home.with_name("another home")})
        with locks.exclusive(home, "bronze-h", "Stage bronze"):
            held.set()
            goes_on.wait(60)

    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(other_machine)
        assert held.wait(60)
        with (
            pytest.raises(BusyError, match=r"^Stage bronze is already running on "),
            locks.exclusive(store, "bronze-h", "Stage bronze"),
        ):
            pass
        goes_on.set()
        other.result(60)
    with locks.exclusive(store, "bronze-h", "Stage bronze"):
        pass


def test_a_loop_leaves_the_tables_and_models_of_a_disk(
    environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of one task, for the same loop runs twice."""
    places = {"MEDISCALE_LAKE": f"{azurite.ROOT}/lake", "MEDISCALE_ARTIFACT_ROOT": f"{azurite.ROOT}/models"}
    on_disk, in_store = (
        around(tmp_path / "disk" / "home"),
        {**around(tmp_path / "store" / "home"), **environment, **places},
    )
    for around_it in (on_disk, in_store):
        loop(around_it)
    disk = Settings(home=tmp_path / "disk" / "home")
    expected, moves = tables(disk), aliases(disk)
    for name, value in in_store.items():
        if os.environ.get(name) != value:
            monkeypatch.setenv(name, value)
    store = Settings()
    assert len(expected) > 15
    assert tables(store) == expected
    assert len(moves) > 0
    assert aliases(store) == moves


def loop(environment: dict[str, str]) -> None:
    """The tiny hospital's, and a verification that finds nothing."""
    program = str(Path(sys.executable).with_name("mediscale"))
    given = [word for setting in CONFIG for word in ("--set", setting)]
    finish(start([program, "run", "--size", "tiny", "--task", "readmission", *given], environment, ROOT))
    command = [program, "verify", "--dataset", "synthetic"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def aliases(settings: Settings) -> list[tuple[str, str, str]]:
    return [(move.model, move.alias, move.model_digest) for move in registry.history(settings, "synthetic")]
