"""Four eyes: what is served of a dataset that needs approval is what another person approved."""

from datetime import datetime
from pathlib import Path

import pytest

from mediscale.core.errors import NotFoundError, QualityError, UsageError
from mediscale.core.settings import Settings
from mediscale.storage import approvals, history, registry, signing
from mediscale.storage.history_entries import ApprovalRule, Draft, Proposal
from mediscale.storage.registry import Move

DAY = datetime(2026, 11, 1, 8)
MODEL = "icu-mortality"


@pytest.fixture
def people(tmp_path: Path) -> dict[str, Settings]:
    """The same home with each one's own key: ana and bob, the approvers cleo and dan, and a scheduler's."""
    settings = Settings(home=tmp_path / "home", trust=tmp_path / "trust")
    signers = {
        "ana": "ana",
        "bob": "bob",
        "cleo": "cleo.approver",
        "dan": "dan.approver",
        "scheduler": "scheduler.service",
    }
    for name, public in signers.items():
        signing.make_key(tmp_path / f"{name}.key", settings.public_keys / f"{public}.pem")
    people = {name: settings.model_copy(update={"signing_key": tmp_path / f"{name}.key"}) for name in signers}
    rule(people["ana"], True, "ana")
    return people


def rule(settings: Settings, required: bool, actor: str) -> bool:
    body = ApprovalRule(required=required, reason="Decided by the board.")
    return approvals.set_rule(settings, "icu", body, actor=actor, at=DAY)


def propose(settings: Settings, version: int, actor: str) -> None:
    proposal = Proposal(
        model=MODEL, task="mortality", version=version, evidence_digest="e", model_digest=f"d{version}", reason="Good."
    )  # fmt: skip
    approvals.propose(settings, "icu", proposal, actor, DAY, f"k{version}")


def approve(settings: Settings, version: int, actor: str) -> None:
    approvals.approve(settings, "icu", MODEL, version, actor=actor, reason="I agree.", at=DAY)


def move(settings: Settings, version: int, actor: str, digest: str = "") -> None:
    sequence = registry.next_sequence(settings, "icu")
    entry = Move(
        sequence=sequence, model=MODEL, task="mortality", alias="production",
        from_version=None, to_version=version, actor=actor, moved_at=DAY, reason="Good.", evidence_digest="e",
        model_uri="m", model_digest=digest or f"d{version}", key=f"move-{sequence}",
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


def test_an_approved_version_is_served_and_stays_so(people: dict[str, Settings]) -> None:
    propose(people["ana"], 1, "ana")
    approve(people["cleo"], 1, "cleo")
    move(people["cleo"], 1, "cleo")
    assert served(people["bob"]) == [1]
    propose(people["ana"], 2, "ana")
    move(people["ana"], 2, "ana")
    assert served(people["bob"]) == [1]
    move(people["ana"], 1, "ana")
    assert served(people["bob"]) == [1, 1], "back to what was approved"


@pytest.mark.parametrize(
    ("key", "stays"), [("cleo.approver.retired", True), ("cleo.retired", False), ("cleo", False)]
)
def test_who_leaves_keeps_their_approvals_where_the_key_says_so_and_else_it_is_said(
    people: dict[str, Settings], key: str, stays: bool
) -> None:
    """Renamed to cleo.retired.pem, as the key of anybody else, it had taken production away without saying why."""
    propose(people["ana"], 1, "ana")
    approve(people["cleo"], 1, "cleo")
    move(people["cleo"], 1, "cleo")
    folder = people["ana"].public_keys
    (folder / "cleo.approver.pem").rename(folder / f"{key}.pem")
    assert served(people["bob"]) == ([1] if stays else [])
    entries = history.entries(people["bob"], "icu")
    assert approvals.former_approvers(people["bob"], entries) == ([] if stays else ["cleo"])
    if "retired" in key:
        with pytest.raises(UsageError, match="retired"):
            propose(people["cleo"], 2, "cleo")


def test_only_an_approver_lifts_the_rule_and_what_came_before_stays_uncovered(
    people: dict[str, Settings],
) -> None:
    move(people["ana"], 1, "ana")
    with pytest.raises(UsageError, match="ana is no approver"):
        rule(people["ana"], False, "ana")
    forged = Draft(ApprovalRule(required=False, reason="Hurry."), "ana", DAY, "forged")
    history.append(people["ana"], "icu", forged)
    move(people["ana"], 2, "ana")
    assert served(people["bob"]) == []
    assert rule(people["cleo"], False, "cleo")
    assert not rule(people["cleo"], False, "cleo")
    move(people["ana"], 3, "ana")
    assert served(people["bob"]) == [3]
    assert rule(people["bob"], True, "bob")
    move(people["ana"], 4, "ana")
    move(people["ana"], 3, "ana")
    assert served(people["bob"]) == [3, 3], "back to what was in production before the rule"


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
