"""Tokens of an identity provider, whose keys a real HTTP server publishes: what is believed, and what is not."""

import base64
import hashlib
import hmac
import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from fastapi.testclient import TestClient

from mediscale.core.settings import Settings
from serving.app import create_app
from serving.log.prediction_log import PredictionLog
from serving.risk.models import Predictors
from serving.security.listening import Listening

BODY = {"age": 67, "blood_pressure": 140}
AUDIENCE = "mediscale"


class Provider:
    """An identity provider: its published keys, its configuration, and how often it was asked."""

    def __init__(self) -> None:
        self.keys: dict[str, Any] = {
            "rsa": rsa.generate_private_key(65537, 2048),
            "ec": ec.generate_private_key(ec.SECP256R1()),
        }
        self.published = ["rsa", "ec"]
        self.asked = 0
        self.start()

    def start(self, port: int = 0) -> None:
        provider = self

        class Answers(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                provider.asked += 1
                document = provider.document(self.path)
                self.send_response(200 if document else 404)
                self.end_headers()
                self.wfile.write(json.dumps(document).encode())

            def log_message(self, *_args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", port), Answers)
        self.issuer = f"http://127.0.0.1:{self.server.server_port}/realm"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def document(self, path: str) -> dict[str, Any] | None:
        if path == "/realm/.well-known/openid-configuration":
            return {"issuer": self.issuer, "jwks_uri": f"{self.issuer}/keys"}
        if path == "/realm/keys":
            return {"keys": [self._jwk(kid) for kid in self.published]}
        return None

    def _jwk(self, kid: str) -> dict[str, Any]:
        algorithm: Any = jwt.get_algorithm_by_name("RS256" if kid.startswith("rsa") else "ES256")
        return {**algorithm.to_jwk(self.keys[kid].public_key(), as_dict=True), "kid": kid, "use": "sig"}

    def token(self, kid: str = "rsa", algorithm: str = "", headers: Any = None, **changed: Any) -> str:
        now = time.time()
        claims = {"iss": self.issuer, "aud": AUDIENCE, "sub": "dr.who", "exp": now + 600, "iat": now,
                  "roles": ["clinician"], **changed}  # fmt: skip
        claims = {name: value for name, value in claims.items() if value is not None}
        return jwt.encode(
            claims,
            self.keys[kid],
            algorithm or ("RS256" if kid.startswith("rsa") else "ES256"),
            headers={"kid": kid} if headers is None else headers,
        )


@pytest.fixture(scope="module")
def provider_of_module() -> Iterator[Provider]:
    provider = Provider()
    yield provider
    provider.stop()


@pytest.fixture
def provider(provider_of_module: Provider) -> Provider:
    provider_of_module.published = ["rsa", "ec"]
    return provider_of_module


Serve = Callable[..., TestClient]


@pytest.fixture
def serve(tmp_path: Path, settings: Settings, promote: Any, provider: Provider) -> Iterator[Serve]:
    promote("mortality")
    clients: list[TestClient] = []

    def client(**changed: Any) -> TestClient:
        oidc = {"oidc_issuer": provider.issuer, "oidc_audience": AUDIENCE, "trust": tmp_path / "trust"}
        home = settings.model_copy(update={**oidc, **changed})
        log = PredictionLog(home, "synthetic")
        app = create_app(
            home, Predictors(home, "synthetic", "production"), log, listening=Listening("127.0.0.1")
        )
        clients.append(TestClient(app, base_url="http://localhost:8000").__enter__())
        return clients[-1]

    yield client
    for one in clients:
        one.__exit__(None, None, None)


def ask(client: TestClient, token: str, path: str = "/predict") -> int:
    head = {"Authorization": f"Bearer {token}"}
    asked = (
        client.get(path, headers=head) if path != "/predict" else client.post(path, json=BODY, headers=head)
    )
    return asked.status_code


def signed_with_the_public_key(provider: Provider) -> str:
    """HS256 over the published key as the secret, which PyJWT itself refuses to make."""
    public = provider.keys["rsa"].public_key()
    secret = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    head, claims, _ = provider.token().split(".")
    head = encoded(json.dumps({"alg": "HS256", "typ": "JWT", "kid": "rsa"}).encode())
    return f"{head}.{claims}.{encoded(hmac.digest(secret, f'{head}.{claims}'.encode(), hashlib.sha256))}"


def unsigned(provider: Provider) -> str:
    _, claims, _ = provider.token().split(".")
    return f"{encoded(json.dumps({'alg': 'none', 'typ': 'JWT', 'kid': 'rsa'}).encode())}.{claims}."


def encoded(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def changed_after_signing(provider: Provider) -> str:
    head, _, signature = provider.token().split(".")
    _, claims, _ = provider.token(roles=["engineer", "clinician"]).split(".")
    return f"{head}.{claims}.{signature}"


def test_a_token_opens_what_its_roles_may_ask_and_its_name_is_logged(
    serve: Serve, provider: Provider
) -> None:
    client = serve()
    assert client.post("/predict", json=BODY).status_code == 401, "an issuer closes loopback"
    for kid in ("rsa", "ec"):
        token = provider.token(kid)
        assert ask(client, token) == ask(client, token) == 200
        assert ask(client, token, "/metrics") == 403
    assert ask(client, provider.token(roles="engineer auditor"), "/metrics") == 200
    assert ask(client, provider.token(roles=["Clinician", "superuser"])) == 403
    assert ask(client, provider.token(roles=None)) == 403


@pytest.mark.parametrize(
    "token",
    [
        lambda p: p.token(exp=time.time() - 120),
        lambda p: p.token(exp=None),
        lambda p: p.token(sub=None),
        lambda p: p.token(nbf=time.time() + 600),
        lambda p: p.token(aud="another"),
        lambda p: p.token(aud=None),
        lambda p: p.token(iss="https://elsewhere.example"),
        lambda p: p.token(iss=None),
        lambda p: p.token(headers={"kid": "nobody's"}),
        lambda p: p.token(headers={}),
        lambda p: p.token("ec", headers={"kid": "rsa"}),
        lambda p: p.token(sub="two\nlines"),
        unsigned,
        signed_with_the_public_key,
        changed_after_signing,
        lambda p: p.token() + "x",
        lambda p: p.token().encode().hex(),
    ],
    ids=[
        "expired", "without expiry", "without subject", "not yet", "another audience", "without audience",
        "another issuer", "without issuer", "unknown key", "without key id", "of another key", "a name with lines",
        "alg none", "HS256 with the public key", "changed", "a longer signature", "no token",
    ],
)  # fmt: skip
def test_what_is_no_valid_token_is_refused(
    serve: Serve, provider: Provider, token: Callable[[Provider], str]
) -> None:
    client = serve()
    assert ask(client, provider.token()) == 200
    assert ask(client, token(provider)) == 401


def test_a_clock_that_is_five_minutes_off_is_a_sentence_in_log_and_status(
    serve: Serve, provider: Provider, caplog: pytest.LogCaptureFixture
) -> None:
    client = serve()
    service = client.app.state.service  # type: ignore[attr-defined]
    head = {"Authorization": f"Bearer {provider.token(iat=time.time() + 300)}"}
    refused = client.post("/predict", json=BODY, headers=head)
    assert refused.status_code == 401
    sentence = "A token of the identity provider was issued after now by this server's clock"
    assert refused.json()["error"].startswith(sentence)
    service.check_keys()
    assert [problem for problem in service.health().problems if problem.startswith(sentence)]
    assert sentence in caplog.text
    assert ask(client, provider.token()) == 200
    service.check_keys()
    assert not [problem for problem in service.health().problems if problem.startswith(sentence)]
    head = {"Authorization": f"Bearer {provider.token(exp=time.time() - 300)}"}
    expired = client.post("/predict", json=BODY, headers=head)
    assert expired.json()["error"].startswith("The token has expired by this server's clock (")


def test_unknown_key_ids_do_not_make_the_server_ask_the_provider_again_and_again(
    serve: Serve, provider: Provider
) -> None:
    client = serve()
    assert ask(client, provider.token()) == 200
    before = provider.asked
    for number in range(10):
        assert ask(client, provider.token(headers={"kid": f"made up {number}"})) == 401
    assert provider.asked <= before + 1


def test_while_the_provider_is_away_its_known_keys_are_believed_and_nothing_else(serve: Serve) -> None:
    own = Provider()
    client = serve(oidc_issuer=own.issuer)
    assert ask(client, own.token()) == 200
    own.stop()
    assert ask(client, own.token("ec")) == 200, "its key was published beside the other"
    cold = serve(oidc_issuer=own.issuer)
    assert ask(cold, own.token()) == 503
    assert ask(cold, "") == 401
    own.start(own.server.server_port)
    assert ask(cold, own.token()) == 200
    own.stop()


def test_the_claims_of_roles_and_name_are_settings(serve: Serve, provider: Provider) -> None:
    client = serve(oidc_roles_claim="realm_access.roles", oidc_name_claim="preferred_username")
    token = provider.token(roles=None, realm_access={"roles": ["clinician"]}, preferred_username="who@ward")
    assert ask(client, token) == 200
    assert ask(client, provider.token(preferred_username="who@ward")) == 403
    assert ask(client, provider.token(realm_access={"roles": ["clinician"]})) == 401
