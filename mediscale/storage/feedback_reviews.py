"""Reviews of feedback: rows of ``reviewed_feedback``, each attested by a signed entry of the dataset's history.

The row holds the texts, and an erasure removes it. The entry holds the decision and a salted digest of the row. So a
model learns nothing from a row that was added or changed by hand, nor from one whose later rejection was taken out.
"""

import hashlib
import secrets
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal

import pyarrow as pa

from mediscale.core.refs import TableRef
from mediscale.core.settings import Settings
from mediscale.core.tables import REVIEWED_FEEDBACK
from mediscale.storage import approvals, calls, commits, history, lake, signing
from mediscale.storage.history_entries import Draft, FeedbackReview

Decision = Literal["accepted", "rejected"]


def record(
    settings: Settings,
    dataset: str,
    feedback: Mapping[str, Any],
    decision: Decision,
    reason: str,
    at: datetime,
) -> None:
    """Writes the review of the approver whose key signs here, then the entry that attests it.

    A review without its entry, as after a crash between the two, counts for nothing and is given again.

    Args:
        feedback: the row's columns that say what was reviewed.

    Raises:
        UsageError: whose key signs here is no approver.
        BusyError: somebody else reviewed at the same moment.
    """
    reviewer = approvals.approver_here(settings)
    decided = {"reviewed_at": at, "reviewed_by": reviewer, "decision": decision, "reason": reason}
    row = {**feedback, **decided, "salt": secrets.token_hex(16)}
    name = str(row["feedback_id"])
    newest = lake.find_latest(settings, dataset, REVIEWED_FEEDBACK.name)
    earlier = sum(each["feedback_id"] == name for each in _rows(settings, newest)) if newest else 0
    rows = pa.Table.from_pylist([row], schema=REVIEWED_FEEDBACK.arrow_schema())
    if (
        commits.append(settings, REVIEWED_FEEDBACK.name, rows, dataset, f"review of {name}", earlier + 1)
        is None
    ):
        raise commits.write_conflict(dataset, REVIEWED_FEEDBACK.name)
    [written] = rows.to_pylist()
    body = FeedbackReview(feedback_id=name, decision=decision, digest=_digest(written))
    history.append(settings, dataset, Draft(body, reviewer, at, f"feedback-review-{body.digest}"))


def newest_entry(settings: Settings, dataset: str) -> int:
    """The number of the history's newest review of feedback; 0 where there is none."""
    reviews = history.bodies(history.entries(settings, dataset), FeedbackReview)
    return max((entry.sequence for entry, _ in reviews), default=0)


def attested(settings: Settings, reviews: TableRef, until: int) -> dict[str, dict[str, Any]]:
    """The row of each feedback's newest review by an approver, of the history's entries up to a number.

    Feedback whose newest review has no row, because a patient was erased or the row was changed, is not among them.

    Raises:
        StorageError: the history is not to be trusted.
    """
    keys = signing.accepted_keys(settings)
    newest = {
        review.feedback_id: review.digest
        for entry, review in history.bodies(history.entries(settings, reviews.dataset), FeedbackReview)
        if entry.sequence <= until and approvals.is_approver(keys[entry.signer])
    }
    rows = {
        row["feedback_id"]: row
        for row in _rows(settings, reviews)
        if newest.get(row["feedback_id"]) == _digest(row)
    }
    return dict(sorted(rows.items()))


def _rows(settings: Settings, reviews: TableRef) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = lake.read(settings, reviews).to_pylist()
    return rows


def _digest(row: Mapping[str, Any]) -> str:
    stored = {**row, "reviewed_at": row["reviewed_at"].replace(tzinfo=None).isoformat()}
    return hashlib.sha256(calls.canonical(stored).encode()).hexdigest()
