"""Approvals: four eyes for production. Who proposes a version and who approves of it are two people, by signature.

The newest proposal of a model is the one that may be approved: a later one, as of the next night's retraining, takes
its place. A proposal that nobody approves moves nothing.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime

from mediscale.core.errors import NotFoundError, QualityError, UsageError
from mediscale.core.settings import Settings
from mediscale.storage import history, signing
from mediscale.storage.history import AliasMove, Approval, Draft, Entry, Proposal, append, bodies
from mediscale.storage.signing import AcceptedKey


def needed(settings: Settings, dataset: str) -> bool:
    """Whether a person must approve before a version of the dataset goes to production."""
    return dataset in {name.strip() for name in settings.four_eyes.split(",")}


def uncovered(settings: Settings, dataset: str, entries: Sequence[Entry]) -> set[int]:
    """The numbers of the moves into production that no approval covers, where the dataset needs one.

    A move back to a version that was approved before is covered by that approval.
    """
    if not needed(settings, dataset):
        return set()
    keys = signing.accepted_keys(settings)
    return {
        entry.sequence
        for entry, move in bodies(entries, AliasMove)
        if move.alias == "production"
        and not approver(entries[: entry.sequence - 1], move.model, move.to_version, move.model_digest, keys)
    }


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
    return bool({"approver", "service"} & key.roles) and approved.actor != proposed.actor


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
    who = signing.signer(settings).key
    if not {"approver", "service"} & who.roles:
        raise UsageError(
            f"{who.name} is no approver; whoever keeps {settings.public_keys} may name the key {who.name}.approver.pem."
        )
    if actor == proposed.actor:
        raise QualityError(f"{actor} proposed {model} v{version}; somebody else must approve of it.")
    body = Approval(
        proposal=proposed.sequence,
        reason=reason,
        **proposal.model_dump(include={"model", "version", "evidence_digest", "model_digest"}),
    )
    append(settings, dataset, Draft(body, actor, at, f"approval-{proposed.sequence}-{actor}"))
    return proposal
