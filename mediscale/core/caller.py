"""The caller's clock: what a stage may not look up by itself, because its key has to cover it."""

from datetime import UTC, datetime


def now() -> datetime:
    """UTC without a zone, as all times here."""
    return datetime.now(UTC).replace(tzinfo=None)
