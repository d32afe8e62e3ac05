"""Links to model cards: signed, so that whoever clicks one in an EHR needs no key, and good for half a day.

A browser sends no bearer token with a click, and a model card holds nothing of a patient. The key of the signatures is
made once; servers with folders of trust of their own are given the same file (docs/deployment.md).
"""

import hashlib
import hmac
import logging
import os
from collections.abc import Mapping
from functools import cached_property
from urllib.parse import parse_qsl, urlencode

from mediscale.core.errors import MediscaleError, StorageError
from mediscale.core.settings import Settings
from mediscale.storage import durable_files, signing

SECONDS = 12 * 3600

log = logging.getLogger("mediscale.serving")


class CardLinks:
    """Signs links and checks them."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    @cached_property
    def _secret(self) -> bytes:
        """The key; empty where there is none, for an answer is worth more than its link."""
        try:
            return self._read()
        except MediscaleError as error:
            log.warning("%s Until a restart this server's cards have no link to a model card.", error)
            return b""

    def _read(self) -> bytes:
        file = signing.trusted(
            self._settings, self._settings.trust / "card_links.key", "The key of card links"
        )
        try:
            if not file.exists():
                durable_files.create(file, os.urandom(32).hex())
            secret = file.read_bytes()
        except OSError as error:
            raise StorageError(f"{file} can't be made or read: {error.strerror}.") from error
        if len(secret) < 64:
            raise StorageError(f"{file} holds no key; delete it, and the server makes another one.")
        return secret

    def query(self, name: str, version: int, now: float) -> str:
        """The query of a link to a version's card; empty where there is no key to sign with."""
        if not self._secret:
            return ""
        expires = str(int(now) + SECONDS)
        return urlencode({"expires": expires, "signature": self._signature(name, str(version), expires)})

    def is_valid(self, path: Mapping[str, str], query: bytes, now: float) -> bool:
        """Whether a request has the query of a link to the card that its path names, which has not expired."""
        sent = dict(parse_qsl(query.decode("latin-1")))
        if not {"expires", "signature"} <= sent.keys() or not self._secret:
            return False
        own = self._signature(path["name"], path["version"], sent["expires"])
        return hmac.compare_digest(own.encode(), sent["signature"].encode()) and now < int(sent["expires"])

    def _signature(self, *signed: str) -> str:
        return hmac.new(self._secret, "\n".join(signed).encode(), hashlib.sha256).hexdigest()
