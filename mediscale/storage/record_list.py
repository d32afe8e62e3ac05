"""Record list: the records of the calls that a version was made and judged from, each with its SHA-256; and the tables
that an erasure left, each with the digest of its rows.

An alias' move carries the SHA-256 of the list, so that the move's signature covers all of these records: who changes
rows together with the record that holds their digest changes what was signed. The list lies in the lake under its own
digest, as a long chain of nights would make every entry of the history long.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping

from mediscale.core.errors import StorageError
from mediscale.core.settings import Settings
from mediscale.storage import calls, lake
from mediscale.storage.calls import Call
from mediscale.storage.lineage import EVALUATIONS, Lineage

_FOLDER = "_record_lists"
_EXTRACT = "synthetic"
"""The stage that makes a synthetic hospital's extract: an erasure deletes it with its record, and it is made anew."""


def write(settings: Settings, evidence_digest: str) -> str:
    """Writes the list of the records behind a version's evidence, and returns its SHA-256."""
    names = sorted(map(_name, calls_behind(Lineage(settings), evidence_digest)))
    return keep(settings, {name: _digest(settings, name) for name in names})


def keep(settings: Settings, listed: Mapping[str, str]) -> str:
    """Writes a list to the lake, under its SHA-256, which it returns for an entry of the history to sign."""
    content = json.dumps(listed, indent=1).encode()
    digest = hashlib.sha256(content).hexdigest()
    lake.write_whole(_place(settings, digest), content)
    return digest


def read(settings: Settings, digest: str) -> Mapping[str, str]:
    """A list that was kept: of records the SHA-256 of each, by STAGE/KEY.

    Raises:
        StorageError: the list is gone, or not the one that was signed.
    """
    try:
        content = lake.read_whole(_place(settings, digest))
    except FileNotFoundError:
        content = b""
    if hashlib.sha256(content).hexdigest() != digest:
        raise StorageError(
            f"the signed list {_FOLDER}/{digest}.json in the lake is gone or was changed after it was "
            "signed; restore it from a backup."
        )
    listed: dict[str, str] = json.loads(content)
    return listed


def changed(settings: Settings, listed: Mapping[str, str]) -> Iterator[str]:
    """A sentence for each record that was changed or deleted after the list was signed."""
    for name, digest in listed.items():
        now = _digest(settings, name)
        if now != digest:
            yield (
                f"The record {name}.json was {'changed' if now else 'deleted'} after it was signed; restore it from a "
                "backup."
            )


def added(lineage: Lineage, evidence_digest: str, listed: Mapping[str, str]) -> Iterator[str]:
    """A sentence for each record behind a version that was added after the list was signed."""
    for name in sorted({_name(call) for call in calls_behind(lineage, evidence_digest)} - listed.keys()):
        yield f"The record {name}.json was added after the others were signed; find out who wrote it."


def calls_behind(lineage: Lineage, evidence_digest: str) -> list[Call]:
    """The evaluation that left this evidence, and the calls that it goes back to, without the making of an extract.

    Evidence names its call, so that no other evaluation has the same digest.
    """
    judged = [
        call
        for call in lineage.calls
        if call.stage in EVALUATIONS and call.result.get("evidence_digest") == evidence_digest
    ]
    return [call for call in lineage.upstream(judged).values() if not _makes_extract(call)]


def _makes_extract(call: Call) -> bool:
    return call.stage == _EXTRACT and not any(made.startswith(("table:", "model:")) for made in call.produced)


def _name(call: Call) -> str:
    return f"{call.stage}/{call.key}"


def _digest(settings: Settings, name: str) -> str:
    """SHA-256 of a record's file; empty where there is none."""
    content = calls.content(settings, *name.split("/"))
    return "" if content is None else hashlib.sha256(content).hexdigest()


def _place(settings: Settings, digest: str) -> str:
    return f"{settings.lake.rstrip('/')}/{_FOLDER}/{digest}.json"
