"""A lake in an S3 server: what is wrong is a sentence, writers lose nothing, one machine holds a lease."""

import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pyarrow as pa
import pytest

from mediscale.core.errors import BusyError, StorageError
from mediscale.core.settings import Settings
from mediscale.governance import integrity
from mediscale.storage import commits, lake, locks, object_store

pytestmark = pytest.mark.timeout(600)


@pytest.fixture
def store(settings: Settings, s3: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    """Settings of a lake of this test's own in the server."""
    for name, value in s3.items():
        monkeypatch.setenv(name, value)
    object_store._check.cache_clear()
    yield settings.model_copy(update={"lake": f"s3://hospital/{settings.home.parent.name}"})
    object_store._check.cache_clear()


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("AWS_SECRET_ACCESS_KEY", "wrong", r"^The store refuses to list s3://hospital: set the key and the secret"),
        ("AWS_ACCESS_KEY_ID", "nobody", r"^The store refuses to list s3://hospital: set the key and the secret"),
        ("AWS_ENDPOINT_URL", "http://127.0.0.1:1", r"^The store of s3://hospital does not answer at http://127.0.0.1:1;"),
        ("AWS_ALLOW_HTTP", "", r"by which records would travel in the clear; use https, or set AWS_ALLOW_HTTP=true"),
    ],
)  # fmt: skip
def test_a_store_that_can_t_be_used_is_a_sentence(
    store: Settings, monkeypatch: pytest.MonkeyPatch, name: str, value: str, sentence: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(StorageError, match=sentence):
        lake.exists(store, "h", "t")
    with pytest.raises(StorageError, match=sentence):
        lake.datasets(store)


def test_a_bucket_that_is_not_there_is_a_sentence(store: Settings) -> None:
    with pytest.raises(StorageError, match=r"^There is no bucket s3://elsewhere; make it"):
        lake.datasets(store.model_copy(update={"lake": "s3://elsewhere/lake"}))


def test_writers_at_the_same_moment_lose_no_version_and_no_row(store: Settings) -> None:
    """Each of them is a client of its own, as the servers of a hospital are."""
    writers, rounds = 4, 5

    def write(writer: int) -> list[int]:
        versions = []
        for number in range(rounds):
            rows = pa.table({"writer": [writer], "number": [number]})
            ref = commits.append(store, "t", rows, "h", f"writer {writer}", number)
            assert ref
            versions.append(ref.version)
        return versions

    with ThreadPoolExecutor(writers) as pool:
        list(pool.map(write, range(writers)))
    newest = lake.latest(store, "h", "t")
    assert newest.version == writers * rounds  # the first made the table
    rows = lake.read(store, newest).to_pylist()
    assert sorted((row["writer"], row["number"]) for row in rows) == [
        (writer, number) for writer in range(writers) for number in range(rounds)
    ]


def test_a_stage_that_runs_on_another_machine_is_not_begun(
    store: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each machine has a home of its own, so that no lock file tells."""
    monkeypatch.setattr(object_store, "RENEWED_EVERY", 0.2)
    other = store.model_copy(update={"home": store.home.with_name("another home")})
    with locks.exclusive(store, "bronze-h", "Stage bronze"):
        with (
            pytest.raises(
                BusyError, match=rf"^Stage bronze is already running on .* \(process {os.getpid()}\)"
            ),
            locks.exclusive(other, "bronze-h", "Stage bronze"),
        ):
            pass
        with locks.exclusive(other, "silver-h", "Stage silver"):
            pass
    with locks.exclusive(other, "bronze-h", "Stage bronze"):
        pass


def test_a_lease_of_a_machine_that_died_is_taken_over_and_the_dead_one_s_write_told(
    store: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stands still for longer than a lease lasts, and wakes."""
    monkeypatch.setattr(object_store, "EXPIRES_AFTER", 1.0)
    still, goes_on = threading.Event(), threading.Event()
    monkeypatch.setattr(object_store._Lease, "renew", lambda _self: None)

    def stands_still() -> None:
        with object_store.lease(store.lake, "h/t"):
            still.set()
            goes_on.wait(60)

    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(stands_still)
        assert still.wait(60)
        with object_store.lease(store.lake, "h/t", busy="Stage gold"):
            goes_on.set()
            with pytest.raises(
                BusyError, match=r"^This process stood still for more than 1 s, and another one took"
            ):
                slow.result(60)


def test_a_holder_that_lives_keeps_its_lease_and_no_clock_is_compared(
    store: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clock of the machine that waits is an hour ahead."""
    monkeypatch.setattr(object_store, "RENEWED_EVERY", 0.1)
    monkeypatch.setattr(object_store, "EXPIRES_AFTER", 20.0)
    held = []

    def wait() -> None:
        with object_store.lease(store.lake, "h/t"):
            held.append(time.monotonic())

    monkeypatch.setattr(time, "time", lambda: datetime.now(UTC).timestamp() + 3600)
    with ThreadPoolExecutor(1) as pool:
        with object_store.lease(store.lake, "h/t"):
            waits = pool.submit(wait)
            time.sleep(2)
            ended = time.monotonic()
        waits.result(60)
    assert held[0] >= ended


def test_a_bucket_that_keeps_no_versions_is_told(store: Settings) -> None:
    import boto3

    (warning,) = integrity.warnings(store)
    assert warning.startswith(f"The bucket of {store.lake} keeps no older versions of its objects")
    client = boto3.client("s3", endpoint_url=os.environ["AWS_ENDPOINT_URL"])
    client.create_bucket(Bucket="versioned")
    client.put_bucket_versioning(Bucket="versioned", VersioningConfiguration={"Status": "Enabled"})
    assert not object_store.lacks_versions("s3://versioned/lake")
    assert not object_store.lacks_versions("s3://elsewhere/lake")  # nobody can say
