"""An alias back to a version that it pointed to before."""

from collections.abc import Sequence
from datetime import datetime

from mediscale.core.errors import NotFoundError
from mediscale.core.settings import Settings
from mediscale.inference import model_signature
from mediscale.storage import history, registry
from mediscale.storage.history_entries import Alias


def roll_back(
    settings: Settings,
    dataset: str,
    task: str,
    alias: Alias,
    version: int,
    *,
    actor: str,
    reason: str,
    moved_at: datetime,
) -> registry.Move:
    """Points an alias back to a version that it pointed to before, as a new move; MLflow's alias is left to
    ``registry.repair``, which takes longer than an emergency should.

    Raises:
        NotFoundError: the alias never pointed to this version, or points to it now.
        StorageError: that version's files were changed or are gone.
        BusyError: another move was recorded at the same moment.
    """
    name = registry.model_name(dataset, task)
    recorded = history.entries(settings, dataset)
    past = [
        move for move in registry.attested_in(settings, recorded) if (move.model, move.alias) == (name, alias)
    ]
    earlier = [move for move in past if move.to_version == version != past[-1].to_version]
    if not earlier:
        raise NotFoundError(
            f"{alias.capitalize()} of {name} can't go back to version {version}: {_obstacle(alias, past, version)}."
        )
    target, now = earlier[-1], past[-1]
    model_signature.check(settings, target.version, target.evidence_digest)
    sequence = len(recorded) + 1
    changed = {
        "sequence": sequence,
        "from_version": now.to_version,
        "actor": actor,
        "moved_at": moved_at,
        "reason": reason,
        "key": f"rollback-{sequence}-to-{version}",
    }
    move = target.model_copy(update=changed)
    registry.record(settings, dataset, move)
    return move


def _obstacle(alias: Alias, past: Sequence[registry.Move], version: int) -> str:
    if not past:
        return f"no version was ever in {alias}"
    now, others = past[-1].to_version, sorted({move.to_version for move in past})
    if version == now:
        return f"it is in {alias} now"
    names = " and ".join(f"v{other}" for other in others)
    return f"it never was in {alias}; {names} {'were' if others[1:] else 'alone was'}, and v{now} is now"
