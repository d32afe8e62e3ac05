"""Signatures: the key that signs here, and the public keys that are accepted, each under the name of who signs with it.

ECDSA on the curve P-256 with SHA-256. Neither the private key nor the accepted keys may lie where the pipeline writes:
who can write the home, the lake or the models must not be able to make anybody believe them.
"""

import base64
import binascii
import hashlib
import logging
import os
import shlex
import subprocess
import textwrap
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from mediscale.core import caller
from mediscale.core.errors import UsageError
from mediscale.core.settings import Settings
from mediscale.storage import durable_files, locks

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric import ec

log = logging.getLogger("mediscale.trust")

ROLES = frozenset({"service", "approver", "retired"})
"""What may stand between a name and ``.pem``. A key without ``service`` signs for the person of its name alone."""

CURVE = "secp256r1"
_DER_SEQUENCE = b"\x30"
SIGNING_SECONDS = 60
"""How long a signing command may take."""


@dataclass(frozen=True)
class AcceptedKey:
    """A public key, and under which name and roles it is accepted."""

    name: str
    roles: frozenset[str]
    der: bytes
    """The key as a DER SubjectPublicKeyInfo."""

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the key, in hexadecimal."""
        return hashlib.sha256(self.der).hexdigest()

    @property
    def pem(self) -> bytes:
        """The key in PEM."""
        lines = textwrap.wrap(base64.b64encode(self.der).decode(), 64)
        return "\n".join(["-----BEGIN PUBLIC KEY-----", *lines, "-----END PUBLIC KEY-----", ""]).encode()

    def verifies(self, content: bytes, signature: bytes) -> bool:
        """Whether it is this key's signature of the content, ECDSA with SHA-256 in DER."""
        return _verifies(self.der, content, signature)

    def may_name(self, actor: str) -> bool:
        """Whether an entry that this key signed may say that ``actor`` did it."""
        return actor == self.name or "service" in self.roles


@dataclass(frozen=True)
class Signer:
    """A key that signs here, and how it signs."""

    key: AcceptedKey
    sign: Callable[[bytes], bytes]
    """The DER signature of some bytes."""


# --- who is accepted ---------------------------------------------------------------------------------------------


def accepted_keys(settings: Settings) -> Mapping[str, AcceptedKey]:
    """The public keys that are accepted here, by fingerprint.

    Raises:
        UsageError: a file is no public key on P-256, or the folder lies where the pipeline writes.
    """
    folder = trusted(settings, settings.public_keys, "The folder of accepted public keys")
    keys = (_accepted(file) for file in sorted(folder.glob("*.pem")))
    return {key.fingerprint: key for key in keys}


def _accepted(file: Path) -> AcceptedKey:
    parts = file.name.removesuffix(".pem").split(".")
    roles = set()
    while len(parts) > 1 and parts[-1] in ROLES:
        roles.add(parts.pop())
    return AcceptedKey(".".join(parts), frozenset(roles), _der(_public(file.read_bytes(), file)))


def _public(pem: bytes, file: Path) -> "ec.EllipticCurvePublicKey":
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    try:
        public = serialization.load_pem_public_key(pem)
    except ValueError:
        public = None
    if isinstance(public, ec.EllipticCurvePublicKey) and public.curve.name == CURVE:
        return public
    raise UsageError(f"{file} holds no public key on the curve P-256 in PEM; replace it or take it away.")


def _der(public: "ec.EllipticCurvePublicKey") -> bytes:
    from cryptography.hazmat.primitives import serialization

    return public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


