"""The second pair of eyes: an approval is signed, and the promotion stage then judges again and moves the alias."""

from typing import Any

from mediscale.core import caller, task_names
from mediscale.core.errors import UsageError
from mediscale.core.refs import parse_version
from mediscale.core.settings import Settings
from mediscale.governance import production
from mediscale.storage import approvals, calls, signing


def approve(settings: Settings, version: str, reason: str, run_id: str = "") -> Any:
    """Approves of a proposed version, named as ``MODEL/VERSION``, as whoever signs here; the promotion's result.

    Raises:
        UsageError: that is no version's name, or the key that signs is no approver's.
        NotFoundError: the version is not the newest that was proposed.
        QualityError: the proposer can't approve.
    """
    name, number = parse_version(version) or (version, 0)
    tasks = (*task_names.all_names(), task_names.LANGUAGE)
    task = next((task for task in tasks if name.endswith(f"-{task}")), None)
    if task is None or not number:
        raise UsageError(f"{version!r} is no version of a task's model; name it as MODEL/VERSION.")
    dataset, who = name.removesuffix(f"-{task}"), signing.actor(settings)
    approvals.approve(settings, dataset, name, number, actor=who, reason=reason, at=caller.now())
    return production.ask(settings, dataset, task, number, run_id or calls.new_run_id("approve"))
