"""Access: what a request must prove before anything is done for it, by where the server listens.

Beyond loopback, behind a proxy, and wherever a key or an issuer was ever set, a request needs a key or token. Only on
loopback, before the first key, the caller is the account that runs the server; that ends for good with the first key.
No option switches it off. Counts are in this process's memory: each worker has its own.
"""

import ipaddress
import logging
import time
from collections.abc import Mapping
from typing import Any

from fastapi import Request

from mediscale.core import caller
from mediscale.core.errors import BusyError, MediscaleError, UsageError
from mediscale.core.settings import Settings
from serving.metrics.prometheus_metrics import Metrics
from serving.security import api_keys
from serving.security.card_links import CardLinks
from serving.security.listening import Listening
from serving.security.principal import Principal, RefusedError, Role
from serving.security.rates import Rates
from serving.security.tokens import Tokens

FAILURES = "20/minute"
"""Refused requests of one address (IPv6: of one /64). Beyond it no token of that address is verified, and nothing is
logged; keys are looked up all the same, for nobody guesses 256 random bits, and a ward behind one address must not be
shut out by one of its machines."""
LOCAL_ROLES = frozenset({Role.CLINICIAN, Role.ENGINEER, Role.AUDITOR})
"""Of the account that runs the server, which could read the lake anyway. To approve, a person needs a key."""
_WANTED = frozenset(
    {b"host", b"origin", b"authorization", b"x-forwarded-for", b"forwarded", b"x-forwarded-host"}
)
_FORWARDED = (b"x-forwarded-for", b"forwarded", b"x-forwarded-host")
_CHALLENGE = {"WWW_Authenticate": 'Bearer realm="mediscale"'}
_UNKNOWN = "This request needs a valid key or token: send it as Authorization: Bearer."
_EXPIRED = "This link is no longer good; open the patient in the EHR again."
_LINKED = Principal("whoever has a link", "link", frozenset())

Head = Mapping[bytes, bytes]

log = logging.getLogger("mediscale.serving")


