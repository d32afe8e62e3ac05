"""Audit trail: who asked about whom and why, from the prediction log, and who decided what, from the signed history.

The prediction log is read where it is: in the lake, and in the files of servers on this machine that have not yet moved
their newest answers there. Sentences name a patient by ``subject_id``, the pseudonym of the lake.
"""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from mediscale.core.errors import NotFoundError
from mediscale.core.refs import Frozen
from mediscale.core.settings import Settings
from mediscale.core.tables import HISTORY, PREDICTIONS
from mediscale.storage import history, lake
from mediscale.storage.history_entries import Entry
from serving.log import prediction_log
from serving.log.logged_answers import FEEDBACK

COLUMNS = (
    "prediction_id", "predicted_at", "model", "model_version", "subject_id", "prediction_time",
    "asked_by", "purpose", "arm", "task", "cited_dataset",
)  # fmt: skip
UNKNOWN = "not kept then"
"""Who asked and why, of what was answered before that was kept."""


class Event(Frozen):
    """One thing that somebody did. Times are UTC."""

    at: datetime
    by: str
    kind: str
    """``prediction``, ``feedback``, or the kind of the history's entry."""
    what: str
    """The versions that answered, or what was decided."""
    purpose: str | None = None
    subject_id: int | None = None
    """About whom; None where plain values were sent, and for a decision."""
    prediction_time: datetime | None = None
    """The moment of whose knowledge such a patient's prediction was made."""
    reference: str
    """The prediction's identifier, or the number of the history's entry."""


def trail(
    settings: Settings,
    dataset: str,
    subject_id: int | None = None,
    since: datetime | None = None,
    by: str | None = None,
) -> list[Event]:
    """What was done with a dataset, oldest first: with ``subject_id`` only what was asked about that patient, since a
    time (UTC without a zone), and by whoever has ``by`` in their name.

    Raises:
        NotFoundError: the lake has neither a history nor predictions of the dataset.
        StorageError: the history is not to be trusted, or a file can't be read.
    """
    there = [table for table in (PREDICTIONS.name, HISTORY.name) if lake.exists(settings, dataset, table)]
    if not there and subject_id is None:
        datasets = ", ".join(lake.datasets(settings)) or "none yet"
        raise NotFoundError(
            f"Nobody asked or decided anything of {dataset}; the lake's datasets are: {datasets}."
        )
    events = [*_request_events(settings, dataset, subject_id, since)]
    if subject_id is None and HISTORY.name in there:
        events += [_decided(entry) for entry in history.entries(settings, dataset)]
    began = since.replace(tzinfo=UTC) if since else None
    recent = (event for event in events if began is None or event.at >= began)
    named = (event for event in recent if by is None or by.casefold() in event.by.casefold())
    return sorted(named, key=lambda event: event.at)


def _decided(entry: Entry) -> Event:
    return Event(
        at=entry.at.replace(tzinfo=UTC),
        by=entry.actor,
        kind=entry.kind,
        what=str(entry.content),
        reference=f"entry {entry.sequence}",
    )


def _request_events(
    settings: Settings, dataset: str, subject_id: int | None, since: datetime | None
) -> Iterator[Event]:
    """One event for each request, whose row of each task names a version; of a patient those of other datasets' logs,
    too, where a language model quoted the patient's notes."""
    requests: dict[str, list[dict[str, Any]]] = {}
    for log in [dataset] if subject_id is None else lake.datasets(settings):
        rows = prediction_log.rows(settings, log, COLUMNS, _row_filter(subject_id, since))
        for row in rows.sort_by([("predicted_at", "ascending"), ("sequence", "ascending")]).to_pylist():
            if subject_id is None or (row["cited_dataset"] or log) == dataset:
                requests.setdefault(row["prediction_id"], []).append(row)
    yield from map(_request, requests.values())


def _row_filter(subject_id: int | None, since: datetime | None) -> pc.Expression | None:
    of_patient = None if subject_id is None else pc.field("subject_id") == subject_id
    if since is None:
        return of_patient
    later = pc.field("predicted_at") >= pa.scalar(since, pa.timestamp("us"))
    return later if of_patient is None else of_patient & later


def _version(row: dict[str, Any]) -> str:
    """The version that answered; the answer of a shadow was shown to nobody."""
    return f"{row['model']}/{row['model_version']}{' (shadow)' if row['arm'] == 'shadow' else ''}"


def _request(rows: Sequence[dict[str, Any]]) -> Event:
    first = next((row for row in rows if row["subject_id"] is not None), rows[0])
    quoted = f", quoting a note of {first['cited_dataset']}" if first["cited_dataset"] else ""
    moment = first["prediction_time"]
    return Event(
        at=first["predicted_at"].replace(tzinfo=UTC),
        by=first["asked_by"] or UNKNOWN,
        kind=FEEDBACK if first["task"] == FEEDBACK else "prediction",
        what=", ".join(dict.fromkeys(map(_version, rows))) + quoted,
        purpose=first["purpose"],
        subject_id=first["subject_id"],
        prediction_time=moment.replace(tzinfo=UTC) if moment else None,
        reference=first["prediction_id"],
    )
