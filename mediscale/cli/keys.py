"""``mediscale keys``: the API keys of servers that read this ``MEDISCALE_TRUST``."""

import argparse
import re
from datetime import datetime, timedelta

from mediscale.cli.verbs import Verb, settings
from mediscale.core.errors import UsageError
from serving.security.principal import Role

DEFAULT_EXPIRY = "90d"


def _add_keys(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    create = actions.add_parser("create", help="make a key; it is printed once")
    create.add_argument(
        "--name", required=True, help="the key's owner: a person as the history names them, or a system"
    )
    create.add_argument(
        "--role",
        action="append",
        required=True,
        choices=[role.value for role in Role],
        help="repeat for several",
    )
    create.add_argument(
        "--expires",
        default=DEFAULT_EXPIRY,
        help=f"days (30d) or a day (2027-06-30); default {DEFAULT_EXPIRY}",
    )
    actions.add_parser("list", help="list every key ever made, and its state")
    revoke = actions.add_parser("revoke", help="end a key; servers refuse it within seconds")
    revoke.add_argument("key", metavar="ID_OR_NAME")


def _keys(options: argparse.Namespace) -> int:
    return {"create": _create, "list": _list, "revoke": _revoke}[options.action](options)


def _create(options: argparse.Namespace) -> int:
    from mediscale.core import caller
    from serving.security import api_keys

    now = caller.now()
    roles = tuple(role for role in Role if role in options.role)
    expires_at = _expiry(options.expires, now)
    home = settings()
    key, text = api_keys.create(home, options.name, roles, expires_at, caller.account(), now)
    print(text)
    print(
        f"Key {key.id} of {key.name} ({', '.join(key.roles)}) is valid until {key.expires_at:%Y-%m-%d %H:%M} UTC. It "
        f"is shown only now; {api_keys.path(home)} keeps its hash."
    )
    return 0


def _expiry(text: str, now: datetime) -> datetime:
    """The moment of expiry, from a number of days or from a day, which the key outlives.

    >>> str(_expiry("30d", datetime(2026, 11, 1, 12))), str(_expiry("2027-06-30", datetime(2026, 11, 1)))
    ('2026-12-01 12:00:00', '2027-07-01 00:00:00')
    """
    try:
        if days := re.fullmatch(r"([1-9]\d{0,4})d", text):
            return now + timedelta(days=int(days[1]))
        return datetime.strptime(text, "%Y-%m-%d") + timedelta(days=1)
    except (ValueError, OverflowError):
        raise UsageError(f"--expires {text}: write it as 30d or 2027-06-30.") from None


def _list(_options: argparse.Namespace) -> int:
    from mediscale.core import caller
    from mediscale.core.plural import counted
    from serving.security import api_keys

    home, now = settings(), caller.now()
    keys = api_keys.read(home)
    print(f"{counted(len(keys), 'key')} in {api_keys.path(home)}")
    for key in keys:
        revoked = f", revoked by {key.revoked_by} {key.revoked_at:%Y-%m-%d %H:%M}" if key.revoked_at else ""
        print(
            f"{key.id}  {key.state(now):<8}  until {key.expires_at:%Y-%m-%d %H:%M}  {key.name}  "
            f"({', '.join(key.roles)})  made by {key.created_by} {key.created_at:%Y-%m-%d %H:%M}{revoked}"
        )
    return 0


def _revoke(options: argparse.Namespace) -> int:
    from mediscale.core import caller
    from serving.security import api_keys

    for key in api_keys.revoke(settings(), options.key, caller.account(), caller.now()):
        print(f"Key {key.id} of {key.name} is revoked; servers refuse it within seconds.")
    return 0


VERBS = (Verb("keys", "create, list or revoke API keys of the server", _keys, _add_keys),)
