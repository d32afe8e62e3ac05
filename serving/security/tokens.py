"""Bearer tokens of the hospital's identity provider: JSON Web Tokens that OpenID Connect issues, verified with PyJWT.

A token is believed when one of the provider's published keys signed it with an asymmetric algorithm, for this audience,
by this issuer, and it has not expired. The keys are kept for an hour and looked up anew for a key id that is not among
them; while the provider can't be reached, tokens of other keys are refused and nothing is believed without a key.
"""

import hashlib
import json
import re
import time
import urllib.request
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from mediscale.core.errors import BusyError, UsageError
from mediscale.core.settings import Settings
from serving.pools import Pool
from serving.security.principal import Principal, Role

if TYPE_CHECKING:
    from jwt import PyJWKClient

ALGORITHMS = ("RS256", "PS256", "ES256", "EdDSA")
"""Asymmetric ones: with HS256 a published key would be the secret that signs."""
LEEWAY_SECONDS = 30
KEYS_SECONDS = 3600
"""How long the provider's keys are used without asking it again."""
KEPT_SECONDS, MOST_KEPT = 60, 1024
"""How long a token that was verified is believed without verifying it again, and how many are at a time."""
FETCH_SECONDS = 5
THREADS, WAITING = 2, 32
_NAME = re.compile(r"[^\x00-\x20\x7f()][^\x00-\x1f\x7f()]{0,254}")
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


class Tokens:
    """Verifies the tokens of one issuer."""

    def __init__(self, settings: Settings) -> None:
        """Checks the settings; the identity provider is asked for its keys by the first token.

        Raises:
            UsageError: half of what is needed is set, or keys would be fetched without TLS.
        """
        self._settings = settings
        if not settings.oidc_issuer or not settings.oidc_audience:
            raise UsageError("MEDISCALE_OIDC_ISSUER and MEDISCALE_OIDC_AUDIENCE go together; set both.")
        for address in (settings.oidc_issuer, settings.oidc_jwks_uri):
            _refuse_plain_http(address)
        self._keys: PyJWKClient | None = None
        self._pool = Pool("tokens", THREADS, WAITING)
        self._kept: dict[bytes, tuple[float, Principal]] = {}
        self.ahead = ""
        """What is wrong where the newest token of the provider was issued after now; empty once one is believed."""

    def cached(self, token: bytes) -> Principal | None:
        """Whom a token proves that was verified a moment ago."""
        until, principal = self._kept.get(hashlib.sha256(token).digest(), (0.0, None))
        return principal if time.time() < until else None

    async def verify(self, token: bytes) -> Principal | None:
        """Whom a token proves; None where it is not valid.

        Raises:
            UsageError: the provider signed it, and it has expired or begins later by this machine's clock.
            BusyError: the provider's keys can't be had, or too many tokens are being verified.
        """
        claims = await self._pool.run(lambda: self._claims(token))
        principal = self._principal(claims)
        if principal is not None:
            self.ahead = ""
            if len(self._kept) >= MOST_KEPT:
                self._kept.clear()
            until = min(float(claims["exp"]), time.time() + KEPT_SECONDS)
            self._kept[hashlib.sha256(token).digest()] = until, principal
        return principal

    def close(self) -> None:
        """Ends the threads that verify tokens, after the last request."""
        self._pool.close()

    def _claims(self, token: bytes) -> Mapping[str, Any]:
        """What the token says; nothing where it is not valid. In a thread: keys may be fetched."""
        import jwt

        try:
            text = token.decode("ascii")
            key = self._client().get_signing_key_from_jwt(text)
            claims: dict[str, Any] = jwt.decode(
                text,
                key,
                algorithms=ALGORITHMS,
                audience=self._settings.oidc_audience,
                issuer=self._settings.oidc_issuer,
                leeway=LEEWAY_SECONDS,
                options={"require": ["exp", "sub", "aud", "iss"]},
            )
        except jwt.PyJWKClientConnectionError as error:
            raise BusyError(
                "The keys that tokens are verified with can't be fetched; try again later."
            ) from error
        except jwt.ExpiredSignatureError as error:
            raise UsageError(
                f"The token has expired by this server's clock ({_now()}); sign in again."
            ) from error
        except jwt.ImmatureSignatureError as error:
            self.ahead = (
                f"A token of the identity provider was issued after now by this server's clock ({_now()}), so it is "
                "refused; set the clocks of both (NTP)."
            )
            raise UsageError(self.ahead) from error
        except (jwt.PyJWTError, UnicodeDecodeError):
            return {}
        return claims

    def _client(self) -> "PyJWKClient":
        if self._keys is None:
            import jwt

            address = self._settings.oidc_jwks_uri or _discovered(self._settings.oidc_issuer)
            self._keys = jwt.PyJWKClient(address, lifespan=KEYS_SECONDS, timeout=FETCH_SECONDS)
        return self._keys

    def _principal(self, claims: Mapping[str, Any]) -> Principal | None:
        actor = claims.get(self._settings.oidc_name_claim)
        if not isinstance(actor, str) or not _NAME.fullmatch(actor):
            return None
        roles_claim = _claim(claims, self._settings.oidc_roles_claim)
        names = (
            roles_claim.split()
            if isinstance(roles_claim, str)
            else roles_claim
            if isinstance(roles_claim, list)
            else []
        )
        return Principal(actor, "token", frozenset(role for role in Role if role in names))


def _now() -> str:
    return f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"


def _claim(claims: Any, dotted: str) -> Any:
    """A claim, or one inside another: ``realm_access.roles``."""
    for name in dotted.split("."):
        claims = claims.get(name) if isinstance(claims, Mapping) else None
    return claims


def _discovered(issuer: str) -> str:
    """Where the provider says that its keys are (OpenID Connect Discovery)."""
    import jwt

    address = f"{issuer.rstrip('/')}/.well-known/openid-configuration"
    try:
        with urllib.request.urlopen(address, timeout=FETCH_SECONDS) as response:  # noqa: S310 - checked when set
            document = json.load(response)
        if document["issuer"] != issuer:
            raise ValueError("another issuer")
        _refuse_plain_http(document["jwks_uri"])
        return str(document["jwks_uri"])
    except (OSError, ValueError, KeyError, TypeError, UsageError) as error:
        raise jwt.PyJWKClientConnectionError("The provider's configuration can't be read.") from error


def _refuse_plain_http(address: str) -> None:
    parts = urlsplit(address)
    if address and parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in _LOOPBACK):
        raise UsageError(
            "MEDISCALE_OIDC_ISSUER and MEDISCALE_OIDC_JWKS_URI must begin with https:// (or name this machine): "
            "who can change the keys on their way could sign in as anybody."
        )
