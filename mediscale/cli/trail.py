"""``mediscale audit``: who asked about whom and why, and who decided what."""

import argparse
import json
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from mediscale.cli.verbs import Verb, settings
from mediscale.core.errors import UsageError

if TYPE_CHECKING:
    from mediscale.governance import audit


def _add_audit(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dataset", required=True)
    parser.add_argument(
        "--patient",
        help="the hospital's own number; '-' reads it from standard input, which no shell remembers",
    )
    parser.add_argument("--since", type=_time, metavar="TIME", help="a day or time (UTC), e.g. 2026-11-01")
    parser.add_argument("--by", metavar="WHO", help="only those with this in their name, or a key's id")
    parser.add_argument("--json", action="store_true", help="one JSON object for each line")


def _time(text: str) -> datetime:
    """A day or time as UTC without a zone."""
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(f"--since {text}: write it as 2026-11-01 or 2026-11-01T08:00.") from None
    return time.astimezone(UTC).replace(tzinfo=None) if time.tzinfo else time


def _audit(options: argparse.Namespace) -> int:
    from mediscale.governance import audit, patient

    home, subject_id = settings(), None
    if options.patient is not None:
        number = sys.stdin.readline() if options.patient == "-" else options.patient
        subject_id = patient.find(home, options.dataset, number).subject_id
    events = audit.trail(home, options.dataset, subject_id, options.since, options.by)
    for event in events:
        print(json.dumps(event.model_dump(mode="json")) if options.json else _line(event))
    if not options.json:
        asked = sum(event.kind == "prediction" for event in events)
        print(f"{asked:,} predictions, {len(events) - asked:,} decisions of {options.dataset}")
    return 0


def _line(event: "audit.Event") -> str:
    about = f"  about patient {event.subject_id}" if event.subject_id is not None else ""
    purpose = f"  for {event.purpose}" if event.purpose else ""
    return f"{event.at:%Y-%m-%d %H:%M:%S}  {event.by}  {event.kind}: {event.what}{about}{purpose}  [{event.reference}]"


VERBS = (Verb("audit", "who asked about whom and why, who decided what", _audit, _add_audit),)