class Access:
    """Admits the requests of one process."""

    def __init__(self, settings: Settings, listening: Listening | None, metrics: Metrics) -> None:
        """``listening`` is None for an application that is asked within its process, by its own account."""
        self._settings, self._metrics = settings, metrics
        self._local = Principal(caller.account(), "account", LOCAL_ROLES, "operations")
        self._listening = listening
        self._keys: Mapping[bytes, tuple[bytes, float, Principal]] = {}
        self._tokens: Tokens | None = None
        self.links = CardLinks(settings)
        self._rates, self._failures = Rates(settings.rate_limit), Rates(FAILURES)
        self.required = False
        """Whether a key or token is needed. It never becomes False again."""
        if listening is not None:
            self._hosts = _hosts(settings, listening)
            self._tokens = Tokens(settings) if settings.oidc_issuer or settings.oidc_audience else None
            self.required = not listening.is_local or self._tokens is not None

    def refresh(self) -> None:
        """Reads the file of API keys again.

        Raises:
            StorageError: it can't be read. No API key is accepted until it can be.
        """
        if self._listening is None:
            return
        try:
            keys = api_keys.read(self._settings)
        except MediscaleError:
            self._keys, self.required = {}, True
            raise
        self._keys = api_keys.by_id(keys)
        self.required = self.required or bool(keys)

    def check_clock(self) -> None:
        """Whether the identity provider and this machine agree on what time it is.

        Raises:
            UsageError: the newest token was issued after now.
        """
        if self._tokens is not None and self._tokens.ahead:
            raise UsageError(self._tokens.ahead)

    def close(self) -> None:
        """Ends the threads that verify tokens, after the last request."""
        if self._tokens is not None:
            self._tokens.close()

    def base_url(self, request: Request) -> str:
        """Where clients reach this server: behind a proxy, which ends TLS, over https."""
        behind_proxy = self._listening is not None and self._listening.behind_proxy
        return str(request.base_url.replace(scheme="https") if behind_proxy else request.base_url)

    async def admit(self, request: Request, roles: frozenset[Role], takes_link: bool = False) -> Principal:
        """Authenticates and authorizes a request: the principal who asks, if they may; with ``takes_link`` whoever has
        a card's link may.

        Raises:
            RefusedError: they may not; it is counted, and in the log without what was asked.
        """
        if self._listening is None:
            return self._local
        try:
            return await self._admitted(request.scope, roles, takes_link)
        except RefusedError as refusal:
            self._metrics.refusals.labels(refusal.status).inc()
            self._report(refusal, request.scope)
            raise

    async def _admitted(
        self, scope: Mapping[str, Any], roles: frozenset[Role], takes_link: bool
    ) -> Principal:
        head = _head(scope)
        host = head.get(b"host", b"").lower()
        if self._hosts and _without_port(host) not in self._hosts:
            raise RefusedError(
                421, "This server does not answer for that host; MEDISCALE_ALLOWED_HOSTS lists its names."
            )
        origin = head.get(b"origin")
        if origin is not None and origin.lower().rpartition(b"://")[2] != host:
            raise RefusedError(403, "Pages of other sites can't ask this server.")
        if takes_link and self.links.is_valid(scope["path_params"], scope["query_string"], time.time()):
            return _LINKED
        unknown = _EXPIRED if takes_link and b"signature=" in scope["query_string"] else _UNKNOWN
        principal = await self._authenticated(head, scope, unknown)
        if principal is not self._local and not self._rates.take(principal.name):
            raise self._rates.refusal()
        if roles.isdisjoint(principal.roles):
            needed = " or ".join(sorted(roles))
            raise RefusedError(403, f"This needs the role {needed}, which {principal.name} does not have.")
        return principal

    async def _authenticated(self, head: Head, scope: Mapping[str, Any], unknown: str) -> Principal:
        if not self.required:
            if any(name in head for name in _FORWARDED):
                raise RefusedError(
                    403, "A proxy passed this request on; the server must be started with --behind-proxy."
                )
            return self._local
        scheme, _, secret = head.get(b"authorization", b"").partition(b" ")
        if scheme.lower() != b"bearer":
            secret = b""
        if principal := api_keys.verify(self._keys, secret, time.time()):
            return principal
        if self._tokens is not None and (
            principal := await self._of_token(self._tokens, secret, head, scope)
        ):
            return principal
        address = self._address(head, scope)
        if not self._failures.is_left(address):
            raise self._failures.refusal()
        raise RefusedError(401, unknown, **_CHALLENGE)

    async def _of_token(
        self, tokens: Tokens, token: bytes, head: Head, scope: Mapping[str, Any]
    ) -> Principal | None:
        if principal := tokens.cached(token):
            return principal
        if not token or not self._failures.is_left(self._address(head, scope)):
            return None
        try:
            return await tokens.verify(token)
        except UsageError as error:
            raise RefusedError(401, str(error), **_CHALLENGE) from error
        except BusyError as error:
            raise RefusedError(503, str(error), Retry_After="30") from error

    def _address(self, head: Head, scope: Mapping[str, Any]) -> str:
        """The client's network address; behind a proxy the last of X-Forwarded-For, which the proxy itself adds."""
        client = scope.get("client")
        text = str(client[0]) if client else ""
        if self._listening is not None and self._listening.behind_proxy:
            text = head.get(b"x-forwarded-for", b"").rpartition(b",")[2].strip().decode("latin-1") or text
        try:
            address = ipaddress.ip_address(text)
        except ValueError:
            return "unknown"
        return (
            str(ipaddress.ip_network((address, 64), strict=False)) if address.version == 6 else str(address)
        )

    def _report(self, refusal: RefusedError, scope: Mapping[str, Any]) -> None:
        """One line of the log, unless the address failed too often; nothing that was sent stands in it."""
        if refusal.status == 429:
            return
        address = self._address(_head(scope, strict=False), scope)
        if self._failures.take(address):
            log.warning(
                "%s from %s was refused with %d: %s", scope["route"].path, address, refusal.status, refusal
            )


def _head(scope: Mapping[str, Any], strict: bool = True) -> dict[bytes, bytes]:
    """The fields that decide who asks.

    Raises:
        RefusedError: one stands twice, so that a proxy may have judged another one.
    """
    fields = [(name, value) for name, value in scope["headers"] if name in _WANTED]
    head = dict(fields)
    if strict and len(head) != len(fields) and _repeats(fields):
        raise RefusedError(400, "Host, Origin or Authorization stands twice in the request; send it once.")
    return head


def _repeats(fields: list[tuple[bytes, bytes]]) -> bool:
    single = [name for name, _ in fields if name not in _FORWARDED]
    return len(single) != len(set(single))


def _without_port(host: bytes) -> bytes:
    """The name in a Host field; an IPv6 address keeps its brackets."""
    name, _, port = host.rpartition(b":")
    return name if port.isdigit() else host


def _hosts(settings: Settings, listening: Listening) -> frozenset[bytes]:
    """Names under which the server answers; empty for any, where every request needs a key or token anyway.

    On loopback a page of another site could give its own name this machine's address (DNS rebinding): it would still
    send its own name.
    """
    hosts = {name.strip().lower() for name in settings.allowed_hosts.split(",") if name.strip()}
    if not hosts and not listening.is_local:
        return frozenset()
    if listening.is_local:
        own = f"[{listening.address}]" if ":" in listening.address else listening.address
        hosts |= {"localhost", "127.0.0.1", "[::1]", own}
    return frozenset(name.encode() for name in hosts)
