"""Object stores (S3, GCS, ABFS) that hold a lake or models: whether one answers, and leases by conditional writes.

Where a store is and who asks is said by the provider's own environment variables (AWS_ENDPOINT_URL, AWS_REGION, keys or
a workload's role), which deltalake, Spark and MLflow read too.
"""

import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING, Any
from urllib.parse import urlparse

from mediscale.core import network
from mediscale.core.errors import BusyError, StorageError

if TYPE_CHECKING:
    from obstore.store import ObjectStore
    from pyarrow import fs

_SCHEMES = ("s3", "gs", "abfss")
_NO_BUCKET = ("NoSuchBucket", "ContainerNotFound", "The specified bucket does not exist")
"""Amazon's, Azure's and Google's word."""
_ANSWERS_WITHIN = timedelta(seconds=20)
"""Its clients try for three minutes by themselves, and each of them does."""

RENEWED_EVERY = 10.0
"""Seconds between the writes by which a holder says that it lives."""
EXPIRES_AFTER = 60.0
"""Seconds without such a write, by the clock of whoever waits: no two machines' clocks are compared."""
_LOOKS_EVERY = 0.2


def check(uri: str) -> None:
    """Asks the store of a URI once per process whether it answers, and answers us; does nothing for a path.

    Raises:
        StorageError: it can't be reached, has no such bucket, or refuses who asks.
    """
    place = urlparse(uri)
    if place.scheme in _SCHEMES:
        _check(f"{place.scheme}://{place.netloc}")


@cache
def _check(bucket: str) -> None:
    import obstore
    from obstore.exceptions import BaseError

    if endpoint := _endpoint(bucket):
        _check_endpoint(bucket, endpoint)
    try:
        obstore.list_with_delimiter(_store(bucket), "_locks")
    except BaseError as error:
        raise StorageError(_sentence(bucket, str(error))) from error


def _endpoint(bucket: str) -> str:
    return os.environ.get("AWS_ENDPOINT_URL", "") if bucket.startswith("s3://") else ""


def _check_endpoint(bucket: str, endpoint: str) -> None:
    place = urlparse(endpoint)
    if place.scheme == "http" and os.environ.get("AWS_ALLOW_HTTP", "").lower() not in ("1", "true"):
        raise StorageError(
            f"AWS_ENDPOINT_URL is {endpoint}, by which records would travel in the clear; use https, or set "
            "AWS_ALLOW_HTTP=true where nobody else is on the network."
        )
    port = place.port or (80 if place.scheme == "http" else 443)
    if not network.is_listening(f"{place.hostname}:{port}"):
        raise StorageError(
            f"The store of {bucket} does not answer at {endpoint}; start it, or set AWS_ENDPOINT_URL to where it is."
        )


def _sentence(bucket: str, error: str) -> str:
    """Why a store did not list a bucket. Clients say it in a page, with the code that the store gave in the middle."""
    if "RequestTimeTooSkewed" in error:
        return f"The store of {bucket} refuses this machine's requests, for its clock is wrong; set it (NTP)."
    if any(code in error for code in _NO_BUCKET):
        return f"There is no bucket {bucket}; make it, or set MEDISCALE_LAKE to one that is there."
    refused = ("AccessDenied", "SignatureDoesNotMatch", "InvalidAccessKeyId", "403", "401", "169.254.169.254")
    if any(code in error for code in refused):
        return (
            f"The store refuses to list {bucket}: set the key and the secret, or the role, of an account that may read "
            "and write it (for S3: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY)."
        )
    within = _ANSWERS_WITHIN.seconds
    return f"The store of {bucket} does not answer within {within} s; check the network and its address."


def lacks_versions(uri: str) -> bool:
    """Whether a bucket on S3 keeps nothing of what is overwritten or deleted; false where that can't be asked."""
    place = urlparse(uri)
    if place.scheme != "s3":
        return False
    import boto3
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        client = boto3.client("s3", endpoint_url=_endpoint(uri) or None)
        versioning = client.get_bucket_versioning(Bucket=place.netloc)
        return bool(versioning.get("Status") != "Enabled")
    except (BotoCoreError, ClientError):  # most often, that this account may not ask
        return False


