"""API keys: random secrets that are shown once, and the file of their hashes in ``Settings.trust``.

A key is ``msk_ID_SECRET``. The id names it in logs and on the command line; the secret is 256 random bits. So one
SHA-256 is enough: salts and slow hashes (bcrypt, Argon2) protect passwords, which can be guessed; nobody can try 2^256
secrets, and a slow hash would let anybody make a server work for seconds with a few requests.
"""

import hashlib
import hmac
import os
import re
import secrets
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from pydantic import ValidationError

from mediscale.core.errors import NotFoundError, StorageError, UsageError
from mediscale.core.refs import Frozen
from mediscale.core.settings import Settings
from mediscale.storage import durable_files, locks, signing
from serving.security.principal import Principal, Role

PREFIX = "msk_"
"""So that scanners for secrets recognise one in a repository or a chat."""
_ID_CHARACTERS, _SECRET_BYTES = 8, 32
_ID = slice(len(PREFIX), len(PREFIX) + _ID_CHARACTERS)
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._@-]{0,63}")


class ApiKey(Frozen):
    """What is kept of a key. Times are UTC without a zone."""

    id: str
    name: str
    """Whose it is: a person as the history names them, or a system."""
    roles: tuple[Role, ...]
    digest: str
    """SHA-256 of the whole key, in hexadecimal."""
    created_at: datetime
    created_by: str
    expires_at: datetime
    revoked_at: datetime | None = None
    revoked_by: str | None = None

    def state(self, now: datetime) -> str:
        """``active``, ``expired`` or ``revoked``."""
        if self.revoked_at is not None:
            return "revoked"
        return "active" if now < self.expires_at else "expired"


class _File(Frozen):
    keys: tuple[ApiKey, ...] = ()


def path(settings: Settings) -> Path:
    """The file of the keys' hashes.

    Raises:
        UsageError: that is where the pipeline writes, so that whoever can write there could make a key.
    """
    return signing.trusted(settings, settings.trust / "api_keys.json", "The file of API keys")


def read(settings: Settings) -> tuple[ApiKey, ...]:
    """Every key that was made, oldest first; none where no key ever was.

    Raises:
        StorageError: the file can't be read, or other accounts can write it.
    """
    file = path(settings)
    try:
        with file.open("rb") as stream:
            if os.fstat(stream.fileno()).st_mode & (stat.S_IWGRP | stat.S_IWOTH):
                raise StorageError(
                    f"Other accounts can write {file}, so no API key is accepted; chmod 600 it."
                )
            return _File.model_validate_json(stream.read()).keys
    except FileNotFoundError:
        return ()
    except (OSError, ValidationError) as error:
        raise StorageError(f"{file} can't be read, so no API key is accepted; restore it.") from error


def create(
    settings: Settings, name: str, roles: tuple[Role, ...], expires_at: datetime, actor: str, now: datetime
) -> tuple[ApiKey, str]:
    """A new key, and the only copy of its text.

    Raises:
        UsageError: the name can't be one, or the key would have expired already.
        StorageError: the file can't be read or written.
    """
    if not NAME.fullmatch(name):
        raise UsageError(
            "--name takes 1 to 64 letters, digits, blanks and . _ @ - and begins with a letter or digit."
        )
    if expires_at <= now:
        raise UsageError("--expires lies in the past; the key would never be accepted.")
    identifier = secrets.token_hex(_ID_CHARACTERS // 2)
    text = f"{PREFIX}{identifier}_{secrets.token_urlsafe(_SECRET_BYTES)}"
    key = ApiKey(
        id=identifier,
        name=name,
        roles=roles,
        digest=_digest(text.encode()),
        created_at=now,
        created_by=actor,
        expires_at=expires_at,
    )
    with _exclusively(settings):
        _write(path(settings), (*read(settings), key))
    return key, text


def revoke(settings: Settings, which: str, actor: str, now: datetime) -> tuple[ApiKey, ...]:
    """Ends the key with an id, or every key of a name; servers refuse them within seconds. It stays in the list.

    Raises:
        NotFoundError: no key of that id or name is active.
        StorageError: the file can't be read or written.
    """
    with _exclusively(settings):
        keys = read(settings)
        ended = {
            key.id: key.model_copy(update={"revoked_at": now, "revoked_by": actor})
            for key in keys
            if which in (key.id, key.name) and key.state(now) == "active"
        }
        if not ended:
            raise NotFoundError(
                f"No active key has the id or name {which!r}; `mediscale keys list` lists them."
            )
        _write(path(settings), tuple(ended.get(key.id, key) for key in keys))
    return tuple(ended.values())


def by_id(keys: tuple[ApiKey, ...]) -> Mapping[bytes, tuple[bytes, float, Principal]]:
    """What a server looks up: of each key that was not revoked its digest, when it expires (seconds since 1970) and
    whom it proves."""
    return {
        key.id.encode(): (
            bytes.fromhex(key.digest),
            key.expires_at.replace(tzinfo=UTC).timestamp(),
            Principal(key.name, f"key {key.id}", frozenset(key.roles)),
        )
        for key in keys
        if key.revoked_at is None
    }


def verify(keys: Mapping[bytes, tuple[bytes, float, Principal]], text: bytes, now: float) -> Principal | None:
    """Whom the key's text proves now; None where it is no valid key. Digests are compared in constant time."""
    key = keys.get(text[_ID])
    if key is None:
        return None
    digest, expires_at, principal = key
    same = hmac.compare_digest(hashlib.sha256(text).digest(), digest)
    return principal if same and now < expires_at else None


def _digest(text: bytes) -> str:
    return hashlib.sha256(text).hexdigest()


@contextmanager
def _exclusively(settings: Settings) -> Iterator[None]:
    """One command changes the file at a time; others wait."""
    try:
        settings.trust.mkdir(mode=0o700, parents=True, exist_ok=True)
        with locks.blocking_lock(path(settings).with_suffix(".lock")):
            yield
    except OSError as error:
        raise StorageError(f"{settings.trust} can't be written: {error.strerror}.") from error


def _write(file: Path, keys: tuple[ApiKey, ...]) -> None:
    durable_files.replace(file, _File(keys=keys).model_dump_json(indent=1))