@lru_cache(maxsize=16384)
def _verifies(der: bytes, content: bytes, signature: bytes) -> bool:
    """Whether a signature is that of a public key, remembered: a server looks every second."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    public = serialization.load_der_public_key(der)
    assert isinstance(public, ec.EllipticCurvePublicKey)
    try:
        public.verify(signature, content, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        return False
    return True


# --- who signs ---------------------------------------------------------------------------------------------------


def signer(settings: Settings) -> Signer:
    """The key that signs here; the account's own is made at first need, where none is set.

    Raises:
        UsageError: the key can't be read, lies where the pipeline writes, or is not accepted here; the command fails.
    """
    sign = _command(settings) if settings.signing_command else _private_key(settings)
    probe = b"Which of the accepted keys is it?"
    signature = sign(probe)
    for key in accepted_keys(settings).values():
        if key.verifies(probe, signature):
            if "retired" in key.roles:
                raise UsageError(
                    f"The signing key is {key.name}'s retired one; set MEDISCALE_SIGNING_KEY to another."
                )
            return Signer(key, sign)
    source = "MEDISCALE_SIGNING_COMMAND" if settings.signing_command else str(settings.signing_key)
    raise UsageError(
        f"The key of {source} is not accepted here; put its public half as NAME.pem into {settings.public_keys}, NAME "
        "being who signs with it."
    )


def actor(settings: Settings) -> str:
    """The actor of an entry: whom an orchestrator names by MEDISCALE_ACTOR (only a service's key can sign that), else
    who signs."""
    return os.environ.get("MEDISCALE_ACTOR") or signer(settings).key.name


def _private_key(settings: Settings) -> Callable[[bytes], bytes]:
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    file = trusted(settings, settings.signing_key, "The signing key")
    if not file.exists():
        _make(settings, file)
    try:
        private = serialization.load_pem_private_key(file.read_bytes(), password=None)
    except (OSError, ValueError, TypeError) as error:
        raise UsageError(f"The signing key {file} can't be read as an unencrypted PEM file.") from error
    if not isinstance(private, ec.EllipticCurvePrivateKey) or private.curve.name != CURVE:
        raise UsageError(f"The signing key {file} is no private key on the curve P-256.")
    return lambda content: private.sign(content, ec.ECDSA(hashes.SHA256()))


def _make(settings: Settings, file: Path) -> None:
    """The account's own key and its public half under the account's name; only where nothing was set.

    Raises:
        UsageError: a key or a folder of accepted keys was set, so a new key would be nobody's.
    """
    if (file, settings.public_keys) != (settings.trust / "signing_key.pem", settings.trust / "signers"):
        raise UsageError(
            f"There is no signing key at {file}; mount it or set MEDISCALE_SIGNING_KEY or MEDISCALE_SIGNING_COMMAND."
        )
    make_account_key(settings, file)
    log.warning("A signing key was made in %s: it signs what you decide. Keep a copy; never share it.", file)


def make_account_key(settings: Settings, private_file: Path) -> None:
    """Makes the account's own key, with its public half under the account's name among the accepted ones."""
    make_key(private_file, settings.public_keys / f"{caller.account().replace('/', '-')}.pem")


def service_settings(settings: Settings, name: str) -> dict[str, str]:
    """Settings with which processes sign as a service that names the person whom it authenticated; its key is made at
    first need. Nothing where a key or a command was set."""
    if settings.signing_command or settings.signing_key != settings.trust / "signing_key.pem":
        return {}
    file = trusted(settings, settings.trust / f"{name}_key.pem", "The signing key")
    make_key(file, settings.public_keys / f"{name}.service.pem")
    return {"MEDISCALE_SIGNING_KEY": str(file)}


def make_key(private_file: Path, public_file: Path) -> None:
    """Makes a key, only its account can read the private file; another process that makes it first wins."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    for folder in (private_file.parent, public_file.parent):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with locks.blocking_lock(private_file.with_suffix(".lock")):
        if not private_file.exists():
            public_file.write_bytes(public)  # first: a key whose public half is missing would sign for nobody
            durable_files.replace(private_file, private.decode())


def _command(settings: Settings) -> Callable[[bytes], bytes]:
    def sign(content: bytes) -> bytes:
        command = shlex.split(settings.signing_command)
        try:
            done = subprocess.run(
                command, input=content, capture_output=True, timeout=SIGNING_SECONDS, check=True
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise UsageError(
                f"MEDISCALE_SIGNING_COMMAND ({command[0]}) failed, so nothing was signed."
            ) from error
        der = done.stdout
        if not der.startswith(_DER_SEQUENCE):
            with suppress(binascii.Error):
                der = base64.b64decode(der.strip(), validate=True)
        return der

    return sign


def trusted(settings: Settings, path: Path, what: str) -> Path:
    """The path of what decides whom to believe, if it lies outside of all that the pipeline writes.

    Raises:
        UsageError: it lies in the home, the lake or the artifact root.
    """
    for root in (str(settings.home), settings.lake, settings.artifact_root):
        place = Path(root.removeprefix("file://"))
        if "://" not in str(root.removeprefix("file://")) and path.is_relative_to(place.resolve()):
            raise UsageError(
                f"{what} {path} lies in {place}, which the pipeline writes; whoever can write there could sign or be "
                "believed. Put it elsewhere (MEDISCALE_TRUST)."
            )
    return path
