"""A server's certificate that has expired, or is not valid yet by this machine's clock, is a sentence."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from fastapi.testclient import TestClient

from mediscale.core.errors import UsageError
from mediscale.core.settings import Settings
from serving.security.listening import Listening


def made(folder: Path, begin: timedelta, end: timedelta) -> Listening:
    """A listener on loopback with a certificate that is valid between these times from now."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "serving")])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(now + begin).not_valid_after(now + end)
    certificate, private_key = folder / "tls.crt", folder / "tls.key"
    certificate.write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    encoding = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    private_key.write_bytes(key.private_bytes(*encoding))
    return Listening("127.0.0.1", certificate, private_key)


@pytest.mark.parametrize(
    ("begin", "end", "sentence"),
    [
        (-2, -1, r"^The server's certificate expired at .* UTC, so that no client believes it; renew it"),
        (1, 2, r"is valid from .* UTC on, and this machine's clock says .*; set the clock \(NTP\)"),
    ],
)
def test_a_server_does_not_start_with_a_certificate_that_is_not_valid_now(
    settings: Settings, tmp_path: Path, begin: int, end: int, sentence: str
) -> None:
    made(tmp_path, timedelta(hours=-1), timedelta(hours=1)).check(settings)
    with pytest.raises(UsageError, match=sentence):
        made(tmp_path, timedelta(hours=begin), timedelta(hours=end)).check(settings)


def test_a_certificate_that_expires_while_a_server_runs_is_in_its_status_and_log(
    client: TestClient, caplog: pytest.LogCaptureFixture
) -> None:
    service = client.app.state.service  # type: ignore[attr-defined]
    before = client.get("/health").json()["problems"]
    service._validity = datetime(2020, 1, 1), datetime(2020, 3, 1)
    service.check_certificate()
    (sentence,) = set(client.get("/health").json()["problems"]) - set(before)
    assert sentence.startswith("The server's certificate expired at 2020-03-01 00:00 UTC")
    assert sentence in caplog.text
