"""Exclusions: whom ingest leaves out, because they were erased. Known again by a keyed digest, and by nothing else.

A patient who comes with the next extract has to be recognised, so something must be kept: HMAC-SHA-256 of the
hospital's number under a key of the dataset. Key and digests lie in the folder of trust, outside of home and lake. So
they outlive a home that is lost, and whoever reads the lake alone can't ask whether a number was erased. The file is
sorted: it does not say who was erased when, and so can't be joined to an entry of the history.
"""

import hashlib
import hmac
import json
import secrets
from collections.abc import Iterable
from pathlib import Path

from pydantic import ValidationError

from mediscale.core.errors import StorageError
from mediscale.core.refs import Frozen
from mediscale.core.settings import Settings
from mediscale.storage import durable_files


class Exclusions(Frozen):
    """The list of one dataset. It travels to Spark's workers, as the secret of the surrogates does."""

    key: str
    digests: tuple[str, ...] = ()

    def digest(self, number: str) -> str:
        """The keyed digest of the hospital's own number for a patient."""
        return hmac.new(bytes.fromhex(self.key), number.encode(), hashlib.sha256).hexdigest()

    def among(self, numbers: Iterable[str]) -> set[str]:
        """The numbers among these whose patients were erased."""
        digests = set(self.digests)
        return {number for number in numbers if self.digest(number) in digests}


def file(settings: Settings, dataset: str) -> Path:
    """Where the list of a dataset lies."""
    return settings.trust / "excluded" / f"{dataset}.json"


def exclude(settings: Settings, dataset: str, number: str) -> None:
    """Enters a patient by the hospital's own number. Returns when that is on disk.

    Raises:
        StorageError: the list is damaged or can't be written.
    """
    listed = load(settings, dataset) or Exclusions(key=secrets.token_hex(32))
    digests = tuple(sorted({*listed.digests, listed.digest(number)}))
    path = file(settings, dataset)
    try:
        durable_files.replace(path, listed.model_copy(update={"digests": digests}).model_dump_json(indent=1))
    except OSError as error:
        raise StorageError(
            f"The list of erased patients {path} can't be written: {error.strerror}."
        ) from error


def lists(settings: Settings, dataset: str, number: str) -> bool:
    """Whether a patient was erased.

    Raises:
        StorageError: the list is damaged.
    """
    listed = load(settings, dataset)
    return listed is not None and bool(listed.among([number]))


def fingerprint(settings: Settings, dataset: str) -> str:
    """What changes with the list; empty where nobody was erased. Part of the key of a call that reads an extract.

    Raises:
        StorageError: the list is damaged.
    """
    listed = load(settings, dataset)
    return hashlib.sha256("".join(listed.digests).encode()).hexdigest() if listed else ""


def load(settings: Settings, dataset: str) -> Exclusions | None:
    """The list; None where nobody was erased.

    Raises:
        StorageError: it is damaged.
    """
    path = file(settings, dataset)
    try:
        return Exclusions.model_validate(json.loads(path.read_text()))
    except FileNotFoundError:
        return None
    except (ValueError, ValidationError) as error:
        raise StorageError(
            f"The list of erased patients {path} is damaged, so nobody can be left out; restore it from a backup."
        ) from error