def _store(root: str) -> "ObjectStore":
    from obstore.store import from_url

    return from_url(
        root,
        client_options={
            "allow_http": True,  # _check_endpoint asked
            "connect_timeout": timedelta(seconds=network.CONNECTS_WITHIN),
            "timeout": _ANSWERS_WITHIN,
        },
        retry_config={"max_retries": 3, "retry_timeout": _ANSWERS_WITHIN},
    )


def filesystem(uri: str) -> "tuple[fs.FileSystem, str]":
    """A file system for the URI of a store, and the path in it, by the client that reads and writes Delta tables."""
    from pyarrow import fs

    from mediscale.storage.delta_files import DeltaFiles

    place = urlparse(uri)
    return fs.PyFileSystem(DeltaFiles(f"{place.scheme}://{place.netloc}")), place.path.strip("/")


@contextmanager
def lease(root: str, name: str, busy: str = "") -> Iterator[None]:
    """The right to something of a lake, held by one process of all machines at a time; others wait.

    It is a small object of the lake that each holder replaces only if nobody else did since it was looked at. Given
    ``busy``, which begins the sentence, a lease whose holder lives is an error instead. A holder that died, or stood
    still, has lost it after ``EXPIRES_AFTER``.

    Raises:
        BusyError: the holder lives; or the lease was lost meanwhile.
    """
    check(root)
    mine = _Lease(_store(root), f"_locks/{name}.lease")
    mine.acquire(busy)
    renewal = threading.Thread(target=mine.renew, daemon=True)
    renewal.start()
    try:
        yield
    finally:
        mine.ended.set()
        renewal.join()
        mine.release()
    if mine.lost:
        raise BusyError(
            f"This process stood still for more than {EXPIRES_AFTER:.0f} s, and another one took over {name}; run "
            "again: what was finished is found."
        )


class _Lease:
    def __init__(self, store: "ObjectStore", path: str) -> None:
        self._store, self._path = store, path
        self._version: dict[str, Any] = {}
        self.ended = threading.Event()
        self.lost = False

    def acquire(self, busy: str) -> None:
        last_version: dict[str, Any] | None = None
        since = time.monotonic()
        while not self._put_if("create", is_held=True):
            content, version = self._look()
            expired = version == last_version and time.monotonic() - since > EXPIRES_AFTER
            if not content.get("host") or expired:
                if self._put_if(version, is_held=True):
                    return
            elif version != last_version:
                if last_version is not None and busy:  # it was renewed while we looked
                    raise BusyError(
                        f"{busy} is already running on {content['host']} (process {content['process']}); wait for it "
                        "to end, or stop that process, and run again."
                    )
                last_version, since = version, time.monotonic()
            time.sleep(_LOOKS_EVERY)

    def renew(self) -> None:
        from obstore.exceptions import BaseError

        last = time.monotonic()
        while not self.lost and not self.ended.wait(RENEWED_EVERY):
            try:
                self.lost = not self._put_if(self._version, is_held=True)
                last = time.monotonic()
            except BaseError:  # the store may be back before the lease expires
                self.lost = time.monotonic() - last > EXPIRES_AFTER

    def release(self) -> None:
        from obstore.exceptions import BaseError

        with suppress(BaseError):  # it expires by itself
            self.lost = self.lost or not self._put_if(self._version, is_held=False)

    def _put_if(self, mode: Any, is_held: bool) -> bool:
        """Whether the object was as ``mode`` says, and is now ours."""
        import obstore
        from obstore.exceptions import AlreadyExistsError, NotFoundError, PreconditionError

        content = {
            "host": socket.gethostname() if is_held else "",
            "process": os.getpid(),
            "write": secrets.token_hex(8),
        }
        try:
            result = obstore.put(self._store, self._path, json.dumps(content).encode(), mode=mode)
        except (AlreadyExistsError, PreconditionError, NotFoundError):
            return False
        self._version = {name: value for name, value in result.items() if value is not None}
        return True

    def _look(self) -> tuple[dict[str, Any], dict[str, Any]]:
        import obstore

        result = obstore.get(self._store, self._path)
        version = {
            name: result.meta[name] for name in ("e_tag", "version") if result.meta.get(name) is not None
        }
        return json.loads(bytes(result.bytes())), version
