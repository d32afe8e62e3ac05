"""The history under attack: whoever can write the lake changes, removes, adds, dates or names nothing unnoticed."""

import errno
import hashlib
import os
import shutil
import stat
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from deltalake import DeltaTable, write_deltalake

from mediscale.core import caller
from mediscale.core.errors import BusyError, StorageError, UsageError
from mediscale.core.settings import Settings
from mediscale.core.tables import HISTORY
from mediscale.storage import accepted_heads, datasets, durable_files, history, signing
from mediscale.storage.history_entries import KINDS, Approval, Body, Draft, Entry, Erasure, Export

DAY = datetime(2026, 11, 1, 8)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A home whose account has a trust folder of its own."""
    return Settings(home=tmp_path / "home", trust=tmp_path / "trust")


def export(key: str, day: int = 0, actor: str = "") -> Draft:
    body = Export(what="predictions", purpose="audit", rows=3, digest="0" * 64)
    return Draft(body, actor or caller.account(), DAY + timedelta(days=day), key)


def table(settings: Settings) -> str:
    return settings.table_uri("h", HISTORY.name)


def rows(settings: Settings) -> list[dict[str, Any]]:
    read = DeltaTable(table(settings)).to_pyarrow_table().to_pylist()
    return sorted(read, key=lambda row: row["sequence"])


def overwrite(settings: Settings, changed: list[dict[str, Any]]) -> None:
    """What an attacker who can write the lake does."""
    write_deltalake(
        table(settings), pa.Table.from_pylist(changed, schema=HISTORY.arrow_schema()), mode="overwrite"
    )


@pytest.fixture
def three(settings: Settings) -> Settings:
    for day in range(3):
        history.append(settings, "h", export(f"k{day}", day))
    assert len(history.entries(settings, "h")) == 3
    return settings


def test_entries_are_numbered_chained_and_typed(three: Settings) -> None:
    read = history.entries(three, "h")
    assert [entry.sequence for entry in read] == [1, 2, 3]
    assert [entry.previous for entry in read] == [history.NOTHING_BEFORE, read[0].digest, read[1].digest]
    assert {entry.content for entry in read} == {export("", 0).body}
    assert list(history.bodies(read, Approval)) == []


def test_what_a_key_recorded_is_not_written_again(three: Settings) -> None:
    assert history.append(three, "h", export("k1", 9)) == history.entries(three, "h")[1]
    assert len(history.entries(three, "h")) == 3


def test_a_copy_that_can_only_be_read_is_read(three: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """By an auditor, for the first time from this home; what a disk refuses otherwise is still an error."""

    def refuse(_path: Path, _text: str) -> None:
        raise OSError(code, os.strerror(code))

    shutil.rmtree(three.home / "seen")
    monkeypatch.setattr(durable_files, "replace", refuse)
    code = errno.ENOSPC
    with pytest.raises(OSError, match="No space left"):
        history.entries(three, "h")
    code = errno.EROFS
    assert len(history.entries(three, "h")) == 3


@pytest.mark.parametrize(
    ("code", "mend"), [(errno.ENOSPC, "Free space"), (errno.EROFS, "Let MEDISCALE_TRUST name")]
)
def test_a_folder_of_trust_that_takes_no_head_says_what_to_do(
    three: Settings, monkeypatch: pytest.MonkeyPatch, code: int, mend: str
) -> None:
    accepted_heads.forget(three, "h")

    def refuse(_path: Path, _text: str) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(durable_files, "replace", refuse)
    with pytest.raises(StorageError, match=mend):
        history.entries(three, "h")


def test_a_machine_without_the_public_key_hears_so_once_and_is_not_sent_to_a_backup(
    three: Settings, tmp_path: Path
) -> None:
    """A new server that was given no public keys, and a history that is whole."""
    elsewhere = three.model_copy(update={"public_keys": tmp_path / "none", "trust": tmp_path / "new"})
    read, findings = history.inspect(elsewhere, "h")
    assert findings == [
        f"Entry 1 is signed by a key that is not accepted here ({read[0].signer[:12]}…), which signed 2 more; if you "
        "know whose it is, put its public half into MEDISCALE_PUBLIC_KEYS and restore nothing."
    ]
    with pytest.raises(StorageError, match="restore nothing") as refused:
        history.entries(elsewhere, "h")
    assert "Restore the table from a backup" not in str(refused.value)


def test_a_number_that_is_taken_is_busy(three: Settings) -> None:
    for taken in (0, 2, 3, 5):
        with pytest.raises(BusyError, match=f"number {taken} of h's history"):
            history.append(three, "h", export("new", 9), sequence=taken)
    assert history.append(three, "h", export("new", 9), sequence=4).sequence == 4


def test_a_date_before_the_newest_is_refused(three: Settings) -> None:
    with pytest.raises(UsageError, match="is a clock wrong"):
        history.append(three, "h", export("late", 1))


def change(**values: Any) -> Callable[[list[dict[str, Any]]], list[dict[str, Any]]]:
    return lambda rows: [rows[0], rows[1] | values, rows[2]]


ATTACKS = {
    "another actor": (change(actor="mallory"), "Entry 2 was changed"),
    "another date": (change(at=DAY), "Entry 2 was changed"),
    "another body": (change(body="{}"), "Entry 2 was changed"),
    "another kind": (change(kind="erasure"), "Entry 2 was changed"),
    "another key": (change(key="k9"), "Entry 2 was changed"),
    "another signature": (change(signature="MEUCIQ=="), "does not carry .*'s signature"),
    "no signature": (change(signature=""), "does not carry .*'s signature"),
    "another signer": (change(signer="f" * 64), "Entry 2 was changed"),
    "one removed": (lambda rows: [rows[0], rows[2]], "Entry 2 is missing"),
    "one removed and the rest renumbered": (lambda rows: [rows[0], rows[2] | {"sequence": 2}], "does not follow"),
    "one twice": (lambda rows: [*rows, rows[2]], "Entry 4 is missing or there twice"),
    "one by hand": (lambda rows: [*rows, rows[2] | {"sequence": 4}], "Entry 4 does not follow"),
    "two exchanged": (lambda rows: [rows[1] | {"sequence": 1}, rows[0] | {"sequence": 2}, rows[2]], "does not follow"),
    "the newest removed": (lambda rows: rows[:2], "Entry 3, which was accepted here before, is gone"),
    "all removed": (lambda _rows: [], "Entry 3, which was accepted here before, is gone"),
}  # fmt: skip


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_is_refused_in_one_sentence(three: Settings, name: str) -> None:
    attack, sentence = ATTACKS[name]
    overwrite(three, attack(rows(three)))
    for act in (history.entries, lambda *where: history.append(*where, export("new", 9))):
        with pytest.raises(StorageError, match=f"The history of h is not to be trusted: .*{sentence}"):
            act(three, "h")


def test_a_digest_that_was_made_to_fit_does_not_help(three: Settings) -> None:
    changed = rows(three)
    entry = Entry.model_validate(changed[2] | {"actor": "mallory"})
    changed[2] = entry.model_dump() | {"digest": hashlib.sha256(entry.signed_bytes("h")).hexdigest()}
    overwrite(three, changed)
    with pytest.raises(StorageError, match=r"Entry 3 does not carry .*'s signature"):
        history.entries(three, "h")


def test_another_history_in_its_place_is_refused(three: Settings, tmp_path: Path) -> None:
    """An attacker has a key of their own, and writes a history that is sound in itself."""
    other = Settings(home=tmp_path / "other", trust=tmp_path / "theirs")
    for day in range(4):
        history.append(other, "h", export(f"x{day}", day))
    overwrite(three, rows(other))
    with pytest.raises(StorageError, match="Entry 1 is signed by a key that is not accepted here"):
        history.entries(three, "h")


def test_the_history_of_another_dataset_is_no_history_of_this_one(three: Settings) -> None:
    shutil.copytree(table(three), three.table_uri("other", HISTORY.name))
    with pytest.raises(StorageError, match="Entry 1 was changed after it was signed"):
        history.entries(three, "other")


def test_a_history_that_is_deleted_with_the_home_is_missed(three: Settings) -> None:
    shutil.rmtree(three.home)
    with pytest.raises(StorageError, match="Entry 3, which was accepted here before, is gone"):
        history.append(three, "h", export("new"))
    datasets.delete(three, "h")  # on purpose
    assert history.append(three, "h", export("new")).sequence == 1


def test_a_machine_that_never_read_it_believes_the_head_that_it_was_given(
    three: Settings, tmp_path: Path
) -> None:
    newest = history.entries(three, "h")[-1]
    given: dict[str, Any] = {"home": three.home, "trust": tmp_path / "new", "public_keys": three.public_keys}
    stranger = Settings(**given, history_heads=f"other:1:{'0' * 64}, h:3:{newest.digest}")
    assert len(history.entries(stranger, "h")) == 3
    overwrite(three, rows(three)[:2])
    with pytest.raises(StorageError, match="Entry 3, which was accepted here before, is gone"):
        history.entries(stranger, "h")
    assert len(history.entries(Settings(**given | {"trust": tmp_path / "newer"}), "h")) == 2
    with pytest.raises(UsageError, match="DATASET:SEQUENCE:DIGEST"):
        history.entries(Settings(**given, history_heads="h:3"), "h")


def test_an_older_head_never_replaces_a_newer_one(three: Settings) -> None:
    read = history.entries(three, "h")
    accepted_heads.remember(three, "h", history.head_of(read[0]))
    assert accepted_heads.accepted(three, "h") == (history.head_of(read[2]),)


def sign_with(settings: Settings, name: str, roles: str = "") -> Settings:
    """The same home with the key of somebody who is accepted in it."""
    key = settings.trust.parent / f"{name}.key"
    signing.make_key(key, settings.public_keys / f"{name}{roles}.pem")
    return settings.model_copy(update={"signing_key": key})


def test_a_person_signs_for_themselves_and_a_service_for_whom_it_names(three: Settings) -> None:
    ana, scheduler = sign_with(three, "ana"), sign_with(three, "scheduler", ".service")
    with pytest.raises(UsageError, match="ana's key can't sign for bob"):
        history.append(ana, "h", export("new", 9, actor="bob"))
    history.append(ana, "h", export("a", 9, actor="ana"))
    history.append(scheduler, "h", export("b", 9, actor="bob"))
    newest = history.entries(three, "h")[-1]
    assert (newest.actor, signing.accepted_keys(three)[newest.signer].name) == ("bob", "scheduler")
    service = three.public_keys / "scheduler.service.pem"
    service.rename(three.public_keys / "scheduler.pem")  # it is no service any more
    with pytest.raises(StorageError, match="Entry 5 says that bob acted, and scheduler signed it"):
        history.entries(three, "h")


def test_a_retired_key_signs_nothing_new_and_what_it_signed_stays(three: Settings) -> None:
    ana = sign_with(three, "ana.lopez")
    history.append(ana, "h", export("a", 9, actor="ana.lopez"))
    retired = three.public_keys / "ana.lopez.retired.pem"
    (three.public_keys / "ana.lopez.pem").rename(retired)
    assert history.entries(three, "h")[-1].actor == "ana.lopez"
    with pytest.raises(UsageError, match="retired"):
        history.append(ana, "h", export("b", 9, actor="ana.lopez"))
    retired.rename(three.public_keys / "ana.lopez.pem")
    unaware = ana.model_copy(update={"trust": three.trust.parent / "elsewhere"})
    history.append(unaware, "h", export("b", 9, actor="ana.lopez"))
    (three.public_keys / "ana.lopez.pem").rename(retired)
    with pytest.raises(StorageError, match=r"Entry 5 is new, and signed by ana.lopez's retired key"):
        history.entries(three, "h")


def test_the_accounts_own_key_is_made_once_for_this_account_alone(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    first = signing.signer(settings).key
    assert (first.name, first.roles) == (caller.account(), frozenset())
    assert signing.signer(settings).key == first
    assert stat.S_IMODE(settings.signing_key.stat().st_mode) == 0o600
    assert [record.message for record in caplog.records] == [
        f"A signing key was made in {settings.signing_key}: it signs what you decide. Keep a copy; never share it."
    ]


def test_a_key_where_the_pipeline_writes_is_refused(settings: Settings) -> None:
    for changed in ("signing_key", "public_keys"):
        inside = settings.model_copy(update={changed: settings.home / "keys" / "a.pem"})
        with pytest.raises(UsageError, match=r"lies in .*home.* elsewhere"):
            history.append(inside, "h", export("k"))
    assert not settings.home.joinpath("keys").exists()


def test_a_key_that_is_missing_unreadable_or_nobodys_is_refused(three: Settings, tmp_path: Path) -> None:
    def refused(file: Path, sentence: str) -> None:
        with pytest.raises(UsageError, match=sentence):
            signing.signer(three.model_copy(update={"signing_key": file}))

    refused(tmp_path / "none.pem", "There is no signing key at")
    (tmp_path / "torn.pem").write_text("-----BEGIN")
    refused(tmp_path / "torn.pem", "can't be read as an unencrypted PEM file")
    other_curve = ec.generate_private_key(ec.SECP384R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (tmp_path / "p384.pem").write_bytes(other_curve)
    refused(tmp_path / "p384.pem", "no private key on the curve P-256")
    signing.make_key(tmp_path / "mine.pem", tmp_path / "elsewhere" / "mine.pem")
    refused(tmp_path / "mine.pem", "is not accepted here; put its public half")
    (three.public_keys / "x.pem").write_text("no key")
    refused(three.signing_key, "x.pem holds no public key on the curve P-256")


def test_a_body_of_a_newer_release_is_refused_in_one_sentence(settings: Settings) -> None:
    class Newer(Body):
        kind = "newer"

    history.append(settings, "h", Draft(Newer(), caller.account(), DAY, "k"))
    (entry,) = history.entries(settings, "h")
    with pytest.raises(StorageError, match="is a newer, which this release can't read"):
        _ = entry.content


def test_every_kind_is_said_in_one_line() -> None:
    erased = Erasure(pseudonym="p", reason="asked for", trained=("m/1",), judged=())
    assert "\n" not in str(erased)
    kinds = {
        "move",
        "traffic",
        "proposal",
        "approval",
        "approval_rule",
        "erasure",
        "row_attestation",
        "export",
        "feedback_review",
    }
    assert set(KINDS) == kinds
