"""Verbs of an auditor: who asked and decided, rebuild a version, follow or take out a patient."""

import argparse
import json
import sys
from collections import Counter
from typing import TYPE_CHECKING

from mediscale.cli.verbs import (
    Verb,
    add_dataset,
    add_patient,
    add_reason,
    add_version,
    check_dataset,
    settings,
    utc,
    version_of,
    wrapped,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mediscale.core.settings import Settings
    from mediscale.governance import audit
    from mediscale.governance.patient import Patient
    from mediscale.governance.reproduce import Comparison


def _reproduce(options: argparse.Namespace) -> int:
    from mediscale.core.errors import StorageError
    from mediscale.governance import reproduce

    home, version = settings(), version_of(options)
    if commit := reproduce.commit_to_rebuild(home, *version):
        print(
            f"mediscale: its code is that of commit {commit[:12]}; it is rebuilt from there.", file=sys.stderr
        )
        return reproduce.at_commit(home, commit, ["reproduce", options.version])
    identical = True
    for compared in reproduce.rebuild(home, *version):
        identical &= compared.identical
        print(_sentence(compared))
    return 0 if identical else StorageError.exit_code


def _sentence(compared: "Comparison") -> str:
    is_language = compared.stage == "language_model"
    model, rows = compared.model, f"{compared.rows:,} tuning {'questions' if is_language else 'rows'}"
    how = f"{compared.stage}{f', {compared.layout}' if compared.layout else ''}"
    if compared.identical:
        return (
            f"{model.name}/{model.version} rebuilt ({how}): identical to the bit in {', '.join(compared.same)} "
            f"(digest {model.digest[:12]}) and in its answers on {rows}."
        )
    files = ", ".join(compared.different) or "no file"
    return (
        f"{model.name}/{model.version} rebuilt ({how}): different in {files}; "
        f"answers on {rows} differ by up to {compared.largest:.3g} in "
        f"{'log-likelihood per token' if is_language else 'log-odds'}."
    )


def _add_lineage(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "what",
        metavar="PREDICTION|MODEL/VERSION|PATIENT",
        help="a prediction's identifier, a registered version, or with --dataset a patient by the hospital's own "
        "number ('-' reads it from standard input, so that it is in no shell's history)",
    )
    parser.add_argument("--dataset", help="for a patient: the dataset in the lake")


def _lineage(options: argparse.Namespace) -> int:
    from mediscale.core.refs import parse_version
    from mediscale.governance import lineage_text

    home = settings()
    if options.dataset:
        lines = lineage_text.of_patient(home, _patient(home, options.what, options.dataset))
    elif version := parse_version(options.what):
        lines = lineage_text.of_version(home, *version)
    else:
        lines = lineage_text.of_prediction(home, options.what)
    for line in lines:
        print(line)
    return 0


def _patient(home: "Settings", number: str, dataset: str) -> "Patient":
    from mediscale.governance import patient

    return patient.find(home, dataset, _number(number))


def _number(text: str) -> str:
    return sys.stdin.readline() if text == "-" else text


def _add_who_scored(parser: argparse.ArgumentParser) -> None:
    add_patient(parser)
    parser.add_argument("--at", type=utc, help="the newest answers at this time (UTC)")


def _who_scored(options: argparse.Namespace) -> int:
    from mediscale.core.errors import StorageError
    from mediscale.governance import lineage_text

    home = settings()
    agreed = True
    for line, same in lineage_text.rescored_answers(
        home, _patient(home, options.patient, options.dataset), options.at
    ):
        agreed &= same
        print(line)
    return 0 if agreed else StorageError.exit_code


def _add_erase(parser: argparse.ArgumentParser) -> None:
    add_patient(parser)
    add_reason(parser, "one sentence for the history, which must not say who the patient is")
    parser.add_argument(
        "--dry-run", action="store_true", help="count what would be removed, and remove nothing"
    )


def _erase(options: argparse.Namespace) -> int:
    from mediscale.core import caller
    from mediscale.core.tables import SUBJECTS
    from mediscale.governance import erasure
    from mediscale.storage import lake, signing

    home, number = settings(), _number(options.patient)
    if lake.exists(home, options.dataset, SUBJECTS.name):
        print("Every table is looked through, in all of its versions …", file=sys.stderr, flush=True)
    if options.dry_run:
        erasure.check_reason(number, options.reason)
        erased = erasure.preview(home, options.dataset, number)
        print("Nothing was removed. Without --dry-run, these rows go, in all versions of each table:")
    else:
        erased = erasure.erase(
            home, options.dataset, number, options.reason, signing.actor(home), caller.now()
        )
        print("Erased, in all versions of each table:")
    for table, rows in erased.rows.items():
        print(f"  {table}: {rows:,}")
    print(f"  predictions that were not yet in the lake: {erased.unflushed:,}")
    for versions, what in (
        (erased.trained, "trained on the patient"),
        (erased.judged, "judged on the patient"),
    ):
        print(f"Versions {what}: {', '.join(versions) or 'none'}.")
    print(
        "A version that was trained on the patient stays as it is, and can't be reproduced from now on. The hospital's "
        "own extract, backups, and files that were written elsewhere (mediscale score) are not touched; ingest leaves "
        "the patient out."
    )
    return 0


def _add_leakcheck(parser: argparse.ArgumentParser) -> None:
    add_dataset(parser)
    parser.add_argument("--task", required=True)


def _leakcheck(options: argparse.Namespace) -> int:
    from mediscale.core.errors import LeakError
    from mediscale.pipeline import runtime_inputs
    from mediscale.storage import calls
    from training import evidence_files
    from training.leakage.certificate import LeakCertificate

    home, about = settings(), {"dataset": options.dataset, "task": options.task}
    result = runtime_inputs.call("leakage", about, [], home, calls.new_run_id("leakcheck")).result
    certificate = evidence_files.read_evidence(
        LeakCertificate, home, result.certificate, result.certificate_digest
    )
    print(f"{certificate.training_set}, key {certificate.key}")
    for check in certificate.checks:
        print(f"  {check.verdict}  {check.title}: {check.asks}")
        print(f"          {check.shown}")
    for finding in certificate.findings:
        print(f"  look at {finding.name}: AUROC {finding.auroc:.3f} (at least {finding.low:.3f}) by itself")
    unjudged = ", ".join(check.title for check in certificate.unjudged)
    print(
        f"FAILED: {', '.join(check.title for check in certificate.failed)}."
        if certificate.failed
        else f"None of {len(certificate.checks)} checks failed; not judged, on so few patients: {unjudged}."
        if unjudged
        else f"Passed: all {len(certificate.checks)} checks."
    )
    return 0 if result.passed else LeakError.exit_code


def _add_audit(parser: argparse.ArgumentParser) -> None:
    add_dataset(parser)
    parser.add_argument(
        "--patient",
        help="the hospital's own number; '-' reads it from standard input, so that it is in no shell's history",
    )
    parser.add_argument("--since", type=utc, metavar="TIME", help="a day or time (UTC), e.g. 2026-11-01")
    parser.add_argument("--by", metavar="WHO", help="only people whose name contains this, or a key's id")
    parser.add_argument("--json", action="store_true", help="print one JSON object per line")


def _audit(options: argparse.Namespace) -> int:
    from mediscale.governance import audit

    home, subject_id = settings(), None
    check_dataset(home, options.dataset)
    if options.patient is not None:
        subject_id = _patient(home, options.patient, options.dataset).subject_id
    events = audit.trail(home, options.dataset, subject_id, options.since, options.by)
    for event in events:
        print(json.dumps(event.model_dump(mode="json")) if options.json else wrapped(_line(event), 21))
    if not options.json:
        print(f"{_totals(events)} of {options.dataset}")
    return 0


def _totals(events: "Sequence[audit.Event]") -> str:
    """How many events there are of each kind: what the signed history tells is a decision."""
    from mediscale.core.plural import counted
    from serving.log.logged_answers import FEEDBACK

    kinds = Counter(event.kind if event.kind in ("prediction", FEEDBACK) else "decision" for event in events)
    said = f", {counted(kinds[FEEDBACK], 'feedback report')}" if kinds[FEEDBACK] else ""
    return f"{counted(kinds['prediction'], 'prediction')}{said}, {counted(kinds['decision'], 'decision')}"


def _line(event: "audit.Event") -> str:
    about = f"  about patient {event.subject_id}" if event.subject_id is not None else ""
    purpose = f"  for {event.purpose}" if event.purpose else ""
    return f"{event.at:%Y-%m-%d %H:%M:%S}  {event.by}  {event.kind}: {event.what}{about}{purpose}  [{event.reference}]"


VERBS = (
    Verb("audit", "show who asked about whom and why, and who decided what", _audit, _add_audit),
    Verb("erase", "remove a patient from all tables, logs and copies, for good", _erase, _add_erase),
    Verb(
        "leakcheck", "show the leak certificate of a task's newest training set", _leakcheck, _add_leakcheck
    ),
    Verb(
        "lineage",
        "trace a prediction back to lines of the extract, a version or a patient",
        _lineage,
        _add_lineage,
    ),
    Verb("reproduce", "rebuild a registered version and compare it to the bit", _reproduce, add_version),
    Verb(
        "who-scored",
        "show which version answered about a patient, and score again",
        _who_scored,
        _add_who_scored,
    ),
)
