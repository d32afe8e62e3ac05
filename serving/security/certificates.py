"""Certificates of a server: when clients believe them."""

from datetime import datetime
from pathlib import Path

from mediscale.core.errors import UsageError


def validity(chain: Path) -> tuple[datetime, datetime]:
    """The first and the last moment at which every certificate of a chain is valid (UTC without a zone)."""
    from cryptography import x509

    certificates = x509.load_pem_x509_certificates(chain.read_bytes())
    begin, end = (
        max(one.not_valid_before_utc for one in certificates),
        min(one.not_valid_after_utc for one in certificates),
    )
    return begin.replace(tzinfo=None), end.replace(tzinfo=None)


def check(begin: datetime, end: datetime, now: datetime) -> None:
    """Whether a server's certificate is valid now.

    Raises:
        UsageError: it has expired, or begins later, which a wrong clock looks like too.
    """
    if now > end:
        raise UsageError(
            f"The server's certificate expired at {end:%Y-%m-%d %H:%M} UTC, so that no client believes it; renew it "
            "and start again."
        )
    if now < begin:
        raise UsageError(
            f"The server's certificate is valid from {begin:%Y-%m-%d %H:%M} UTC on, and this machine's clock says "
            f"{now:%Y-%m-%d %H:%M}; set the clock (NTP), or take another certificate."
        )
