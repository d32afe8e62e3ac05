"""Listening: where a server listens, and whether it may: keys and patients' values cross no network readable."""

import ipaddress
import ssl
from dataclasses import dataclass
from pathlib import Path

from mediscale.core import caller
from mediscale.core.errors import UsageError
from mediscale.core.settings import Settings
from serving.security import api_keys, certificates
from serving.security.tokens import Tokens

ANSWER_HEADERS = (
    ("cache-control", "no-store"),
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-resource-policy", "same-origin"),
)
"""On every answer, refusals and errors among them."""
TLS_HEADERS = (("strict-transport-security", "max-age=31536000"),)


@dataclass(frozen=True)
class Listening:
    """Where a server listens."""

    address: str
    """Of the socket."""
    certificate: Path | None = None
    private_key: Path | None = None
    behind_proxy: bool = False
    """Whether a proxy ends TLS and passes requests on; it must set X-Forwarded-For."""

    @property
    def is_local(self) -> bool:
        """Whether only processes of this machine can ask."""
        return ipaddress.ip_address(self.address.partition("%")[0]).is_loopback and not self.behind_proxy

    @property
    def answer_headers(self) -> list[tuple[str, str]]:
        return [*ANSWER_HEADERS, *(TLS_HEADERS if self.certificate or self.behind_proxy else ())]

    def check(self, settings: Settings) -> None:
        """Whether a server may listen there.

        Raises:
            UsageError: keys and patients' values would cross a network that can read them, nobody could prove who they
                are, or a setting is wrong.
            StorageError: the file of API keys can't be read.
        """
        self._check_tls()
        keys = api_keys.read(settings)
        if settings.oidc_issuer or settings.oidc_audience:
            Tokens(settings).close()
        elif not self.is_local and not any(key.state(caller.now()) == "active" for key in keys):
            raise UsageError(
                "A server that others can reach answers nobody without a key or token; make one with `mediscale keys "
                "create --name NAME --role clinician`, or set MEDISCALE_OIDC_ISSUER and MEDISCALE_OIDC_AUDIENCE."
            )

    def is_open(self, settings: Settings) -> bool:
        """Whether whoever reaches the server is taken for the account that runs it, until the first key."""
        return self.is_local and not settings.oidc_issuer and not api_keys.read(settings)

    def _check_tls(self) -> None:
        if (self.certificate is None) != (self.private_key is None):
            raise UsageError("--tls-cert and --tls-key go together; give both.")
        if self.certificate is not None:
            try:
                ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(
                    self.certificate, self.private_key, password=lambda: ""
                )
            except OSError as error:
                no_pair = isinstance(error, ssl.SSLError)
                raise UsageError(
                    f"--tls-cert {self.certificate} and --tls-key {self.private_key} can't be used: "
                    f"{'they are no certificate and its unencrypted key in PEM' if no_pair else error.strerror}."
                ) from error
            certificates.check(*certificates.validity(self.certificate), caller.now())
        elif not self.is_local and not self.behind_proxy:
            raise UsageError(
                f"On {self.address} keys and patients' values would cross the network readable; give --tls-cert and "
                "--tls-key, or say --behind-proxy where a proxy in front of this server ends TLS."
            )
