"""History: per dataset one append-only table of who decided what, each entry chained to the one before and signed.

An entry carries the digest of the one before it and its signer's signature over all that it says. So an entry that was
changed, taken out, added by hand, or dated or named otherwise is noticed by everyone who reads the history, and one
that was taken off its end by everyone who had read it before (``accepted_heads``).
"""

import base64
import hashlib
import io
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import ValidationError

from mediscale.core.errors import BusyError, StorageError, UsageError
from mediscale.core.settings import Settings
from mediscale.core.tables import HISTORY
from mediscale.storage import accepted_heads, calls, commits, lake, seen_tables, signing
from mediscale.storage.accepted_heads import Head
from mediscale.storage.history_entries import Body, Draft, Entry
from mediscale.storage.signing import AcceptedKey

if TYPE_CHECKING:
    import pyarrow as pa

NOTHING_BEFORE = "0" * 64
"""What the first entry has for the digest of the one before."""
ATTEMPTS = 5
"""How often an entry whose number does not matter looks for the next one."""

B = TypeVar("B", bound=Body)


def bodies(entries: Sequence[Entry], kind: type[B]) -> Iterator[tuple[Entry, B]]:
    """The entries of one kind, each with what it says."""
    for entry in entries:
        if entry.kind == kind.kind and isinstance(content := entry.content, kind):
            yield entry, content


# --- reading -----------------------------------------------------------------------------------------------------


def entries(settings: Settings, dataset: str) -> list[Entry]:
    """The verified history of a dataset, oldest first; its newest entry is remembered as the accepted head.

    Raises:
        StorageError: an entry is missing, was changed or added by hand, or is not signed by an accepted key; the newest
            entry that was accepted here is gone; or an older release made the home.
    """
    # before the table: another process may append meanwhile
    heads = accepted_heads.accepted(settings, dataset)
    read = _read_entries(settings, dataset)
    for problem in problems(dataset, read, signing.accepted_keys(settings), heads):
        remedy = "" if problem.endswith(_WITHOUT_RESTORING) else "Restore the table from a backup; "
        raise StorageError(
            f"The history of {dataset} is not to be trusted: {problem} {remedy}`mediscale verify --dataset {dataset}` "
            "lists all that is wrong."
        )
    newest = max((head.sequence for head in heads), default=0)
    if read and read[-1].sequence > newest:
        accepted_heads.remember(settings, dataset, head_of(read[-1]))
    return read


def inspect(settings: Settings, dataset: str) -> tuple[list[Entry], list[str]]:
    """The history as it lies there, and everything that is wrong with it; nothing is accepted or remembered."""
    try:
        heads = accepted_heads.accepted(settings, dataset)
        read = _read_entries(settings, dataset)
    except StorageError as error:
        return [], [str(error)]
    return read, list(problems(dataset, read, signing.accepted_keys(settings), heads))


def _read_entries(settings: Settings, dataset: str) -> list[Entry]:
    newest = seen_tables.current(settings, dataset, HISTORY.name)
    if newest is None:
        calls.check_layout(settings)
        return []
    try:
        rows = [Entry.model_validate(row) for row in lake.rows(settings, newest)]
    except ValidationError as error:
        raise StorageError(
            f"The history of {dataset} is damaged: a row lacks what an entry has; restore the table from a backup."
        ) from error
    return sorted(rows, key=lambda entry: entry.sequence)


def head_of(entry: Entry) -> Head:
    """The entry by its number and digest."""
    return Head(sequence=entry.sequence, digest=entry.digest)


def problems(
    dataset: str, read: Sequence[Entry], keys: Mapping[str, AcceptedKey], heads: Sequence[Head]
) -> Iterator[str]:
    """A sentence for each thing that is wrong with a history."""
    previous, newest_accepted = NOTHING_BEFORE, max((head.sequence for head in heads), default=0)
    for number, entry in enumerate(read, start=1):
        if entry.sequence != number:
            yield f"Entry {number} is missing or there twice."
            break
        if entry.previous != previous:
            yield f"Entry {number} does not follow the entry before it, which was changed or exchanged."
        if entry.digest != hashlib.sha256(entry.signed_bytes(dataset)).hexdigest():
            yield f"Entry {number} was changed after it was signed."
        elif problem := _signature_problem(dataset, entry, keys, newest_accepted):
            yield problem
        previous = entry.digest
    yield from _unaccepted(read, keys)
    digests = {entry.sequence: entry.digest for entry in read}
    for head in heads:
        if head.sequence not in digests:
            yield f"Entry {head.sequence}, which was accepted here before, is gone."
        elif digests[head.sequence] != head.digest:
            yield f"Entry {head.sequence} is another one than was accepted here before."


