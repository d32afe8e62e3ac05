"""The model card of a version: every item of both frameworks, answered from records or said to be not done."""

import json
import re
from datetime import datetime
from inspect import isfunction
from types import SimpleNamespace
from typing import cast

import pytest

from mediscale import report
from mediscale.cli import main
from mediscale.core import tasks
from mediscale.core.errors import NotFoundError
from mediscale.report import model_card
from mediscale.report.model_card import answers
from mediscale.report.model_card.answers import fairness
from mediscale.report.model_card.answers.subject import Subject
from mediscale.report.model_card.card import frameworks, language_frameworks
from mediscale.storage import registry
from mediscale.storage.registry import Move
from training.evaluation.evaluation_report import Evidence
from training.statistics.estimate import Estimate


@pytest.fixture(scope="module")
def card(one_run) -> model_card.ModelCard:
    return model_card.find(one_run, "synthetic-mortality/1")


def items(card: model_card.ModelCard, framework: int = 0) -> dict[str, model_card.card.Item]:
    return {item.id: item for item in card.sections[framework].items}


@pytest.mark.usefixtures("empty_charts")
def test_a_card_and_a_report_say_that_a_person_withdrew_the_version(leave_run) -> None:
    """What was decided on the day of the run is not what answers patients."""
    settings = leave_run()
    model = model_card.find(settings, "synthetic-mortality/1").model
    for sequence, (before, after, reason) in enumerate(
        [(None, 1, "It is better."), (1, 2, "It alarms a ward.")], 1
    ):
        assert "any more" not in report.write(settings).read_text()
        move = Move(
            sequence=sequence, model=model.name, task="mortality", alias="production", from_version=before,
            to_version=after, actor="ana", moved_at=datetime(2026, 11, sequence, 3), reason=reason, evidence_digest="e",
            model_uri=model.uri, model_digest=model.digest, key=f"{sequence}",
        )  # fmt: skip
        registry.record(settings, "synthetic", move)
    sentence = "It is not in production any more: v2 took its place on 2026-11-02 03:00 UTC, by ana: It alarms a ward."
    assert model_card.find(settings, "synthetic-mortality/1").succession == sentence
    page = report.write(settings)
    assert f"<strong>Since then:</strong> {sentence}" in page.read_text()
    card = page.with_name(registry.card_file(model.name, model.version)).read_text()
    assert f"<strong>When this card was written:</strong> {sentence}" in card


def test_both_frameworks_are_whole() -> None:
    hti_1, tripod = frameworks()
    per_group = [
        len([item for item in hti_1.items if item.id.startswith(f"{group}.")]) for group in range(1, 10)
    ]
    assert per_group == [4, 4, 2, 4, 2, 4, 5, 4, 2]  # 31 source attributes
    assert [item.id for item in tripod.items] == [str(number) for number in range(1, 28)]


def test_every_function_that_an_item_names_exists_and_every_one_is_named() -> None:
    every_framework = (*frameworks(), *language_frameworks())
    named = {name for framework in every_framework for item in framework.items for name in item.answers}
    public = {
        f"{module.__name__.rpartition('.')[2]}.{name}"
        for module in answers.MODULES
        for name, value in vars(module).items()
        if isfunction(value) and value.__module__ == module.__name__ and not name.startswith("_")
    }
    assert named == public


def test_every_item_is_answered_or_says_what_is_not_done(card) -> None:
    for section in card.sections:
        for item in section.items:
            assert item.answer
            assert all(re.search(r"[.!?]$", paragraph) for paragraph in item.answer), item.id
            assert item.answer[-1].startswith("Not done: ") == (item.status != "answered")


def test_no_external_validation_is_claimed(card) -> None:
    external = ("6.i", "6.ii", "6.iii", "6.iv", "7.iii", "7.iv", "7.v")
    assert {items(card)[name].status for name in external} == {"not done"}
    assert items(card)["1.i"].status == "not done"
    assert items(card, 1)["17"].status == "not done"


def test_it_says_what_the_evidence_says(card, one_run) -> None:
    [path] = [p for p in one_run.home.rglob("evidence.json") if "mortality" in p.read_text()][:1]
    auroc = json.loads(path.read_text())["metrics"]["auroc"]
    told = items(card)["7.i"].answer[0]
    assert all(f"{auroc[end]:.3f}" in told for end in ("value", "low", "high"))
    assert "fewer than 10" in " ".join(items(card)["7.ii"].answer)
    assert "9007199254" not in card.model_dump_json()


def test_monitoring_of_fairness_is_claimed_with_the_gap_that_raises_its_alarm(card) -> None:
    item, gap = items(card)["8.iii"], tasks.load("mortality").policy.subgroup_gap_max
    assert item.status == "answered"
    assert f"more than {gap:g} below the overall one" in item.answer[0]


def test_it_says_which_leak_checks_the_training_set_passed(card) -> None:
    told = " ".join(items(card, 1)["7"].answer)
    assert "Passed: later facts, one patient one split. Failed: nothing." in told


def test_an_objection_to_a_subgroup_stands_in_its_answer(one_run) -> None:
    [path] = [p for p in one_run.home.rglob("evidence.json") if "mortality" in p.read_text()][:1]
    evidence = Evidence.model_validate_json(path.read_text())
    behind = evidence.subgroups[0].model_copy(
        update={"status": "estimated", "auroc_gap": Estimate(value=-0.3, low=-0.4, high=-0.2)}
    )
    evidence = evidence.model_copy(update={"subgroups": (behind, *evidence.subgroups[1:])})
    decided = SimpleNamespace(evidence=evidence, policy=tasks.load("mortality").policy)
    told = fairness.bias_management(cast("Subject", SimpleNamespace(evidence=evidence, decided=decided)))
    assert f"{behind.value} over all patients -0.300 (-0.400 to -0.200) falls behind" in told
    assert "no objection" not in told


def test_the_command_writes_html_and_json(one_run, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setenv("MEDISCALE_HOME", str(one_run.home))
    assert main.main(["model-card", "synthetic-mortality/1", "--output", str(tmp_path / "card.html")]) == 0
    assert capsys.readouterr().out.split() == [str(tmp_path / "card.html"), str(tmp_path / "card.json")]
    read = model_card.ModelCard.model_validate_json((tmp_path / "card.json").read_bytes())
    assert read == model_card.find(one_run, "synthetic-mortality/1")
    page = (tmp_path / "card.html").read_text()
    assert "Every output of a model needs a clinician" in page
    assert not re.search(r"https?://|<script|@import", page)


def test_a_version_that_nobody_decided_about_has_no_card(one_run) -> None:
    with pytest.raises(
        NotFoundError, match=r"synthetic-mortality/9.; there are cards of synthetic-mortality/1, "
    ):
        model_card.find(one_run, "synthetic-mortality/9")
