"""Caller: who calls a stage and when, which a stage may not look up itself, because its key has to cover it."""

import getpass
import os
from datetime import UTC, datetime


def now() -> datetime:
    """The caller's clock: UTC without a zone, as all times here."""
    return datetime.now(UTC).replace(tzinfo=None)


def account() -> str:
    """The account of this process; nameless in some pods."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"
