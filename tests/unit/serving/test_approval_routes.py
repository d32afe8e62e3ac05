"""Approvals by HTTP: signed by the server's key in the name of whoever was authenticated, and by nobody else."""

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from mediscale.core import caller
from mediscale.core.settings import Settings
from mediscale.storage import approvals, history, registry, signing
from mediscale.storage.history_entries import ApprovalRule, Proposal
from mediscale.storage.registry import Move
from serving.app import create_app
from serving.log.prediction_log import PredictionLog
from serving.risk.models import Predictors
from serving.security import api_keys
from serving.security.listening import Listening
from serving.security.principal import Role

DAY = datetime(2026, 11, 1, 8)
MODEL = "icu-mortality"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A home whose server may sign in the name of those whom it authenticates; ana proposed version 1."""
    shared = Settings(home=tmp_path / "home", trust=tmp_path / "trust")
    for name, public in {"ana": "ana", "server": "server.service", "bob": "bob"}.items():
        signing.make_key(tmp_path / f"{name}.key", shared.public_keys / f"{public}.pem")
    ana = shared.model_copy(update={"signing_key": tmp_path / "ana.key"})
    proposal = Proposal(
        model=MODEL, task="mortality", version=1, evidence_digest="e", model_digest="d", reason="Every floor passed."
    )  # fmt: skip
    rule = ApprovalRule(required=True, reason="Decided by the board.")
    approvals.set_rule(ana, "icu", rule, actor="ana", at=DAY)
    approvals.propose(ana, "icu", proposal, "ana", DAY, "k")
    return shared.model_copy(update={"signing_key": tmp_path / "server.key"})


Ask = Callable[..., TestClient]


@pytest.fixture
def client(settings: Settings) -> Iterator[Ask]:
    """``client(actor, key)``: a client with that person's API key, of a server that signs with that key."""
    clients: list[TestClient] = []

    def ask(actor: str, signing_key: str = "server") -> TestClient:
        home = settings.model_copy(
            update={"signing_key": settings.signing_key.with_name(f"{signing_key}.key")}
        )
        now = caller.now()
        _, text = api_keys.create(home, actor, (Role.APPROVER,), now + timedelta(days=1), "test", now)
        app = create_app(
            home, Predictors(home, "icu", "production"), PredictionLog(home, "icu"), listening=Listening("127.0.0.1")
        )  # fmt: skip
        opened = TestClient(app, base_url="http://localhost", headers={"Authorization": f"Bearer {text}"})
        clients.append(opened.__enter__())
        return clients[-1]

    yield ask
    for one in clients:
        one.__exit__(None, None, None)


def approval(version: int = 1) -> dict[str, object]:
    return {"model": MODEL, "version": version, "reason": "I read the evidence and agree."}


def test_an_approver_s_yes_is_signed_in_their_name_and_covers_the_move(
    settings: Settings, client: Ask
) -> None:
    asked = client("cleo")
    (waits,) = asked.get("/approvals").json()
    assert (waits["model"], waits["version"], waits["proposed_by"]) == (MODEL, 1, "ana")
    answer = asked.post("/approvals", json=approval())
    assert answer.status_code == 201
    assert answer.json()["approved_by"] == "cleo"
    assert asked.get("/approvals").json() == []
    signed = history.entries(settings, "icu")[-1]
    assert (signed.kind, signed.actor) == ("approval", "cleo")
    move = Move(
        sequence=4, model=MODEL, task="mortality", alias="production", from_version=None, to_version=1, actor="cleo",
        moved_at=caller.now(), reason="Good.", evidence_digest="e", model_uri="m", model_digest="d", key="move",
    )  # fmt: skip
    registry.record(settings, "icu", move)
    assert [one.to_version for one in registry.attested(settings, "icu")] == [1]


def test_the_proposer_is_refused_and_so_is_a_version_that_does_not_wait(
    settings: Settings, client: Ask
) -> None:
    own = client("ana").post("/approvals", json=approval())
    assert (own.status_code, own.json()["error"]) == (
        409,
        f"ana proposed {MODEL} v1; somebody else must approve of it.",
    )
    assert client("cleo").post("/approvals", json=approval(2)).status_code == 404
    unreadable = client("dan").post("/approvals", json={"model": MODEL, "reason": "secret", "version": "x"})
    assert unreadable.status_code == 422
    assert unreadable.json()["error"] == "The request can't be answered: version must be an integer."
    assert "secret" not in unreadable.text
    assert [entry.kind for entry in history.entries(settings, "icu")] == ["approval_rule", "proposal"]


@pytest.mark.parametrize(("key", "sentence"), [("bob", "bob is no approver"), ("none", "has no signing key")])
def test_a_server_without_a_service_s_key_signs_for_nobody(
    settings: Settings, client: Ask, key: str, sentence: str
) -> None:
    answer = client("cleo", key).post("/approvals", json=approval())
    assert answer.status_code == 503
    assert sentence in answer.json()["error"]
    assert [entry.kind for entry in history.entries(settings, "icu")] == ["approval_rule", "proposal"]
    assert not settings.signing_key.with_name("none.key").exists()
