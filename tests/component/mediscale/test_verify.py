"""An attacker who can write the whole home and lake, and has no accepted key: nothing of theirs is served, and `verify`
finds each thing that they did."""

import base64
import hashlib
import json
import random
import shutil
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake

from mediscale.cli import main
from mediscale.core import caller
from mediscale.core.errors import StorageError
from mediscale.core.refs import TableRef
from mediscale.core.settings import Settings
from mediscale.core.tables import HISTORY
from mediscale.governance import recorded_rows
from mediscale.inference import model_files, model_signature
from mediscale.storage import (
    approvals,
    calls,
    duckdb_tables,
    history,
    lake,
    last_calls,
    record_list,
    redaction,
    registry,
    signing,
)
from mediscale.storage.history_entries import Draft, Entry, Erasure, Export
from mediscale.storage.registry import Move
from serving.risk.models import Predictors

DATASET, MODEL = "synthetic", "synthetic-mortality"
CERTIFICATE = "evidence/5/leak_certificate.json"
DAY = datetime(2026, 11, 1, 8)


@pytest.fixture(scope="module")
def signed_home(tmp_path_factory: pytest.TempPathFactory, trained: dict[Any, Path]) -> Path:
    settings = Settings(home=tmp_path_factory.mktemp("signed") / "home")
    mlflow = registry.client(settings)
    mlflow.create_registered_model(MODEL)
    behind = (_label(settings), _certify(settings))
    for version in (1, 2):
        calls.write(settings, _evaluated(settings, version, behind if version == 2 else ()))
        _promote(settings, trained["mortality", version], version)
        mlflow.create_model_version(MODEL, str(settings.home))
    registry.repair(settings, DATASET)
    return settings.home


