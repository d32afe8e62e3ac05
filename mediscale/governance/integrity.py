"""Integrity: what of a dataset's history, versions, evidence and rows is not as it was signed or recorded."""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from itertools import chain, pairwise
from typing import NamedTuple

from mediscale.core import caller
from mediscale.core.errors import MediscaleError
from mediscale.core.plural import counted
from mediscale.core.refs import Frozen
from mediscale.core.settings import Settings
from mediscale.core.tables import HISTORY
from mediscale.governance import recorded_rows
from mediscale.inference import model_signature
from mediscale.storage import (
    accepted_heads,
    approvals,
    calls,
    history,
    lake,
    object_store,
    record_list,
    registry,
)
from mediscale.storage.calls import Call, Output
from mediscale.storage.history_entries import KINDS, Entry
from mediscale.storage.lineage import EVALUATIONS, Lineage
from mediscale.storage.registry import Move
from training import evidence_files

_LEAKAGE = "leakage"
"""The stage that leaves a leak certificate."""
ALIASES_FOLLOW = timedelta(seconds=20)
"""Within which MLflow's aliases follow a move: a rollback returns before they do."""


class IntegrityReport(Frozen):
    """What was looked at, and what is wrong."""

    dataset: str
    entries: int
    versions: int
    records: int
    """Of the calls that they were made and judged from, as far as they are signed."""
    unsigned: int
    """Versions whose records no entry covers: an older release promoted them."""
    head: str
    """The newest entry as ``MEDISCALE_HISTORY_HEADS`` takes it."""
    findings: tuple[str, ...]

    def __str__(self) -> str:
        older = f"; an older release signed no records of {self.unsigned} of them" if self.unsigned else ""
        records = f"; the records of {counted(self.records, 'call')} behind them" if self.records else ""
        return (
            f"as signed: {counted(self.entries, 'entry')} of the history; {counted(self.versions, 'version')} named "
            f"there, with files and evidence{older}{records}; the newest entry is {self.head}"
        )


class _SignedList(NamedTuple):
    """A signed list of records, and the evidence behind which they stand."""

    evidence_digest: str
    records: Mapping[str, str]


class RowsReport(Frozen):
    """How many tables a dataset's versions were made and judged from, and what is wrong with their rows."""

    tables: int
    incomparable: int
    """Written before an erasure that attested nothing of them, or with another locked environment."""
    findings: tuple[str, ...]

    def __str__(self) -> str:
        others = (
            "; the others were written before an erasure that signed nothing of them, or in another locked "
            "environment, and can't be compared"
        )
        return (
            f"as recorded when they were written, or left by an erasure: the rows of "
            f"{self.tables - self.incomparable:,} of {counted(self.tables, 'table')} behind these versions"
            f"{others if self.incomparable else ''}"
        )


def datasets(settings: Settings) -> list[str]:
    """The datasets with a history in the lake, and those of which one was accepted here before."""
    there = {name for name in lake.datasets(settings) if lake.exists(settings, name, HISTORY.name)}
    return sorted(there | set(accepted_heads.datasets(settings)))


def verify(settings: Settings, dataset: str) -> IntegrityReport:
    """Reads all of a dataset's history, and the versions and evidence that it names; changes nothing."""
    entries, findings = history.inspect(settings, dataset)
    moves = registry.moves_in([entry for entry in entries if entry.kind in KINDS])
    lists, changed = _signed_lists(settings, moves)
    records = frozenset(chain.from_iterable(one.records for one in lists))
    findings += [*_dates(entries), *_models(settings, moves), *changed]
    try:
        findings += _evidence(settings, moves)
        findings += _certificates(settings, lists)
        findings += _added_records(settings, lists)
    except MediscaleError as error:  # a record that no reader of records can read
        findings.append(str(error))
    uncovered = approvals.uncovered(settings, entries) if not findings else set()
    formerly = approvals.former_approvers(settings, entries) if uncovered else []
    findings += [
        f"Entry {number} moved a version into production that nobody but its proposer approved; it is not served."
        for number in sorted(uncovered)
    ]
    findings += [
        f"{name} approved, whose key is no approver's now; {name}.approver.retired.pem is the name of one that signs "
        "nothing new and whose approvals stay."
        for name in formerly
    ]
    if moves:
        findings += _aliases(settings, moves)
    head = f"{dataset}:{entries[-1].sequence}:{entries[-1].digest}" if entries else ""
    versions = {move.version for move in moves}
    return IntegrityReport(
        dataset=dataset,
        entries=len(entries),
        versions=len(versions),
        records=len(records),
        unsigned=len(versions - {move.version for move in moves if move.records_digest}),
        head=head,
        findings=tuple(findings),
    )


def verify_rows(settings: Settings, dataset: str) -> RowsReport:
    """Reads every table from which the versions in a dataset's history were made and judged, back to the extract.

    Raises:
        StorageError: the history can't be believed; ``verify`` says why.
    """
    writers = recorded_rows.writers(settings, dataset)
    written = {(output.ref.table_id, output.ref.version) for call in writers for output in call.outputs}
    compared = list(recorded_rows.comparable_tables(settings, dataset, writers))
    return RowsReport(
        tables=len(written),
        incomparable=len(written) - len(compared),
        findings=tuple(_changed_rows(settings, compared)),
    )


