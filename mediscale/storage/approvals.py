"""Approvals: four eyes for production. Who proposes a version and who approves of it are two people, by signature.

Whether a dataset needs them is a signed entry of its history: whoever keeps home, lake and settings can't lift it.

The newest proposal of a model is the one that may be approved: a later one, as of the next night's retraining, takes
its place. A proposal that nobody approves moves nothing.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime

from mediscale.core.errors import NotFoundError, QualityError, UsageError
from mediscale.core.refs import ModelRef
from mediscale.core.settings import Settings
from mediscale.storage import history, signing
from mediscale.storage.history import append, bodies
from mediscale.storage.history_entries import AliasMove, Approval, ApprovalRule, Draft, Entry, Proposal
from mediscale.storage.signing import AcceptedKey


def is_required(entries: Sequence[Entry], keys: Mapping[str, AcceptedKey]) -> bool:
    """Whether a person must approve before a version goes to production, after these entries of a history.

    Anybody who may sign can ask for it. Only an approver lifts it: another's entry that says so counts for nothing.
    """
    rules = [
        rule.required
        for entry, rule in bodies(entries, ApprovalRule)
        if rule.required or is_approver(keys[entry.signer])
    ]
    return bool(rules) and rules[-1]


def set_rule(settings: Settings, dataset: str, rule: ApprovalRule, *, actor: str, at: datetime) -> bool:
    """Signs the rule that holds for a dataset from now on; False where it holds already.

    Raises:
        UsageError: the key that signs is no approver's, and the rule is to be lifted.
    """
    recorded = history.entries(settings, dataset)
    if is_required(recorded, signing.accepted_keys(settings)) == rule.required:
        return False
    if not rule.required:
        approver_here(settings)
    append(settings, dataset, Draft(rule, actor, at, f"approval-rule-{len(recorded) + 1}"))
    return True


def is_covered(entries: Sequence[Entry], version: ModelRef, keys: Mapping[str, AcceptedKey]) -> bool:
    """Whether a version may answer patients after these entries: no approval is required, or one covers it."""
    about = version.name, version.version, version.digest
    return not is_required(entries, keys) or approver(entries, *about, keys) is not None


def uncovered(settings: Settings, entries: Sequence[Entry]) -> set[int]:
    """The numbers of the moves into production that no approval covers, where one was required at the time.

    A move back to files that were in production before, by an approval or before any was required, needs no other.
    """
    keys = signing.accepted_keys(settings)
    served: set[ModelRef] = set()
    without: set[int] = set()
    if not any(bodies(entries, ApprovalRule)):
        return without
    for entry, move in bodies(entries, AliasMove):
        version = move.version.model_copy(update={"uri": ""})  # the same files, wherever they lie
        if move.alias != "production" or version in served:
            continue
        if is_covered(entries[: entry.sequence - 1], version, keys):
            served.add(version)
        else:
            without.add(entry.sequence)
    return without


def former_approvers(settings: Settings, entries: Sequence[Entry]) -> list[str]:
    """Former approvers: whose approvals were given by keys that are no approver's now, so that they do not count."""
    keys = signing.accepted_keys(settings)
    return sorted(
        {
            keys[entry.signer].name
            for entry, _ in bodies(entries, Approval)
            if entry.signer in keys and not is_approver(keys[entry.signer])
        }
    )


def approver(
    entries: Sequence[Entry], model: str, version: int, model_digest: str, keys: Mapping[str, AcceptedKey]
) -> str | None:
    """Who, being an approver and not the proposer, signed for these files of a version."""
    proposals = {entry.sequence: (entry, proposal) for entry, proposal in bodies(entries, Proposal)}
    for entry, approval in bodies(entries, Approval):
        proposed, proposal = proposals.get(approval.proposal, (None, None))
        if proposed is None or proposal is None or (approval.model, approval.version) != (model, version):
            continue
        same = (proposal.model, proposal.version, proposal.model_digest) == (model, version, model_digest)
        if same and approval.model_digest == model_digest and _is_another(proposed, entry, keys):
            return entry.actor
    return None


def _is_another(proposed: Entry, approved: Entry, keys: Mapping[str, AcceptedKey]) -> bool:
    """An approver's own key, or a service's that names the person; never who proposed."""
    key = keys[approved.signer]
    return is_approver(key) and approved.actor != proposed.actor


def is_approver(key: AcceptedKey) -> bool:
    """Whether a key is an approver's own, or a service's that signs for people whom it authenticated."""
    return bool({"approver", "service"} & key.roles)


def approver_here(settings: Settings) -> str:
    """The approver who acts here: the key that signs must be an approver's.

    Raises:
        UsageError: it is not.
    """
    who = signing.signer(settings).key
    if not is_approver(who):
        raise UsageError(
            f"{who.name} is no approver; whoever keeps {settings.public_keys} may name the key {who.name}.approver.pem."
        )
    return signing.actor(settings)


def propose(
    settings: Settings, dataset: str, proposal: Proposal, actor: str, at: datetime, key: str
) -> Entry:
    """Records that a version waits for approval; the same call finds its proposal."""
    return append(settings, dataset, Draft(proposal, actor, at, f"proposal-{key}"))


def approve(
    settings: Settings, dataset: str, model: str, version: int, *, actor: str, reason: str, at: datetime
) -> Proposal:
    """Signs an approval of a proposed version. The move is the promotion stage's, which judges again.

    Raises:
        NotFoundError: the version is not the newest proposal of its model.
        QualityError: the proposer asks for their own approval.
        UsageError: the key that signs is no approver's.
    """
    recorded = history.entries(settings, dataset)
    proposals = [(entry, p) for entry, p in bodies(recorded, Proposal) if p.model == model]
    if not proposals or proposals[-1][1].version != version:
        newest = (
            f"the newest proposal is version {proposals[-1][1].version}"
            if proposals
            else "nothing is proposed"
        )
        raise NotFoundError(f"{model} v{version} does not wait for approval: {newest}.")
    proposed, proposal = proposals[-1]
    approver_here(settings)
    if actor == proposed.actor:
        raise QualityError(f"{actor} proposed {model} v{version}; somebody else must approve of it.")
    body = Approval(
        proposal=proposed.sequence,
        reason=reason,
        **proposal.model_dump(include={"model", "version", "evidence_digest", "model_digest"}),
    )
    append(settings, dataset, Draft(body, actor, at, f"approval-{proposed.sequence}-{actor}"))
    return proposal
