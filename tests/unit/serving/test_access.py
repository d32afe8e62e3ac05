"""Who may ask what: every route × role, where a key is needed, other hosts and sites, rates and refusals."""

import logging
import re
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from fastapi.routing import APIRoute
from fastapi.testclient import TestClient
from fixtures import lake_patients
from fixtures.server_process import own_trust

from data_pipeline.safety import emergency
from mediscale.core import caller
from mediscale.core.errors import NotFoundError, StorageError, UsageError
from mediscale.core.settings import Settings
from mediscale.storage import lake, registry
from serving.app import create_app
from serving.log.prediction_log import PredictionLog
from serving.risk.models import Predictors
from serving.security import access, api_keys, card_links
from serving.security.auth import Require
from serving.security.listening import Listening
from serving.security.principal import Role

LOOPBACK, NETWORK = Listening("127.0.0.1"), Listening("192.0.2.7", behind_proxy=True)
OPEN_PATHS = frozenset({"/live", "/ready", "/docs", "/openapi.json"})
"""Routes that nobody needs a role for. The first two are one word for whoever restarts or balances servers, which has
no key; the others are the same for every hospital, and the page is where a person types a key in."""

BODY = {"age": 67, "blood_pressure": 140}
OPEN, NOBODY = frozenset(Role), frozenset[Role]()
PAGE = Path(__file__).parents[3] / "docs" / "security.md"


def roles_of_page() -> Iterator[tuple[tuple[str, str], frozenset[Role]]]:
    """Each route of the page's first table, and the roles that may ask it."""
    rows = re.findall(r"^\| (`[A-Z]+ /.*?) \| (.*?) \|", PAGE.read_text(), re.MULTILINE)
    for routes, roles in rows:
        named = frozenset(role for role in Role if re.search(rf"\b{role}\b", roles))
        for method, path in re.findall(r"`([A-Z]+) ([^`]+)`", routes):
            yield (method, path), OPEN if roles in ("none", "any role") else named


MAY_ASK = dict(roles_of_page())
"""Every route of the server as the page about security has it, and the roles that it answers."""
BODIES: dict[str, Any] = {
    "/predict": BODY,
    "/models/{name}/{version}/predict": BODY,
    "/cds-services/mediscale-risk": {"hook": "patient-view", "context": {"patientId": "nobody"}},
    "/fhir/RiskAssessment/$predict": {"resourceType": "Bundle"},
    "/approvals": {"model": "synthetic-mortality", "version": 9, "reason": "I agree."},
    "/feedback": {"prediction_id": "w-1-1", "verdict": "helpful"},
    "/analyze": {},
    "/generate": {"question": "What is a stroke?"},
    "/v1/completions": {"prompt": "A stroke is"},
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "What is a stroke?"}]},
}
"""What each POST is sent."""
STATUS = {
    ("POST", "/fhir/RiskAssessment/$predict"): 422,
    ("GET", "/models/{name}/{version}/card"): 404,
    ("POST", "/models/{name}/{version}/predict"): 404,
    ("POST", "/approvals"): 404,
    ("POST", "/feedback"): 404,
    ("POST", "/analyze"): 422,
    ("POST", "/generate"): 503,
    ("GET", "/v1/models"): 503,
    ("POST", "/v1/completions"): 503,
    ("POST", "/v1/chat/completions"): 503,
}
"""What whoever may ask is answered, where it is not 200: the Bundle holds nobody, no card was written, nothing of that
version was proposed or is served, that answer was never given, and no language version is promoted."""

HOOK = {"hook": "patient-view", "hookInstance": "1", "context": {"patientId": "patient-4713"}}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return own_trust(tmp_path)


@pytest.fixture
def key(settings: Settings) -> Callable[..., str]:
    """``key(role, …)``: a new key's text."""

    def create(*roles: Role, name: str = "somebody", days: float = 1) -> str:
        now = caller.now()
        return api_keys.create(settings, name, roles, now + timedelta(days=days), "test", now)[1]

    return create


Serve = Callable[..., TestClient]


