"""Verbs of governance: who moved which alias, asking for production, moving back."""

import argparse
from typing import TYPE_CHECKING

from mediscale.cli import stage
from mediscale.cli.verbs import Verb, add_alias, add_dataset, add_reason, add_version, path, settings, wrapped
from mediscale.core.task_names import LANGUAGE, all_names

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mediscale.core.settings import Settings


def _history(options: argparse.Namespace) -> int:
    from mediscale.core.errors import NotFoundError
    from mediscale.storage import history, lake, signing

    home = settings()
    recorded = history.entries(home, options.dataset)
    if not recorded:
        there = ", ".join(lake.datasets(home)) or "none yet"
        raise NotFoundError(
            f"No alias of {options.dataset} was ever moved; the lake's datasets are: {there}."
        )
    keys = signing.accepted_keys(home)
    for entry in recorded:
        signer = keys[entry.signer].name
        attested = "" if signer == entry.actor else f" (attested by {signer})"
        print(
            wrapped(
                f"{entry.sequence:>4}  {entry.at:%Y-%m-%d %H:%M}  {entry.actor}{attested}  {entry.content}",
                24,
            )
        )
    return 0


def _add_version(parser: argparse.ArgumentParser) -> None:
    add_dataset(parser)
    parser.add_argument("--task", choices=(*all_names(), LANGUAGE), required=True)
    parser.add_argument("--version", type=int, required=True)


def _promote(options: argparse.Namespace) -> int:
    from mediscale.core.errors import QualityError
    from mediscale.governance import production
    from mediscale.storage import calls, registry

    home = settings()
    now = registry.current(home, options.dataset, options.task, "production")
    if now and now.to_version == options.version:
        print(
            f"{now.version} is in production already, since {now.moved_at:%Y-%m-%d %H:%M}; nothing was moved."
        )
        return 0
    decision = production.ask(
        home, options.dataset, options.task, options.version, calls.new_run_id("promote")
    )
    print(decision.reason)
    return 0 if decision.promoted else QualityError.exit_code


def _add_approve(parser: argparse.ArgumentParser) -> None:
    add_version(parser, "the proposed version, e.g. icu-mortality/2")
    add_reason(parser)
    stage.add_step(parser)


def _approve(options: argparse.Namespace) -> int:
    from mediscale.core.errors import QualityError
    from mediscale.governance import approval
    from mediscale.storage import calls

    home = settings()
    stage.begin_step(options)
    decision = stage.when_free(
        options.wait_for_lock,
        lambda: approval.approve(home, options.version, options.reason, calls.run_id_of(options.run_id)),
    )
    if options.result:
        stage.write_result(decision.model_dump_json(indent=2), options.result)
    print(decision.reason)
    return 0 if decision.promoted else QualityError.exit_code


def _add_require_approval(parser: argparse.ArgumentParser) -> None:
    add_dataset(parser)
    add_reason(parser)
    parser.add_argument(
        "--lift", action="store_true", help="let the gate alone decide again; only an approver may"
    )


def _require_approval(options: argparse.Namespace) -> int:
    from mediscale.core import caller
    from mediscale.storage import approvals, lake, signing
    from mediscale.storage.history_entries import ApprovalRule

    home, rule = settings(), ApprovalRule(required=not options.lift, reason=options.reason)
    landed = options.dataset in lake.datasets(home)
    new = approvals.set_rule(home, options.dataset, rule, actor=signing.actor(home), at=caller.now())
    says = "needs another person's approval" if rule.required else "is the gate's decision alone"
    print(f"Production of {options.dataset} {says}{'' if new else ' already'}.")
    if not landed:
        print(f"The lake has no dataset {options.dataset} yet: is the name right?")
    return 0


def _add_rollback(parser: argparse.ArgumentParser) -> None:
    _add_version(parser)
    add_alias(parser)
    add_reason(parser)


def _rollback(options: argparse.Namespace) -> int:
    from mediscale.core import caller
    from mediscale.storage import registry, signing
    from training.promotion.rollback import roll_back

    home = settings()
    move = roll_back(
        home,
        options.dataset,
        options.task,
        options.alias,
        options.version,
        actor=signing.actor(home),
        reason=options.reason,
        moved_at=caller.now(),
    )
    registry.repair_later(options.dataset)
    print(f"{move.model} {move.alias} → version {move.to_version}; servers follow by themselves.")
    return 0


