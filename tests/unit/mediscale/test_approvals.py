"""Four eyes: what is served of a dataset that needs approval is what another person approved."""

from datetime import datetime
from pathlib import Path

import pytest

from mediscale.core.errors import NotFoundError, QualityError, UsageError
from mediscale.core.settings import Settings
from mediscale.storage import approvals, registry, signing
from mediscale.storage.history import Proposal
from mediscale.storage.registry import Move

DAY = datetime(2026, 11, 1, 8)
MODEL = "icu-mortality"


@pytest.fixture
def people(tmp_path: Path) -> dict[str, Settings]:
    """The same home with each one's own key: ana and bob, the approvers cleo and dan, and a scheduler's."""
    settings = Settings(home=tmp_path / "home", trust=tmp_path / "trust", four_eyes="other, icu")
    signers = {
        "ana": "ana",
        "bob": "bob",
        "cleo": "cleo.approver",
        "dan": "dan.approver",
        "scheduler": "scheduler.service",
    }
    for name, public in signers.items():
        signing.make_key(tmp_path / f"{name}.key", settings.public_keys / f"{public}.pem")
    return {name: settings.model_copy(update={"signing_key": tmp_path / f"{name}.key"}) for name in signers}


def propose(settings: Settings, version: int, actor: str) -> None:
    proposal = Proposal(
        model=MODEL, task="mortality", version=version, evidence_digest="e", model_digest=f"d{version}", reason="Good."
    )  # fmt: skip
    approvals.propose(settings, "icu", proposal, actor, DAY, f"k{version}")


def approve(settings: Settings, version: int, actor: str) -> None:
    approvals.approve(settings, "icu", MODEL, version, actor=actor, reason="I agree.", at=DAY)


def move(settings: Settings, version: int, actor: str, digest: str = "") -> None:
    entry = Move(
        sequence=registry.next_sequence(settings, "icu"), model=MODEL, task="mortality", alias="production",
        from_version=None, to_version=version, actor=actor, moved_at=DAY, reason="Good.", evidence_digest="e",
        model_uri="m", model_digest=digest or f"d{version}", key=f"move-{version}-{digest}",
    )  # fmt: skip
    registry.record(settings, "icu", entry)


def served(settings: Settings) -> list[int]:
    return [one.to_version for one in registry.attested(settings, "icu")]


def test_what_nobody_else_approved_is_not_served(people: dict[str, Settings]) -> None:
    propose(people["ana"], 1, "ana")
    move(people["ana"], 1, "ana")
    assert served(people["bob"]) == []
    approve(people["cleo"], 1, "cleo")
    assert served(people["bob"]) == [], "the move came before the approval"
    move(people["ana"], 1, "ana", "other files")
    assert served(people["bob"]) == [], "other files were approved"


def test_an_approved_version_is_served_and_where_it_is_not_asked_for_all_are(
    people: dict[str, Settings],
) -> None:
    propose(people["ana"], 1, "ana")
    approve(people["cleo"], 1, "cleo")
    move(people["cleo"], 1, "cleo")
    assert served(people["bob"]) == [1]
    propose(people["ana"], 2, "ana")
    move(people["ana"], 2, "ana")
    assert served(people["bob"]) == [1]
    assert served(people["bob"].model_copy(update={"four_eyes": ""})) == [1, 2]


def test_nobody_approves_of_what_they_proposed(people: dict[str, Settings]) -> None:
    propose(people["cleo"], 1, "cleo")
    with pytest.raises(QualityError, match="cleo proposed icu-mortality v1; somebody else must approve"):
        approve(people["cleo"], 1, "cleo")
    with pytest.raises(QualityError, match="somebody else"):
        approve(people["scheduler"], 1, "cleo")
    with pytest.raises(UsageError, match="cleo's key can't sign for dan"):
        approve(people["cleo"], 1, "dan")
    approve(people["dan"], 1, "dan")


def test_only_an_approver_or_a_service_that_names_one_approves(people: dict[str, Settings]) -> None:
    propose(people["ana"], 1, "ana")
    with pytest.raises(UsageError, match=r"bob is no approver; .* bob\.approver\.pem"):
        approve(people["bob"], 1, "bob")
    approve(people["scheduler"], 1, "eve")
    move(people["scheduler"], 1, "eve")
    assert served(people["ana"]) == [1]


def test_a_later_proposal_takes_the_place_of_one_that_nobody_approved(people: dict[str, Settings]) -> None:
    with pytest.raises(NotFoundError, match="nothing is proposed"):
        approve(people["cleo"], 1, "cleo")
    propose(people["ana"], 1, "ana")
    propose(people["ana"], 2, "ana")
    with pytest.raises(
        NotFoundError, match="v1 does not wait for approval: the newest proposal is version 2"
    ):
        approve(people["cleo"], 1, "cleo")


def test_an_approval_by_a_key_that_is_no_approvers_covers_nothing(people: dict[str, Settings]) -> None:
    propose(people["ana"], 1, "ana")
    approve(people["cleo"], 1, "cleo")
    move(people["cleo"], 1, "cleo")
    approver = people["ana"].public_keys / "cleo.approver.pem"
    approver.rename(approver.with_name("cleo.pem"))
    assert served(people["bob"]) == []