def _unaccepted(read: Sequence[Entry], keys: Mapping[str, AcceptedKey]) -> Iterator[str]:
    """A sentence for each key that signed and is not accepted here: a new machine lacks it, or nobody knows it."""
    by_key: dict[str, list[int]] = {}
    for entry in read:
        if entry.signer not in keys:
            by_key.setdefault(entry.signer, []).append(entry.sequence)
    for signer, (first, *others) in by_key.items():
        more = f", which signed {len(others)} more" if others else ""
        yield (
            f"Entry {first} is signed by a key that is not accepted here ({signer[:12]}…){more}; if you know whose it "
            f"is, {_WITHOUT_RESTORING}"
        )


_WITHOUT_RESTORING = "put its public half into MEDISCALE_PUBLIC_KEYS and restore nothing."


def _signature_problem(
    dataset: str, entry: Entry, keys: Mapping[str, AcceptedKey], newest_accepted: int
) -> str:
    key = keys.get(entry.signer)
    if key is None:
        return ""  # one sentence for all entries of a key
    if not key.verifies(entry.signed_bytes(dataset), _decoded(entry.signature)):
        return f"Entry {entry.sequence} does not carry {key.name}'s signature."
    if not key.may_name(entry.actor):
        return f"Entry {entry.sequence} says that {entry.actor} acted, and {key.name} signed it."
    if "retired" in key.roles and entry.sequence > newest_accepted:
        return f"Entry {entry.sequence} is new, and signed by {key.name}'s retired key."
    return ""


def _decoded(signature: str) -> bytes:
    try:
        return base64.b64decode(signature, validate=True)
    except ValueError:
        return b""


# --- writing -----------------------------------------------------------------------------------------------------


def append(settings: Settings, dataset: str, *drafts: Draft, sequence: int | None = None) -> Entry:
    """Signs entries and appends them with consecutive numbers in one commit; what the first one's key recorded before
    is not written again.

    Given ``sequence``, the first gets that number or nothing is written; else it gets the next one.

    Returns the first of them as the history has it.

    Raises:
        BusyError: somebody else's entry took the number; nothing was written.
        UsageError: the key that signs here may not name the actor, or the date is before the newest entry's.
        StorageError: the history is not to be trusted.
    """
    for attempt in range(1, ATTEMPTS + 1):
        recorded = entries(settings, dataset)
        for entry in recorded:
            if entry.key == drafts[0].key:
                return entry
        try:
            return _append(settings, dataset, recorded, drafts, sequence)
        except BusyError:
            if sequence is not None or attempt == ATTEMPTS:
                raise
    raise AssertionError  # the last attempt returns or raises


def _append(
    settings: Settings,
    dataset: str,
    recorded: Sequence[Entry],
    drafts: Sequence[Draft],
    expected_number: int | None,
) -> Entry:
    number = len(recorded) + 1
    conflict = BusyError(
        f"Another entry became number {number if expected_number is None else expected_number} of {dataset}'s history "
        "first; nothing was written. Look at the history and run again."
    )
    if expected_number not in (None, number):
        raise conflict
    new = _signed(settings, dataset, recorded[-1] if recorded else None, drafts)
    if commits.append(settings, HISTORY.name, _rows(new), dataset, HISTORY.name, new[-1].sequence) is None:
        raise conflict
    accepted_heads.remember(settings, dataset, head_of(new[-1]))
    return new[0]


def _rows(new: Sequence[Entry]) -> "pa.Table":
    """The entries as rows of the table, parsed from JSON: Arrow imports pandas before it takes a Python value."""
    from pyarrow import json

    lines = "\n".join(entry.model_dump_json() for entry in new).encode()
    return json.read_json(
        io.BytesIO(lines),
        read_options=json.ReadOptions(block_size=len(lines) + 1),
        parse_options=json.ParseOptions(explicit_schema=HISTORY.arrow_schema()),
    )


def _signed(settings: Settings, dataset: str, last: Entry | None, drafts: Sequence[Draft]) -> list[Entry]:
    who, signed = signing.signer(settings), []
    for draft in drafts:
        at = draft.at if draft.at.tzinfo is None else draft.at.astimezone(UTC).replace(tzinfo=None)
        if not who.key.may_name(draft.actor):
            raise UsageError(
                f"{who.key.name}'s key can't sign for {draft.actor}; sign with {draft.actor}'s own key, or with a "
                f"service's ({who.key.name}.service.pem in {settings.public_keys})."
            )
        if last is not None and at < last.at:
            raise UsageError(
                f"An entry of {at:%Y-%m-%d %H:%M:%S} can't follow number {last.sequence} of {dataset}'s history, of "
                f"{last.at:%Y-%m-%d %H:%M:%S}; is a clock wrong?"
            )
        values: dict[str, Any] = {
            "sequence": last.sequence + 1 if last else 1,
            "kind": draft.body.kind,
            "actor": draft.actor,
            "at": at,
            "body": calls.canonical(draft.body),
            "key": draft.key,
            "previous": last.digest if last else NOTHING_BEFORE,
            "signer": who.key.fingerprint,
        }
        covered = Entry(**values, digest="", signature="").signed_bytes(dataset)
        signature = base64.b64encode(who.sign(covered)).decode()
        last = Entry(**values, digest=hashlib.sha256(covered).hexdigest(), signature=signature)
        signed.append(last)
    return signed
