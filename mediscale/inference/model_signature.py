"""Model signature: a version's folder in the format of OpenSSF Model Signing, which anybody verifies with its tool.

A bundle is a DSSE envelope over an in-toto statement with the SHA-256 of every file, signed with ECDSA P-256. The
statement also names the version and its evidence, which that tool lets pass. The bundle lies beside the folder, not in
it, one per evidence that the version was decided by::

    model_signing verify key FOLDER --signature FOLDER.EVIDENCE.sig --public_key NAME.pem
"""

import base64
import hashlib
import json
from collections.abc import Mapping
from typing import Any

from mediscale.core.errors import NotFoundError, StorageError
from mediscale.core.refs import ModelRef
from mediscale.core.settings import Settings
from mediscale.inference import model_files
from mediscale.storage import lake, registry, signing

PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "https://model_signing/signature/v1.0"
BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"


def place(settings: Settings, model: ModelRef, evidence_digest: str) -> str:
    """Where the bundle lies: beside the version's folder."""
    return f"{registry.locate(settings, model.uri).rstrip('/')}.{evidence_digest[:16]}.sig"


def sign(settings: Settings, model: ModelRef, evidence_digest: str) -> None:
    """Signs a version's files, if they are the registered ones, and its evidence.

    Raises:
        NotFoundError: the files are gone.
        StorageError: they were changed.
        UsageError: there is no key that is accepted here.
    """
    files = model_files.all_files(settings, model)
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    content = bundle(settings, model, evidence_digest, digests)
    lake.write_whole(place(settings, model, evidence_digest), content)


def bundle(settings: Settings, model: ModelRef, evidence_digest: str, digests: Mapping[str, str]) -> bytes:
    """The signed bundle of a folder of a version, whose files have these SHA-256 by relative name.

    Raises:
        UsageError: there is no key that is accepted here.
    """
    statement = json.dumps(_statement(model, evidence_digest, digests), sort_keys=True).encode()
    who = signing.signer(settings)
    signature = {"sig": base64.b64encode(who.sign(_signed_bytes(statement))).decode(), "keyid": ""}
    content = {
        "mediaType": BUNDLE,
        "verificationMaterial": {
            "publicKey": {"hint": hashlib.sha256(who.key.pem).hexdigest()},
            "tlogEntries": [],
        },
        "dsseEnvelope": {
            "payload": base64.b64encode(statement).decode(),
            "payloadType": PAYLOAD_TYPE,
            "signatures": [signature],
        },
    }
    return json.dumps(content, indent=1).encode()


def check(settings: Settings, model: ModelRef, evidence_digest: str) -> None:
    """Verifies the signature of a version, its evidence and the files that answer, before any of them is parsed.

    Raises:
        NotFoundError: there is no signature, or no files.
        StorageError: it is not an accepted key's, of another version or evidence, or a file is not as it was signed.
    """
    signed = _signed_digests(settings, model, evidence_digest)
    answering = {name: digest for name, digest in signed.items() if name in model_files.ANSWERING_FILES}
    _compare(model, answering, model_files.read_verified(settings, model))


def check_folder(settings: Settings, model: ModelRef, evidence_digest: str) -> None:
    """Verifies all that ``check`` does, and the folder's other files, by which MLflow loads a version.

    Raises:
        NotFoundError, StorageError: as ``check``; a file that was added is not as it was signed either.
    """
    signed = _signed_digests(settings, model, evidence_digest)
    _compare(model, signed, model_files.all_files(settings, model))


def _compare(model: ModelRef, signed: Mapping[str, str], files: Mapping[str, bytes]) -> None:
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    unlike = [name for name in sorted(signed.keys() | digests) if signed.get(name) != digests.get(name)]
    if unlike:
        raise StorageError(
            f"{len(unlike)} files of {model} are not as they were signed ({', '.join(unlike[:3])}); restore them from "
            "a backup or train it again."
        )


def _signed_digests(settings: Settings, model: ModelRef, evidence_digest: str) -> Mapping[str, str]:
    """The SHA-256 of each file, by relative name, that an accepted key signed for a version and its evidence."""
    statement = _verified(settings, model, place(settings, model, evidence_digest))
    try:
        signed = {entry["name"]: entry["digest"] for entry in statement["predicate"]["resources"]}
        of = statement["subject"][0]["name"], statement["predicate"]["evidence"]["sha256"]
    except (KeyError, IndexError, TypeError) as error:
        raise StorageError(
            f"The signature of {model} lacks what it must say; promote the version again."
        ) from error
    if of != (_name(model), evidence_digest):
        raise StorageError(
            f"The signature beside {model} is of {of[0]} or of other evidence; it is not served."
        )
    return signed


def _verified(settings: Settings, model: ModelRef, uri: str) -> Mapping[str, Any]:
    """What an accepted key signed."""
    try:
        bundle = json.loads(lake.read_whole(uri))
        envelope = bundle["dsseEnvelope"]
        payload = base64.b64decode(envelope["payload"], validate=True)
        signature = base64.b64decode(envelope["signatures"][0]["sig"], validate=True)
    except FileNotFoundError:
        raise NotFoundError(f"{model} is not signed for this evidence; promote the version again.") from None
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise StorageError(f"The signature of {model} can't be read; promote the version again.") from error
    signed = envelope.get("payloadType") == PAYLOAD_TYPE and any(
        key.verifies(_signed_bytes(payload), signature) for key in signing.accepted_keys(settings).values()
    )
    if not signed:
        raise StorageError(
            f"The signature of {model} is not of a key that is accepted here; it is not served."
        )
    statement: Mapping[str, Any] = json.loads(payload)
    if (statement.get("_type"), statement.get("predicateType")) != (STATEMENT, PREDICATE):
        raise StorageError(f"The signature of {model} is of something else than a model; it is not served.")
    return statement


def _statement(model: ModelRef, evidence_digest: str, digests: Mapping[str, str]) -> dict[str, Any]:
    digests = dict(sorted(digests.items()))
    root = hashlib.sha256(b"".join(map(bytes.fromhex, digests.values())))
    return {
        "_type": STATEMENT,
        "subject": [{"name": _name(model), "digest": {"sha256": root.hexdigest()}}],
        "predicateType": PREDICATE,
        "predicate": {
            "serialization": {
                "method": "files",
                "hash_type": "sha256",
                "allow_symlinks": False,
                "ignore_paths": [model_files.MLFLOW_META],
            },
            "resources": [
                {"name": name, "algorithm": "sha256", "digest": digest} for name, digest in digests.items()
            ],
            "evidence": {"sha256": evidence_digest},
        },
    }


def _name(model: ModelRef) -> str:
    return f"{model.name}/{model.version}"


def _signed_bytes(payload: bytes) -> bytes:
    """DSSE's pre-authentication encoding."""
    return b"DSSEv1 %d %s %d %s" % (len(PAYLOAD_TYPE), PAYLOAD_TYPE.encode(), len(payload), payload)