@pytest.fixture
def home(signed_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Two versions went to production, one after the other, and MLflow follows; all is as it was signed."""
    settings = Settings(home=Path(shutil.copytree(signed_home, tmp_path / "home")))
    monkeypatch.setenv("MEDISCALE_HOME", str(settings.home))
    registry.history(settings, DATASET)  # accepted here
    return settings


def _promote(settings: Settings, files: Path, version: int) -> None:
    folder = Path(shutil.copytree(files, settings.home / "artifacts" / f"v{version}"))
    (folder / "MLmodel").write_text("loader_module: mlflow.xgboost")
    move = _move(settings, version, sequence=version, moved_at=DAY + timedelta(days=version))
    model_signature.sign(settings, move.version, move.evidence_digest)
    registry.record(settings, DATASET, move)


def _move(settings: Settings, version: int, sequence: int, moved_at: datetime) -> Move:
    """Of production to a version from the one before it, or back to the first."""
    digest = _digest(settings, version)
    # an older release promoted version 1
    records = record_list.write(settings, digest) if version == 2 else ""
    folder = settings.home / "artifacts" / f"v{version}"
    return Move(
        sequence=sequence, model=MODEL, task="mortality", alias="production", from_version=sequence - 1 or None,
        to_version=version, actor="ana", moved_at=moved_at, reason="It is better.",
        evidence_digest=digest, model_uri=f"artifacts/v{version}", model_digest=model_files.digest(folder),
        key=f"move-{sequence}", records_digest=records,
    )  # fmt: skip


def _digest(settings: Settings, version: int) -> str:
    return hashlib.sha256((settings.home / f"evidence-{version}.json").read_bytes()).hexdigest()


def _evaluated(settings: Settings, version: int, inputs: tuple[str, ...]) -> calls.Call:
    file = settings.home / f"evidence-{version}.json"
    if not file.exists():
        file.write_text(json.dumps({"version": version}))
    return calls.Call(
        run_id="run", inputs=inputs, produced=(), stage="evaluate", key=f"{version}", params={}, code="", lock="",
        result={"evidence": file.name, "evidence_digest": _digest(settings, version)}, outputs=(),
        started_at=datetime.now(UTC), seconds=1,
    )  # fmt: skip


def _label(settings: Settings) -> str:
    """Labels that a recorded call wrote, and by which version 2 is judged."""
    uri = settings.table_uri(DATASET, "labels_mortality")
    write_deltalake(uri, pa.table({"stay_id": [1, 2], "boolean_value": [True, False]}))
    return _wrote_labels(settings, "3", datetime.now(UTC) - timedelta(minutes=1))


def _certify(settings: Settings) -> str:
    """A leak certificate that a recorded call wrote; the id of its file."""
    file = settings.home / CERTIFICATE
    file.parent.mkdir(parents=True)
    file.write_text('{"failed": ["later_facts"]}')
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    record = calls.Call(
        run_id="run", inputs=(), produced=(f"digest:{digest}",), stage="leakage", key="5", params={}, code="", lock="",
        result={"certificate": CERTIFICATE, "certificate_digest": digest}, outputs=(),
        started_at=datetime.now(UTC) - timedelta(minutes=1), seconds=1,
    )  # fmt: skip
    calls.write(settings, record)
    return f"digest:{digest}"


def _wrote_labels(settings: Settings, key: str, at: datetime) -> str:
    """The record of a call that wrote the labels as they are now; the id of their table."""
    table = lake.latest(settings, DATASET, "labels_mortality")
    n, digest = duckdb_tables.digest(settings, table)
    artifact = f"table:{table.table_id}@{table.version}"
    record = calls.Call(
        run_id="run", inputs=(), produced=(artifact,), stage="labels", key=key, params={}, code="", lock=calls.lock(),
        result={}, outputs=(calls.Output(ref=table, rows=n, digest=digest),), started_at=at, seconds=1,
    )  # fmt: skip
    calls.write(settings, record)
    return artifact


def change_rows(settings: Settings) -> None:
    (file,) = lake.files(settings, lake.latest(settings, DATASET, "labels_mortality"))
    pq.write_table(pa.table({"stay_id": [1, 2], "boolean_value": [True, True]}), file)


def change_rows_with_their_record(settings: Settings) -> None:
    """Each fits the other again."""
    change_rows(settings)
    (record,) = calls.of_stage(settings, "labels")
    _wrote_labels(settings, record.key, record.started_at)


def change_list_too(settings: Settings) -> None:
    """In place, under the name that was signed."""
    change_rows_with_their_record(settings)
    (listed,) = Path(settings.lake, "_record_lists").iterdir()
    record = calls.content(settings, "labels", "3")
    assert record
    digests = json.loads(listed.read_bytes()) | {"labels/3": hashlib.sha256(record).hexdigest()}
    listed.write_text(json.dumps(digests, indent=1))


def write_list_anew(settings: Settings) -> None:
    """Under its own digest, as another promotion would."""
    change_rows_with_their_record(settings)
    (listed,) = Path(settings.lake, "_record_lists").iterdir()
    record_list.write(settings, _digest(settings, 2))
    listed.unlink()


def add_record(settings: Settings) -> None:
    """A later one of the same table, which stands in the signed one's place."""
    change_rows(settings)
    (record,) = calls.of_stage(settings, "labels")
    _wrote_labels(settings, "4", record.started_at + timedelta(seconds=1))


def add_record_of_an_extract(settings: Settings) -> None:
    """The stage whose records an erasure deletes makes no table."""
    add_record(settings)
    records = Path(settings.lake, "_records")
    added = json.loads((records / "labels/4.json").read_bytes()) | {"stage": "synthetic"}
    (records / "labels/4.json").unlink()
    (records / "synthetic").mkdir()
    (records / "synthetic/4.json").write_text(json.dumps(added))


def delete_record(settings: Settings) -> None:
    Path(settings.lake, "_records/labels/3.json").unlink()


def rows(settings: Settings) -> list[dict[str, Any]]:
    read = DeltaTable(settings.table_uri(DATASET, HISTORY.name)).to_pyarrow_table().to_pylist()
    return sorted(read, key=lambda row: row["sequence"])


def overwrite(settings: Settings, changed: list[dict[str, Any]]) -> None:
    written = pa.Table.from_pylist(changed, schema=HISTORY.arrow_schema())
    write_deltalake(settings.table_uri(DATASET, HISTORY.name), written, mode="overwrite")


def edit(**values: Any) -> Callable[[Settings], None]:
    return lambda settings: overwrite(settings, [rows(settings)[0], rows(settings)[1] | values])


def remove_newest_commit(settings: Settings) -> None:
    log = Path(settings.table_uri(DATASET, HISTORY.name)) / "_delta_log"
    max(log.glob("*.json")).unlink()


def add_by_hand(settings: Settings) -> None:
    """Version 99, whose files lie anywhere, signed with a key of the attacker's own."""
    theirs = Settings(home=settings.home, trust=settings.home.parent / "theirs")
    me = signing.signer(theirs).key
    body = json.loads(rows(settings)[1]["body"]) | {"to_version": 99, "model_uri": str(settings.home)}
    last = rows(settings)[1]
    entry = Entry.model_validate(
        {
            **last,
            "sequence": 3,
            "body": calls.canonical(body),
            "previous": last["digest"],
            "signer": me.fingerprint,
        }
    )
    covered = entry.signed_bytes(DATASET)
    signature = base64.b64encode(signing.signer(theirs).sign(covered)).decode()
    digest = hashlib.sha256(covered).hexdigest()
    overwrite(settings, [*rows(settings), entry.model_dump() | {"digest": digest, "signature": signature}])


def change_evidence_with_its_record(settings: Settings) -> None:
    file = settings.home / "evidence-2.json"
    file.write_text('{"version": 2, "auroc": 0.99}')
    calls.write(settings, _evaluated(settings, 2, ()))


def damage_record(settings: Settings) -> None:
    Path(settings.lake, "_records/labels/3.json").write_text("{")


def edit_certificate(settings: Settings) -> None:
    """That no leak was found."""
    (settings.home / CERTIFICATE).write_text('{"failed": []}')


def point_mlflow_elsewhere(settings: Settings) -> None:
    registry.client(settings).set_registered_model_alias(MODEL, "production", "1")


def delete_all(settings: Settings) -> None:
    shutil.rmtree(settings.home)


ATTACKS: dict[str, tuple[Callable[[Settings], object], str]] = {
    "an edited actor": (edit(actor="mallory"), "Entry 2 was changed after it was signed"),
    "an edited date": (edit(at=DAY), "Entry 2 was changed after it was signed"),
    "a removed entry": (lambda home: overwrite(home, rows(home)[1:]), "Entry 1 is missing"),
    "an added entry": (add_by_hand, "Entry 3 is signed by a key that is not accepted here"),
    "the newest commit removed": (remove_newest_commit, "Entry 2, which was accepted here before, is gone"),
    "edited evidence": (lambda home: (home.home / "evidence-2.json").write_text("{}"), "evidence-2.json was changed"),
    "edited evidence with its record": (change_evidence_with_its_record, "v2 was decided is in no record"),
    "an edited model": (
        lambda home: (home.home / "artifacts/v2/model.json").write_bytes(b"{}"), f"The files of {MODEL} v2 were changed"
    ),
    "an edited file of MLflow's": (
        lambda home: (home.home / "artifacts/v2/MLmodel").write_bytes(b"loader_module: other"),
        f"1 files of {MODEL} v2 are not as they were signed (MLmodel)"
    ),
    "an added file": (
        lambda home: (home.home / "artifacts/v2/code.py").write_bytes(b""), "not as they were signed (code.py)"
    ),
    "rows with their record": (change_rows_with_their_record, "The record labels/3.json was changed after"),
    "rows with their record and its list": (change_list_too, "is gone or was changed after it was signed"),
    "rows with their record and another list": (write_list_anew, "is gone or was changed after it was signed"),
    "rows with a record added": (add_record, "The record labels/4.json was added after"),
    "rows with a record added of an extract": (add_record_of_an_extract, "The record synthetic/4.json was added after"),
    "a damaged record": (damage_record, "The record labels/3.json was changed after it was signed"),
    "an edited leak certificate": (edit_certificate, f"The evidence at {CERTIFICATE} was changed since"),
    "a deleted record": (delete_record, "The record labels/3.json was deleted after it was signed"),
    "MLflow's alias": (point_mlflow_elsewhere, "says 1 and the history 2; MLflow's is only"),
    "all deleted": (delete_all, "Entry 2, which was accepted here before, is gone"),
}  # fmt: skip


def test_what_is_as_it_was_signed_says_so(home: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["verify"]) == 0
    newest = history.entries(home, DATASET)[-1]
    assert capsys.readouterr().out == (
        "synthetic: as signed: 2 entries of the history; 2 versions named there, with files and evidence; an older "
        "release signed no records of 1 of them; the records of 3 calls behind them; the newest entry is "
        f"synthetic:2:{newest.digest}\n"
    )
    note = last_calls.read(f"{last_calls.folder(home, DATASET)}/verify.json")
    assert note
    assert not note.failed
    assert note.succeeded_at


def test_an_approval_by_who_is_no_approver_now_is_named(
    home: Settings, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        approvals, "uncovered", lambda settings, _: {2} if settings.home == home.home else set()
    )
    monkeypatch.setattr(approvals, "former_approvers", lambda *_: ["cleo"])
    assert main.main(["verify", "--dataset", DATASET]) == 6
    told = capsys.readouterr().out
    assert "Entry 2 moved a version into production that nobody but its proposer approved" in told
    assert "cleo approved, whose key is no approver's now; cleo.approver.retired.pem is the name" in told


def test_mlflow_may_follow_a_rollback_a_moment_later(home: Settings) -> None:
    registry.record(home, DATASET, _move(home, 1, sequence=3, moved_at=caller.now()))
    assert registry.wrong_aliases(home, registry.history(home, DATASET))
    follower = threading.Timer(1.0, registry.repair, (home, DATASET))
    follower.start()
    assert main.main(["verify"]) == 0
    follower.join()


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_is_found_and_not_served(
    home: Settings, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    running = Predictors(home, DATASET, "production")
    running.refresh()
    signed = {move.version for move in registry.history(home, DATASET)}
    attack, sentence = ATTACKS[name]
    attack(home)
    assert main.main(["verify"]) == StorageError.exit_code
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("synthetic: ") and sentence in line for line in lines), lines
    if home.home.exists():
        assert lines[0].removeprefix("synthetic: ") in "".join(last_calls.failures(home, DATASET))
    fresh = Predictors(home, DATASET, "production")
    for server in (running, fresh):
        try:
            server.refresh()
        except StorageError:
            continue  # what it served stays; a fresh one serves nothing
        assert {served.model for served in server.current.values()} <= signed
    assert [served.model.version for served in running.current.values()] == [2]


def test_the_rows_that_a_version_was_judged_by_are_compared_with_their_record(
    home: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    table = lake.latest(home, DATASET, "labels_mortality")
    assert main.main(["verify", "--rows"]) == 0
    said = "synthetic: as recorded when they were written, or left by an erasure: the rows of 1 of 1 table behind"
    assert said in capsys.readouterr().out
    change_rows(home)
    assert main.main(["verify"]) == 0
    assert main.main(["verify", "--rows"]) == StorageError.exit_code
    assert f"synthetic: {table} has other rows than labels wrote; restore" in capsys.readouterr().out
    (file,) = lake.files(home, table)
    pq.write_table(pa.table({"stay_ID": [1, 2], "boolean_value": [True, False]}), file)  # null to Arrow alone
    assert main.main(["verify", "--rows"]) == StorageError.exit_code
    content = Path(file).read_bytes()
    for damage in (lambda path: path.write_bytes(content[:-9]), Path.unlink):
        damage(Path(file))
        assert main.main(["verify", "--rows"]) == StorageError.exit_code
        unreadable = f"synthetic: {table}, which labels wrote, can't be read: The lake's file "
        assert unreadable in capsys.readouterr().out
    damage_record(home)
    assert main.main(["verify", "--rows"]) == StorageError.exit_code
    assert "synthetic: no row was compared; until this is mended" in capsys.readouterr().out


def test_a_flipped_bit_is_named_wherever_it_changes_what_is_read(home: Settings) -> None:
    """In every file that a signature covers; in a table's files where a row is another by it, for some bits of Parquet
    and of a Delta log tell nothing. None ends in a traceback."""
    draw, labels = random.Random(7), lake.latest(home, DATASET, "labels_mortality")
    covered = [
        *(home.home / "artifacts/v2").glob("*"),
        *(
            Path(home.lake, "_records", name)
            for name in ("evaluate/2.json", "labels/3.json", "leakage/5.json")
        ),
        *Path(home.lake, "_record_lists").iterdir(),
        home.home / "evidence-2.json",
        home.home / CERTIFICATE,
    ]
    outcomes = []
    for file in (*covered, *Path(home.table_uri(DATASET, "labels_mortality")).rglob("*.*")):
        sound, before = file.read_bytes(), lake.read(home, labels)
        for position in draw.sample(range(len(sound)), min(8, len(sound))):
            flipped = bytearray(sound)
            flipped[position] ^= 1 << draw.randrange(8)
            file.write_bytes(flipped)
            outcomes.append(main.main(["verify", "--rows"]))
            assert outcomes[-1] == StorageError.exit_code or (
                file not in covered and not _reads_otherwise(home, labels, before)
            ), f"byte {position} of {file.name}"
        file.write_bytes(sound)
    assert {0, StorageError.exit_code} == set(outcomes)
    assert main.main(["verify", "--rows"]) == 0


def _reads_otherwise(settings: Settings, ref: TableRef, before: pa.Table) -> bool:
    try:
        return not lake.read(settings, ref).equals(before)
    except (
        OSError,
        pa.ArrowException,
    ):  # Arrow refuses what DuckDB reads: a type that stands twice in a file
        return False


def test_rows_from_before_an_erasure_are_not_compared(
    home: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    erasure = Erasure(pseudonym="p", reason="It was asked for.", trained=(), judged=())
    at = datetime.now(UTC).replace(tzinfo=None)
    history.append(home, DATASET, Draft(erasure, "ana", at, "erased"))
    assert main.main(["verify", "--rows"]) == 0
    assert "the rows of 0 of 1 table behind" in capsys.readouterr().out


def test_rows_that_an_erasure_left_are_compared_with_what_it_signed(
    home: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    def take_out(_: str, rows: pa.Table) -> pa.BooleanArray:
        return pc.equal(rows["stay_id"], 1).combine_chunks()

    sound, at = recorded_rows.sound_tables(home, DATASET), datetime.now(UTC).replace(tzinfo=None)
    assert len(sound) == 1
    erasure = Erasure(pseudonym="p", reason="It was asked for.", trained=(), judged=())
    history.append(home, DATASET, Draft(erasure, "ana", at, "erased"))
    redaction.redact(home, DATASET, "labels_mortality", redaction.Rows(lambda _: ["stay_id"], take_out))
    left = recorded_rows.attest(home, DATASET, sound)
    history.append(home, DATASET, Draft(left, "ana", at, "erased-rows"))
    assert main.main(["verify", "--rows"]) == 0
    assert "the rows of 1 of 1 table behind" in capsys.readouterr().out
    assert recorded_rows.sound_tables(home, DATASET) == sound  # for the next erasure
    change_rows(home)
    assert main.main(["verify", "--rows"]) == StorageError.exit_code
    assert "labels_mortality@v0 has other rows than" in capsys.readouterr().out
    assert recorded_rows.sound_tables(home, DATASET) == ()
    Path(home.lake, "_record_lists", f"{left.digest}.json").write_text("{}")
    assert main.main(["verify", "--rows"]) == StorageError.exit_code
    assert f"{left.digest}.json in the lake is gone or was changed" in "".join(capsys.readouterr())
    assert recorded_rows.sound_tables(home, DATASET) == ()  # and the next erasure is not refused


def test_a_date_that_goes_backwards_is_found(home: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    """By whoever holds an accepted key: it is signed, and still not believable."""
    last = history.entries(home, DATASET)[-1]
    body = Export(what="w", purpose="p", rows=1, digest="")
    (entry,) = history._signed(home, DATASET, last.model_copy(update={"at": datetime(2020, 1, 1)}), [
        Draft(body, "ana", datetime(2021, 1, 1), "old")
    ])  # fmt: skip
    overwrite(home, [*rows(home), entry.model_dump()])
    assert main.main(["verify", "--dataset", DATASET]) == StorageError.exit_code
    assert capsys.readouterr().out == "synthetic: Entry 3 is dated before entry 2.\n"
    note = last_calls.read(f"{last_calls.folder(home, DATASET)}/verify.json")
    assert note
    assert note.failed
