"""A real server that the network can reach: TLS, keys made and revoked on the command line, headers on every answer."""

import socket
import ssl
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from fixtures.server_process import Server, Start, environment, own_trust

from mediscale.cli import main
from mediscale.core.settings import Settings
from serving.security.listening import ANSWER_HEADERS, TLS_HEADERS

EVERYWHERE = ("--host", "0.0.0.0")
BODY = {"age": 67.125, "blood_pressure": 140}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return own_trust(tmp_path)


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """A certificate of 127.0.0.1 that signs itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "mediscale")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    files = tmp_path / "cert.pem", tmp_path / "key.pem"
    files[0].write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    files[1].write_bytes(private)
    return files


@pytest.fixture
def mediscale(settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """The command line on this home; returns what it printed."""
    for name, value in environment(settings).items():
        monkeypatch.setenv(name, value)

    def run(*words: str) -> str:
        assert main.main(words) == 0
        return capsys.readouterr().out

    return run


def client_of(server: Server, certificate: Path) -> httpx.Client:
    trusting = ssl.create_default_context(cafile=str(certificate))
    return httpx.Client(base_url=server.address, verify=trusting, timeout=60)


def test_a_server_on_the_network_answers_by_tls_whoever_has_a_key(
    promote: Any, start: Start, certificate: tuple[Path, Path], mediscale: Any
) -> None:
    promote("mortality")
    text = mediscale("keys", "create", "--name", "ward 7", "--role", "clinician", "--expires", "1d").split()[
        0
    ]
    cert, private = map(str, certificate)
    server = start(options=(*EVERYWHERE, "--tls-cert", cert, "--tls-key", private))
    assert server.address.startswith("https://")
    head = {"Authorization": f"Bearer {text}"}
    with client_of(server, certificate[0]) as client:
        answers = {
            200: client.post("/predict", json=BODY, headers=head),
            401: client.post("/predict", json=BODY),
            403: client.get("/metrics", headers=head),
            404: client.get("/nothing"),
            405: client.get("/predict"),
            413: client.post("/predict", content=b" " * 7_000_000, headers=head),
            422: client.post("/predict", json={"age": "x"}, headers=head),
            431: client.get("/live", headers={"x": "y" * 40_000}),
        }
        for status, answer in answers.items():
            assert answer.status_code == status
            for name, value in (*ANSWER_HEADERS, *TLS_HEADERS):
                assert answer.headers.get_list(name) == [value], (status, name)
        for path in ("/live", "/ready", "/docs", "/openapi.json"):
            assert client.get(path).status_code == 200
        mediscale("keys", "revoke", "ward 7")
        deadline = time.monotonic() + 30
        while client.post("/predict", json=BODY, headers=head).status_code == 200:
            assert time.monotonic() < deadline
            time.sleep(0.2)
    listed = mediscale("keys", "list")
    assert "revoked" in listed
    assert text not in listed
    with pytest.raises(httpx.TransportError):
        httpx.get(f"http://127.0.0.1:{server.port}/live", timeout=60)
    log = "".join(server.lines)
    assert text[13:] not in log
    assert "67.125" not in log
    assert "/predict from 127.0.0.1 was refused with 401" in log


def test_who_begins_no_handshake_holds_no_socket_for_a_minute(
    promote: Any, start: Start, certificate: tuple[Path, Path], mediscale: Any
) -> None:
    promote("mortality")
    mediscale("keys", "create", "--name", "ward 7", "--role", "clinician", "--expires", "1d")
    cert, private = map(str, certificate)
    options = (*EVERYWHERE, "--tls-cert", cert, "--tls-key", private)
    server = start(options=options, first="bounded_http.HEAD_SECONDS = 1")
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
        assert connection.recv(1) == b"", "the server ends it"


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (EVERYWHERE, "give --tls-cert and --tls-key, or say --behind-proxy"),
        ((*EVERYWHERE, "--behind-proxy"), "make one with `mediscale keys create"),
    ],
)
def test_a_server_that_would_be_open_to_the_network_does_not_start(
    settings: Settings, promote: Any, options: tuple[str, ...], sentence: str
) -> None:
    promote("mortality")
    program = [str(Path(sys.executable).with_name("mediscale")), "serve", "--port", "0", *options]
    ended = subprocess.run(
        program, env={**environment(settings), "PATH": ""}, capture_output=True, text=True, timeout=120
    )
    assert ended.returncode == 2
    assert sentence in ended.stderr
    assert "Traceback" not in ended.stderr