@pytest.fixture
def serve(settings: Settings, promote: Any) -> Iterator[Serve]:
    """``serve(listening)``: a client of the application as it answers there."""
    promote("mortality")
    clients: list[TestClient] = []

    def client(listening: Listening = NETWORK, **changed: Any) -> TestClient:
        home = settings.model_copy(update=changed)
        predictors = Predictors(home, "synthetic", "production")
        app = create_app(home, predictors, PredictionLog(home, "synthetic"), listening=listening)
        clients.append(TestClient(app, base_url="http://localhost:8000").__enter__())
        return clients[-1]

    yield client
    for one in clients:
        one.__exit__(None, None, None)


def bearer(text: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {text}"}


def test_every_route_names_its_roles_or_is_open_by_name(serve: Serve) -> None:
    declared = {}
    for route in serve().app.routes:  # type: ignore[attr-defined]
        calls = [one.call for one in route.dependant.dependencies] if isinstance(route, APIRoute) else []
        roles = [one.roles for one in calls if isinstance(one, Require)]
        assert len(roles) == (route.path not in OPEN_PATHS), f"{route.path} has no role"
        for method in route.methods - {"HEAD"}:
            declared[method, route.path] = roles[0] if roles else OPEN
    assert declared == MAY_ASK


def test_who_lacks_a_role_hears_which_and_the_log_names_the_key(
    serve: Serve, key: Callable[..., str], caplog: pytest.LogCaptureFixture
) -> None:
    ward = key(Role.CLINICIAN)
    with caplog.at_level("WARNING", "mediscale.serving"):
        answer = serve(NETWORK).get("/health", headers=bearer(ward))
    sentence = answer.json()["error"]
    assert re.fullmatch(
        r"This needs the role approver or auditor or engineer, which .+ \(key [0-9a-f]{8}\) does not have\.",
        sentence,
    )
    assert any(line.endswith(f"was refused with 403: {sentence}") for line in caplog.messages)
    assert ward not in caplog.text


@pytest.mark.parametrize("listening", [NETWORK, LOOPBACK])
def test_a_role_is_answered_where_it_may_ask_and_nowhere_else(
    serve: Serve, key: Callable[..., str], listening: Listening, monkeypatch: pytest.MonkeyPatch
) -> None:
    # that beyond a rate nobody is told has its own test
    monkeypatch.setattr(access, "FAILURES", "1000/minute")
    keys = {role: key(role) for role in Role}
    client = serve(listening)
    for (method, path), roles in MAY_ASK.items():
        body = BODIES[path] if method == "POST" else None
        expected, url = STATUS.get((method, path), 200), path.format(name="m", version=1)
        for role, text in keys.items():
            answered = client.request(
                method, path.format(name="m", version=1), json=body, headers=bearer(text)
            ).status_code
            assert answered == (expected if role in roles else 403), (path, role)
        without = client.request(method, url, json=body)
        assert without.status_code == (expected if path in OPEN_PATHS else 401), path
        if path not in OPEN_PATHS:
            assert without.headers["www-authenticate"].startswith("Bearer ")


def test_keys_that_lie_where_the_pipeline_writes_are_refused(settings: Settings) -> None:
    """Whoever can write the home could make themselves an approver."""
    inside = settings.model_copy(update={"trust": settings.home / "trust"})
    with pytest.raises(UsageError, match=r"The file of API keys .* lies in"):
        api_keys.create(inside, "mallory", (Role.APPROVER,), datetime(2030, 1, 1), "mallory", caller.now())
    with pytest.raises(UsageError, match=r"The file of API keys .* lies in"):
        LOOPBACK.check(inside)


def test_on_loopback_before_the_first_key_the_caller_is_the_account_which_can_not_approve(
    serve: Serve, key: Callable[..., str]
) -> None:
    client = serve(LOOPBACK)
    assert client.post("/predict", json=BODY).status_code == 200
    assert client.get("/metrics").status_code == 200
    assert Role.APPROVER not in access.LOCAL_ROLES
    made = key(Role.CLINICIAN)
    client.app.state.service.check_keys()  # type: ignore[attr-defined]
    assert client.post("/predict", json=BODY).status_code == 401
    assert client.post("/predict", json=BODY, headers=bearer(made)).status_code == 200


def test_the_first_key_closes_loopback_for_good(
    settings: Settings, serve: Serve, key: Callable[..., str]
) -> None:
    key(Role.CLINICIAN)
    api_keys.revoke(settings, "somebody", "test", caller.now())
    client = serve(LOOPBACK)
    assert client.post("/predict", json=BODY).status_code == 401
    api_keys.path(settings).unlink()
    client.app.state.service.check_keys()  # type: ignore[attr-defined]
    assert client.post("/predict", json=BODY).status_code == 401


def test_whoever_clicks_the_link_of_a_card_needs_no_key_for_half_a_day(
    serve: Serve, key: Callable[..., str], settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A browser sends none. The link opens that page of that version alone."""
    ward = bearer(key(Role.CLINICIAN))
    lake_patients.write_lake(settings)
    client = serve(NETWORK)
    (card,) = client.post("/cds-services/mediscale-risk", json=HOOK, headers=ward).json()["cards"]
    link = card["links"][0]["url"]
    assert link.startswith("https://localhost:8000/models/synthetic-mortality/1/card?expires="), (
        "a proxy ends TLS"
    )
    path = link.removeprefix("https://localhost:8000")
    assert client.get(path).status_code == 404, "no card was written"
    lake.write_whole(registry.card_page(settings, "synthetic-mortality", 1), b"<header></header>")
    assert client.get(path).status_code == 200
    others = [path.replace("/1/", "/2/"), path.replace("expires=", "expires=9"), path[:-1], path.partition("&")[0],
              path.replace("signature=", "signature=%C3%A9"), path.partition("?")[0]]  # fmt: skip
    assert {client.get(other).status_code for other in others} == {401}
    elsewhere = client.get("/health" + path[path.index("?") :])
    assert (elsewhere.status_code, "EHR" in elsewhere.text) == (401, False)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + card_links.SECONDS + 1)
    answer = client.get(path)
    assert (answer.status_code, "open the patient in the EHR again" in answer.text) == (401, True)


def test_a_server_of_another_home_and_folder_of_trust_opens_the_link_by_the_files_it_is_given(
    serve: Serve, key: Callable[..., str], settings: Settings, tmp_path: Path
) -> None:
    """As pods have it: each has a disk of its own, in which the one Secret is mounted."""
    ward = bearer(key(Role.CLINICIAN))
    lake_patients.write_lake(settings)
    lake.write_whole(registry.card_page(settings, "synthetic-mortality", 1), b"<header></header>")
    secret = {"api_keys.json": api_keys.path(settings).read_text(), "card_links.key": "5a" * 32 + "\n"}
    pods = []
    for name in ("serving-0", "serving-1"):
        trust = tmp_path / name / "trust"
        trust.mkdir(parents=True)
        for file, content in secret.items():
            (trust / file).write_text(content)
        (tmp_path / name / "home").mkdir()
        (tmp_path / name / "home" / "artifacts").symlink_to(settings.artifact_root)  # an object store of all
        pods.append(serve(NETWORK, home=tmp_path / name / "home", trust=trust))
    (card,) = pods[0].post("/cds-services/mediscale-risk", json=HOOK, headers=ward).json()["cards"]
    answers = [pod.get(card["links"][0]["url"].removeprefix("https://localhost:8000")) for pod in pods]
    assert [(answer.status_code, "this server answers with it" in answer.text) for answer in answers] == [
        (200, True)
    ] * 2
    manifest = Path("infra/kubernetes/base/serving.yaml").read_text(encoding="utf-8")
    for file in secret:
        assert f"{{name: api-keys, mountPath: /trust/{file}, subPath: {file}, readOnly: true}}" in manifest


def test_a_card_without_a_link_is_answered_where_no_link_can_be_signed(
    serve: Serve, key: Callable[..., str], settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    """Of a Secret that lacks the file Kubernetes mounts a folder in its place."""
    ward = bearer(key(Role.CLINICIAN))
    lake_patients.write_lake(settings)
    (settings.trust / "card_links.key").mkdir()
    client = serve(NETWORK)
    for _ in range(2):
        (card,) = client.post("/cds-services/mediscale-risk", json=HOOK, headers=ward).json()["cards"]
        assert card["links"] == []
    path = "/models/synthetic-mortality/1/card?expires=9999999999&signature=" + "0" * 64
    assert client.get(path).status_code == 401
    assert caplog.text.count("cards have no link to a model card") == 1


def test_a_revoked_or_expired_key_is_refused_like_an_unknown_one(
    settings: Settings, serve: Serve, key: Callable[..., str]
) -> None:
    good, revoked, expired = (
        key(Role.CLINICIAN),
        key(Role.CLINICIAN, name="gone"),
        key(Role.CLINICIAN, days=1e-9),
    )
    client = serve()
    assert client.post("/predict", json=BODY, headers=bearer(revoked)).status_code == 200
    api_keys.revoke(settings, "gone", "test", caller.now())
    client.app.state.service.check_keys()  # type: ignore[attr-defined]
    wrong = [revoked, expired, good[:-1], good + "x", good[:13] + "A" * 43, "msk_00000000_x", "x", ""]
    answers = [client.post("/predict", json=BODY, headers=bearer(text)) for text in wrong]
    answers.append(client.post("/predict", json=BODY, headers={"Authorization": f"Basic {good}"}))
    answers.append(client.post("/predict", json=BODY))
    assert {answer.status_code for answer in answers} == {401}
    assert len({answer.text for answer in answers}) == 1, "the sentence says which part was wrong"
    assert client.post("/predict", json=BODY, headers=bearer(good)).status_code == 200


@pytest.mark.parametrize("damage", ["not json", '{"keys": [{}]}', "writable"])
def test_a_damaged_key_file_admits_nobody(
    settings: Settings, serve: Serve, key: Callable[..., str], damage: str
) -> None:
    good, engineer = key(Role.CLINICIAN), key(Role.ENGINEER)
    client = serve(LOOPBACK)
    whole = api_keys.path(settings).read_text()
    if damage == "writable":
        api_keys.path(settings).chmod(0o620)
    else:
        api_keys.path(settings).write_text(damage)
    client.app.state.service.check_keys()  # type: ignore[attr-defined]
    assert client.post("/predict", json=BODY, headers=bearer(good)).status_code == 401
    assert client.get("/ready").text == "degraded"
    api_keys.path(settings).write_text(whole)
    api_keys.path(settings).chmod(0o600)
    client.app.state.service.check_keys()  # type: ignore[attr-defined]
    assert client.get("/health", headers=bearer(engineer)).json()["problems"] == []


def test_only_hashes_are_kept_in_a_file_of_this_account(settings: Settings, key: Callable[..., str]) -> None:
    text = key(Role.CLINICIAN)
    file = api_keys.path(settings)
    assert file.stat().st_mode & 0o777 == 0o600
    everything = b"".join(path.read_bytes() for path in settings.trust.rglob("*") if path.is_file())
    assert text[13:].encode() not in everything
    assert text[4:12].encode() in everything
    with pytest.raises(UsageError, match="expires lies in the past"):
        key(Role.CLINICIAN, days=-1)
    with pytest.raises(UsageError, match="--name takes"):
        key(Role.CLINICIAN, name="a\nb")
    with pytest.raises(NotFoundError, match="No active key"):
        api_keys.revoke(settings, "nobody", "test", caller.now())
    file.write_text("{")
    with pytest.raises(StorageError, match="restore it"):
        key(Role.CLINICIAN)


@pytest.mark.parametrize(
    ("host", "status"),
    [("localhost:8000", 200), ("127.0.0.1:8000", 200), ("[::1]:8000", 200), ("localhost", 200), ("LOCALHOST:1", 200),
     ("rebound.example:8000", 421), ("localhost.example", 421), ("localhost:80@x", 421), ("", 421)],
)  # fmt: skip
def test_on_loopback_only_this_machine_s_names_are_answered(serve: Serve, host: str, status: int) -> None:
    assert serve(LOOPBACK).post("/predict", json=BODY, headers={"Host": host}).status_code == status


def test_allowed_hosts_are_a_setting(serve: Serve, key: Callable[..., str]) -> None:
    head = bearer(key(Role.CLINICIAN))
    client = serve(NETWORK, allowed_hosts="risk.example, risk.internal")
    assert (
        client.post("/predict", json=BODY, headers={**head, "Host": "risk.internal:443"}).status_code == 200
    )
    assert client.post("/predict", json=BODY, headers={**head, "Host": "other.example"}).status_code == 421
    assert client.get("/live", headers={"Host": "10.0.0.7:8000"}).status_code == 200, (
        "a probe knows the address"
    )


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("http://localhost:8000", 200),
        ("http://localhost:9000", 403),
        ("https://evil.example", 403),
        ("null", 403),
    ],
)
def test_pages_of_other_sites_can_not_ask(serve: Serve, origin: str, status: int) -> None:
    assert serve(LOOPBACK).post("/predict", json=BODY, headers={"Origin": origin}).status_code == status


def test_what_a_proxy_passes_on_is_not_the_account_s_own(serve: Serve) -> None:
    answer = serve(LOOPBACK).post("/predict", json=BODY, headers={"X-Forwarded-For": "203.0.113.5"})
    assert answer.status_code == 403
    assert "--behind-proxy" in answer.json()["error"]


def test_a_field_that_decides_and_stands_twice_is_refused(serve: Serve, key: Callable[..., str]) -> None:
    text = key(Role.CLINICIAN)
    twice = [("Authorization", f"Bearer {text}"), ("Authorization", "Bearer other")]
    assert serve().post("/predict", json=BODY, headers=twice).status_code == 400


def test_each_key_has_its_own_rate_and_hears_when_to_ask_again(serve: Serve, key: Callable[..., str]) -> None:
    eager, other, engineer = key(Role.CLINICIAN), key(Role.CLINICIAN), key(Role.ENGINEER)
    client = serve(rate_limit="3/hour")
    answers = [client.post("/predict", json=BODY, headers=bearer(eager)) for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert 0 < int(answers[-1].headers["retry-after"]) <= 3600
    assert client.post("/predict", json=BODY, headers=bearer(other)).status_code == 200
    numbers = client.get("/metrics", headers=bearer(engineer)).text
    assert 'mediscale_refusals_total{status="429"} 1.0' in numbers


def test_an_address_that_fails_too_often_is_told_to_wait_and_keys_go_on(
    serve: Serve, key: Callable[..., str], caplog: pytest.LogCaptureFixture
) -> None:
    good, most = key(Role.CLINICIAN), int(access.FAILURES.partition("/")[0])
    client = serve()
    guess = {**bearer("msk_00000000_wrong-secret"), "X-Forwarded-For": "198.51.100.1, 203.0.113.5"}
    with caplog.at_level(logging.WARNING, "mediscale.serving"):
        answers = [client.post("/predict", json={"age": 66.125}, headers=guess) for _ in range(most + 5)]
    assert [answer.status_code for answer in answers] == [401] * most + [429] * 5
    lines = [record.getMessage() for record in caplog.records if "was refused" in record.getMessage()]
    assert len(lines) == most
    assert re.match("/predict from 203.0.113.5 was refused with 401", lines[0]), (
        "the address that the proxy saw"
    )
    assert "wrong-secret" not in caplog.text
    assert "66.125" not in caplog.text
    assert client.post("/predict", json=BODY, headers={**guess, **bearer(good)}).status_code == 200
    elsewhere = {**guess, "X-Forwarded-For": "203.0.113.6"}
    assert client.post("/predict", json=BODY, headers=elsewhere).status_code == 401


def test_one_network_of_ipv6_is_one_address(serve: Serve) -> None:
    most = int(access.FAILURES.partition("/")[0])
    client = serve()
    status = [
        client.get("/health", headers={"X-Forwarded-For": f"2001:db8::{n:x}"}).status_code
        for n in range(most + 1)
    ]
    assert status == [401] * most + [429]


# --- where a server may listen -----------------------------------------------------------------------------------


def test_beyond_loopback_a_server_needs_keys_and_secrecy(
    settings: Settings, key: Callable[..., str], tmp_path: Path
) -> None:
    LOOPBACK.check(settings)
    Listening("::1").check(settings)
    for address in ("0.0.0.0", "::", "192.0.2.7", "::ffff:192.0.2.7"):
        with pytest.raises(UsageError, match="--tls-cert and --tls-key, or say --behind-proxy"):
            Listening(address).check(settings)
    for listening in (NETWORK, Listening("127.0.0.1", behind_proxy=True)):
        with pytest.raises(UsageError, match="mediscale keys create"):
            listening.check(settings)
    key(Role.CLINICIAN, name="gone")
    api_keys.revoke(settings, "gone", "test", caller.now())
    with pytest.raises(UsageError, match="mediscale keys create"):
        NETWORK.check(settings)
    key(Role.CLINICIAN)
    NETWORK.check(settings)
    (tmp_path / "empty.pem").touch()
    with pytest.raises(UsageError, match="can't be used: they are no certificate"):
        Listening("0.0.0.0", tmp_path / "empty.pem", tmp_path / "empty.pem").check(settings)
    with pytest.raises(UsageError, match="go together"):
        Listening("127.0.0.1", tmp_path / "empty.pem").check(settings)


def test_half_an_identity_provider_or_one_without_tls_is_refused(settings: Settings) -> None:
    half = settings.model_copy(update={"oidc_issuer": "https://id.example"})
    with pytest.raises(UsageError, match="MEDISCALE_OIDC_AUDIENCE go together"):
        LOOPBACK.check(half)
    plain = settings.model_copy(update={"oidc_issuer": "http://id.example", "oidc_audience": "mediscale"})
    with pytest.raises(UsageError, match="must begin with https"):
        NETWORK.check(plain)


# --- the prediction log ------------------------------------------------------------------------------------------


def test_the_log_s_own_row_says_who_asked_and_for_which_purpose(
    serve: Serve, key: Callable[..., str], settings: Settings
) -> None:
    text, client = key(Role.CLINICIAN, name="dr.who"), serve()
    asked: list[dict[str, str]] = [{}, {"Purpose-Of-Use": "Research"}]
    for more in asked:
        assert client.post("/predict", json=BODY, headers={**bearer(text), **more}).status_code == 200
    refused = client.post("/predict", json=BODY, headers={**bearer(text), "Purpose-Of-Use": "curiosity"})
    assert refused.status_code == 422
    assert "treatment, operations, research, quality" in refused.json()["error"]
    client.app.state.service.flush()  # type: ignore[attr-defined]
    rows = lake.read(settings, lake.latest(settings, "synthetic", "predictions")).to_pylist()
    name = f"dr.who (key {text[4:12]})"
    assert [(row["asked_by"], row["purpose"]) for row in rows] == [(name, "treatment"), (name, "research")]


def test_expiry_is_kept_to_the_second(settings: Settings) -> None:
    now = datetime(2026, 11, 28, 8)
    _, text = api_keys.create(settings, "x", (Role.AUDITOR,), now + timedelta(days=1), "test", now)
    keys = api_keys.by_id(api_keys.read(settings))
    end = (now + timedelta(days=1)).replace(tzinfo=UTC).timestamp()
    assert api_keys.verify(keys, text.encode(), end - 1) is not None
    assert api_keys.verify(keys, text.encode(), end) is None


@pytest.mark.parametrize(
    ("path", "change"),
    [
        ("/generate", {"use_safety": False}),
        ("/v1/chat/completions", {"use_safety": False}),
        ("/v1/completions", {"echo": True, "logprobs": 1}),
    ],
)
def test_what_only_engineers_may_ask_of_a_language_model_is_refused_to_clinicians(
    serve: Serve, key: Callable[..., str], path: str, change: dict[str, Any]
) -> None:
    clinician, engineer = key(Role.CLINICIAN), key(Role.ENGINEER, name="else")
    client, body = serve(NETWORK), {**BODIES[path], **change}
    refused = client.post(path, json=body, headers=bearer(clinician))
    assert refused.status_code == 403
    error = refused.json()["error"]
    if path.startswith("/v1/"):  # where OpenAI's clients look for the sentence
        assert error["type"] == "permission_error"
        error = error["message"]
    assert "needs the role engineer; ask without it" in error
    assert client.post(path, json=body, headers=bearer(engineer)).status_code == STATUS["POST", path]


def test_where_no_language_version_answers_yet_an_emergency_is_told_what_to_do(
    serve: Serve, key: Callable[..., str]
) -> None:
    headers = bearer(key(Role.CLINICIAN))
    client = serve(NETWORK)
    question = "My husband has crushing chest pain and cannot breathe. What should I do?"
    refused = client.post("/generate", json={"question": question}, headers=headers)
    assert (refused.status_code, refused.json()["error"].startswith(f"{emergency.CALL} ")) == (503, True)
    turns = {"messages": [{"role": "user", "content": question}]}
    chat = client.post("/v1/chat/completions", json=turns, headers=headers)
    assert chat.json()["error"]["message"].startswith(f"{emergency.CALL} ")
    other = client.post("/generate", json={"question": "What is a stroke?"}, headers=headers)
    assert (other.status_code, "language version" in other.json()["error"]) == (503, True)
    assert emergency.CALL not in other.json()["error"]