def _changed_rows(settings: Settings, written: Sequence[tuple[Call, Output]]) -> Iterator[str]:
    for writer, output in written:
        try:
            if not recorded_rows.match_record(settings, output):
                yield f"{output.ref} has other rows than {writer.stage} wrote; restore the table from a backup."
        except MediscaleError as error:
            yield f"{output.ref}, which {writer.stage} wrote, can't be read: {error}"


def warnings(settings: Settings) -> Iterator[str]:
    """What is as it was signed, and is no way to keep a lake."""
    if object_store.lacks_versions(settings.lake):
        yield (
            f"The bucket of {settings.lake} keeps no older versions of its objects, so what is overwritten or deleted "
            "by mistake is gone; switch on its versioning."
        )
    try:
        yield from _deployments(settings)
    except MediscaleError:  # a record that can't be read, which ``verify`` names
        return


def _deployments(settings: Settings) -> Iterator[str]:
    """Code that came back after other code, twice, was not rolled back: two deployments work by turns."""
    by_stage: dict[str, list[calls.Call]] = {}
    for call in sorted(calls.all_calls(settings), key=lambda call: call.started_at):
        same_stage = by_stage.setdefault(call.stage, [])
        if not same_stage or same_stage[-1].code != call.code:
            same_stage.append(call)
    for stage, (*_, a, b, c, d) in ((stage, turns) for stage, turns in by_stage.items() if len(turns) > 3):
        if (a.code, b.code) == (c.code, d.code):
            yield (
                f"Two versions of the code run {stage} by turns in {settings.lake} (digests {c.code[:12]} and "
                f"{d.code[:12]}), and each does the other's work again; give each deployment a lake, or the "
                "same release."
            )
            return


def _dates(entries: Sequence[Entry]) -> Iterator[str]:
    for before, after in pairwise(entries):
        if after.at < before.at:
            yield f"Entry {after.sequence} is dated before entry {before.sequence}."


def _evidence(settings: Settings, moves: Sequence[Move]) -> Iterator[str]:
    """The call records say where evidence lies; the history says what it must be."""
    places = {
        str(call.result.get("evidence_digest")): str(call.result.get("evidence"))
        for stage in EVALUATIONS
        for call in calls.of_stage(settings, stage)
    }
    for digest, version in {move.evidence_digest: move.version for move in moves}.items():
        if digest not in places:
            yield f"The evidence by which {version} was decided is in no record of an evaluation."
            continue
        try:
            evidence_files.read_verified(settings, places[digest], digest)
        except MediscaleError as error:
            yield f"{version}: {error}"


def _certificates(settings: Settings, lists: Iterable[_SignedList]) -> Iterator[str]:
    """Leak certificates that are not as their signed records say; what a changed record says counts for nothing."""
    signed = {name: digest for one in lists for name, digest in one.records.items()}
    for name in sorted(signed):
        stage, _, key = name.partition("/")
        if stage != _LEAKAGE or any(record_list.changed(settings, {name: signed[name]})):
            continue
        if call := calls.find(settings, stage, key):
            try:
                evidence_files.read_verified(
                    settings, str(call.result["certificate"]), str(call.result["certificate_digest"])
                )
            except MediscaleError as error:
                yield str(error)


def _signed_lists(settings: Settings, moves: Sequence[Move]) -> tuple[list[_SignedList], list[str]]:
    """The lists of records that moves signed, and which records are not as they were. None is read as a record, so that
    a damaged one is found by its name like any other."""
    lists, findings = list[_SignedList](), dict[str, None]()
    signed = {
        (move.records_digest, move.evidence_digest): move.version for move in moves if move.records_digest
    }
    for (digest, evidence_digest), version in signed.items():
        try:
            listed = record_list.read(settings, digest)
        except MediscaleError as error:
            findings[f"{version}: {error}"] = None
            continue
        lists.append(_SignedList(evidence_digest, listed))
        findings |= dict.fromkeys(record_list.changed(settings, listed))
    return lists, list(findings)


def _added_records(settings: Settings, lists: Iterable[_SignedList]) -> list[str]:
    lineage = Lineage(settings)
    return list(
        dict.fromkeys(
            finding
            for evidence_digest, listed in lists
            for finding in record_list.added(lineage, evidence_digest, listed)
        )
    )


def _models(settings: Settings, moves: Sequence[Move]) -> Iterator[str]:
    for version, digest in dict.fromkeys((move.version, move.evidence_digest) for move in moves):
        try:
            model_signature.check_folder(settings, version, digest)
        except MediscaleError as error:
            yield str(error)


def _aliases(settings: Settings, moves: Sequence[Move]) -> Iterator[str]:
    wrong = registry.wrong_aliases(settings, moves)
    while wrong and caller.now() - moves[-1].moved_at < ALIASES_FOLLOW:
        time.sleep(0.5)
        wrong = registry.wrong_aliases(settings, moves)
    for one in wrong:
        yield (
            f"MLflow's alias {one.alias} of {one.model} says {one.says or 'nothing'} and the history "
            f"{one.wanted or 'nothing'}; MLflow's is only a projection, which the next promotion repairs."
        )