def _add_model_card(parser: argparse.ArgumentParser) -> None:
    add_version(parser)
    parser.add_argument(
        "--output", type=path, help="HTML file to write, the JSON beside it (default: in the home's reports)"
    )


def _model_card(options: argparse.Namespace) -> int:
    from mediscale.report import model_card
    from mediscale.storage import registry

    home = settings()
    card = model_card.find(home, options.version)
    for file in model_card.write(
        home,
        card,
        options.output or home.home / "reports" / registry.card_file(card.model.name, card.model.version),
    ):
        print(file)
    return 0


def _add_verify(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dataset", help="one dataset (default: all with a history)")
    parser.add_argument(
        "--rows",
        action="store_true",
        help="also read every table that the versions were made and judged from",
    )


def _verify(options: argparse.Namespace) -> int:
    from mediscale.core.errors import NotFoundError, StorageError
    from mediscale.governance import integrity
    from mediscale.storage import lake, last_calls

    home, wrong = settings(), 0
    present, warnings = lake.datasets(home), tuple(integrity.warnings(home))
    names = [options.dataset] if options.dataset else integrity.datasets(home)
    for name in names:
        findings, says = _verified(home, name, options.rows)
        for line in (*findings, *says):
            print(f"{name}: {line}")
        wrong += len(findings)
        if name in present:  # a lake that is not mounted gets no note
            why = _why_failed(name, findings)
            last_calls.record(home, name, "verify", "", failed=bool(findings), warnings=(*why, *warnings))
    for warning in warnings:
        print(f"warning: {warning}")
    if not names:
        raise NotFoundError("No dataset has a history; nothing was promoted yet.")
    return StorageError.exit_code if wrong else 0


def _verified(home: "Settings", dataset: str, with_rows: bool) -> "tuple[Sequence[str], Sequence[str]]":
    """What is wrong with a dataset, and what else is to be said of it.

    Raises:
        NotFoundError: it has no history.
    """
    from rich.console import Console

    from mediscale.core.errors import NotFoundError
    from mediscale.governance import integrity

    verified = integrity.verify(home, dataset)
    if not verified.entries and not verified.findings:
        raise NotFoundError(f"{dataset} has no history; nothing of it was promoted yet.")
    if verified.findings:
        unread = "no row was compared; until this is mended the records that tell of them can't be believed"
        return verified.findings, (unread,) if with_rows else ()
    if not with_rows:
        return (), (str(verified),)
    with Console(stderr=True).status(f"the rows of {dataset} …"):
        rows = integrity.verify_rows(home, dataset)
    return rows.findings, () if rows.findings else (str(verified), str(rows))


def _why_failed(dataset: str, findings: "Sequence[str]") -> tuple[str, ...]:
    """The sentence that servers repeat; none where nothing was found."""
    from mediscale.core.errors import StorageError
    from mediscale.storage import last_calls

    if not findings:
        return ()
    more = f" `mediscale verify --dataset {dataset}` lists {len(findings) - 1} more." if findings[1:] else ""
    return (last_calls.reason("verify", "", StorageError(f"{findings[0]}{more}")),)


VERBS = (
    Verb(
        "verify",
        "find what differs from what was signed (history, versions named there, evidence) or recorded (rows)",
        _verify,
        _add_verify,
    ),
    Verb("history", "show who moved which alias, when and why", _history, add_dataset),
    Verb(
        "model-card",
        "write a version's model card: what it is for, how good it is, what was not done",
        _model_card,
        _add_model_card,
    ),
    Verb("promote", "ask for a staged version to go to production", _promote, _add_version),
    Verb("approve", "approve a version that another person proposed", _approve, _add_approve),
    Verb(
        "require-approval",
        "require another person's approval before a dataset's versions go to production",
        _require_approval,
        _add_require_approval,
    ),
    Verb("rollback", "point an alias back at an earlier version", _rollback, _add_rollback),
)
