"""Promotion under the tasks' own policy, on a real history and a real registry: what moves, what is refused, and what a
crash leaves."""

import json
import re
import shlex
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest
import xgboost
from fixtures import shadow_answers

from mediscale.cli import main
from mediscale.core import tasks
from mediscale.core.errors import BusyError, NotFoundError, StorageError
from mediscale.core.policy import SilentPeriod
from mediscale.governance import approval
from mediscale.inference import model_signature
from mediscale.pipeline import call, runtime_inputs
from mediscale.storage import approvals, calls, history, lake, registry, signing
from mediscale.storage.history_entries import ApprovalRule
from training.evaluation import evaluate
from training.promotion import promotion
from training.promotion.rollback import roll_back
from training.promotion_context import PastDecision, PromotionContext, past_decisions, promotion_context
from training.tabular import risk_model
from training.tabular.continuation import Parent

NOW = datetime(2025, 6, 1)
KEY = "a" * 32


def _params(world, **changes) -> promotion.Params:
    given = {
        "dataset": "synthetic",
        "task": "mortality",
        "model": world.model,
        "evidence": world.judged.evidence,
        "evidence_digest": world.judged.evidence_digest,
        "sequence": 1,
        "actor": "scheduler",
        "moved_at": NOW,
        "target_alias": "production",
    }
    return promotion.Params.model_validate({**given, **changes})


def _aliases(world) -> dict[str, int]:
    aliases = registry.client(world.settings).get_registered_model(world.model.name).aliases
    return {alias: int(version) for alias, version in aliases.items()}


def _moves(world) -> list[tuple[int, str, int]]:
    return [(m.sequence, m.alias, m.to_version) for m in registry.history(world.settings, "synthetic")]


def test_a_version_that_passes_every_floor_of_the_task_serves_in_production(world) -> None:
    result = promotion.run(_params(world), world.settings, KEY)
    assert (result.staged, result.promoted) == (True, True), result.reason
    assert result.reason.startswith("Promoted: AUROC 0.")
    assert result.reason.endswith(" The gate alone decided.")
    assert "It was not judged for " in result.reason, "the small groups are named"
    assert _moves(world) == [(1, "staging", 1), (2, "production", 1)]
    assert _aliases(world) == {"staging": 1, "production": 1}
    move = registry.current(world.settings, "synthetic", "mortality", "production")
    assert (move.actor, move.moved_at, move.evidence_digest) == (
        "scheduler",
        NOW,
        world.judged.evidence_digest,
    )


def test_few_patients_are_staged_and_refused_in_one_sentence(world, hospital, freeze) -> None:
    frozen = freeze(world.settings, "mortality", hospital("mortality", 100, seed=8).rows)
    judging = world.judging.model_copy(update={"training_set": frozen})
    judged = evaluate.run(judging, world.settings, KEY)
    params = _params(world, evidence=judged.evidence, evidence_digest=judged.evidence_digest)
    result = promotion.run(params, world.settings, KEY)
    assert (result.staged, result.promoted) == (True, False)
    assert result.reason.startswith("Staged only, not approved for use: AUROC 0.")
    assert "subgroups could be judged" in result.reason
    assert "Production refused: " in result.reason
    assert "held-out patients where the policy needs 200" in result.reason
    assert _aliases(world) == {"staging": 1}
    (move,) = registry.history(world.settings, "synthetic")
    assert move.reason == result.reason


def test_asked_for_staging_only_it_stops_there_and_says_what_the_policy_would(world) -> None:
    result = promotion.run(_params(world, target_alias="staging"), world.settings, KEY)
    assert (result.staged, result.promoted) == (True, False)
    assert result.reason.endswith("Production was not asked for, and would be allowed.")
    assert _moves(world) == [(1, "staging", 1)]


def test_decided_twice_is_written_once(world) -> None:
    first = promotion.run(_params(world), world.settings, KEY)
    assert promotion.run(_params(world), world.settings, KEY) == first
    assert len(_moves(world)) == 2


@pytest.mark.parametrize("dies_in", ["record", "repair"])
def test_killed_between_the_commit_points_the_next_call_goes_on(world, dies_in, monkeypatch) -> None:
    def dies(*_arguments: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(registry, dies_in, dies)
        with pytest.raises(KeyboardInterrupt):
            promotion.run(_params(world), world.settings, KEY)
    assert _aliases(world) == {}
    assert len(_moves(world)) == (2 if dies_in == "repair" else 0)
    promotion.run(_params(world), world.settings, KEY)
    assert _moves(world) == [(1, "staging", 1), (2, "production", 1)]
    assert _aliases(world) == {"staging": 1, "production": 1}


def test_who_comes_second_with_the_same_number_is_refused_and_moves_nothing(world) -> None:
    other = registry.Move(
        sequence=1, model="synthetic-readmission", task="readmission", alias="staging", from_version=None, to_version=1,
        actor="other", moved_at=NOW, reason="first", evidence_digest="e", model_uri="m", model_digest="d", key="b" * 32,
    )  # fmt: skip
    registry.record(world.settings, "synthetic", other)
    with pytest.raises(BusyError, match="number 1 of synthetic's history"):
        promotion.run(_params(world), world.settings, KEY)
    assert _moves(world) == [(1, "staging", 1)]
    now = promotion_context(world.settings, "synthetic", world.model)
    assert now.sequence == 2


@pytest.fixture
def command(world, monkeypatch, capsys) -> Callable[..., tuple[int, str]]:
    """Types a command of the platform in the trained home: its exit code, and what it says."""
    monkeypatch.setenv("MEDISCALE_HOME", str(world.settings.home))

    def run(text: str) -> tuple[int, str]:
        code, told = main.main(shlex.split(text)), capsys.readouterr()
        return code, told.out + told.err

    return run


def test_a_person_asks_for_production_after_staging(world, command) -> None:
    config = _params(world, target_alias="staging").model_dump()
    staged = call.call("promotion", config, world.settings, "run").result
    assert (staged.staged, staged.promoted) == (True, False)
    code, told = command("promote --dataset synthetic --task mortality --version 1")
    assert (code, told.partition(" 0.")[0]) == (0, "Promoted: AUROC")
    assert [(m.alias, m.actor) for m in registry.history(world.settings, "synthetic")] == [
        ("staging", "scheduler"), ("production", "tests"),
    ]  # fmt: skip
    code, told = command("promote --dataset synthetic --task mortality --version 9")
    assert code == 7
    assert "v9 was never evaluated" in told


@pytest.mark.parametrize("what", ["evidence", "model", "other model", "other incumbent", "gone"])
def test_incomplete_evidence_is_not_even_staged(world, what) -> None:
    changes = {}
    file = world.settings.home / world.judged.evidence
    if what == "evidence":
        file.write_text(file.read_text().replace('"seed":0', '"seed":1'))
    elif what == "model":
        Path(world.settings.home / world.model.uri / "model.json").write_bytes(b"x")
    elif what == "other model":
        changes = {"model": world.model.model_copy(update={"version": 2})}
    elif what == "other incumbent":
        changes = {"incumbent": world.model.model_copy(update={"version": 7})}
    else:
        file.unlink()
    result = promotion.run(_params(world, **changes), world.settings, KEY)
    assert (result.staged, result.promoted) == (False, False)
    assert result.reason.startswith("Not staged: ")
    assert result.reason.endswith(".")
    assert _moves(world) == []


def test_an_auroc_that_is_not_estimable_is_no_complete_evidence(world, hospital, freeze) -> None:
    """Nobody of the held-out patients had the outcome, as in a demo of a hundred patients."""
    rows = hospital("mortality", 200, seed=3).rows
    held_out = pc.equal(rows["split"], "held_out")
    outcome = pc.if_else(held_out, False, rows["boolean_value"])
    rows = rows.set_column(rows.schema.get_field_index("boolean_value"), "boolean_value", outcome)
    frozen = freeze(world.settings, "mortality", rows)
    judged = evaluate.run(world.judging.model_copy(update={"training_set": frozen}), world.settings, KEY)
    params = _params(world, evidence=judged.evidence, evidence_digest=judged.evidence_digest)
    result = promotion.run(params, world.settings, KEY)
    assert (result.staged, result.promoted) == (False, False)
    assert result.reason.startswith("Not staged: the evidence is not complete: AUROC is not estimable on ")
    assert result.reason.endswith("held-out patients with 0 events.")
    assert _moves(world) == []


def test_the_context_is_todays_and_that_of_each_past_decision_is_kept(world) -> None:
    about = world.settings, "synthetic", world.model
    before = promotion_context(*about)
    assert before == PromotionContext(incumbent=None, sequence=1)
    promotion.run(_params(world), world.settings, KEY)
    (past,) = past_decisions(*about)
    assert past == PastDecision(context=before, actor="scheduler", moved_at=NOW, key=KEY)
    assert promotion_context(*about) == PromotionContext(incumbent=None, sequence=3)
    later = world.model.model_copy(update={"version": 2})
    new = promotion_context(world.settings, "synthetic", later)
    assert new == PromotionContext(incumbent=world.model, sequence=3)


def test_a_repeated_call_finds_its_decision_and_another_one_is_made_today(world) -> None:
    asked = {name: value for name, value in _params(world).model_dump().items() if name not in _LOOKED_UP}
    first = runtime_inputs.call("promotion", asked, [], world.settings, "run").result
    assert runtime_inputs.call("promotion", asked, [], world.settings, "run").result == first
    assert len(calls.of_stage(world.settings, "promotion")) == 1
    again = runtime_inputs.filled("promotion", {**asked, "target_alias": "staging"}, [], world.settings)
    assert again["sequence"] == 3


_LOOKED_UP = {"incumbent", "sequence", "moved_at"}


def test_prior_evaluations_are_the_other_versions_that_were_evaluated_before(world) -> None:
    for minute, version in enumerate((1, 1, 2, 3)):
        calls.write(
            world.settings,
            calls.Call(
                run_id="run",
                inputs=(),
                produced=(),
                stage="evaluate",
                key=str(minute),
                params={"dataset": "synthetic", "task": "mortality", "model": {"version": version}},
                code="",
                lock="",
                result={},
                outputs=(),
                started_at=datetime(2150, 6, 1, 0, minute, tzinfo=UTC),
                seconds=1,
            ),
        )

    def prior(version: int, task: str = "mortality") -> int:
        model = world.model.model_copy(update={"version": version})
        return promotion.prior_evaluations(world.settings, "synthetic", task, model)

    assert [prior(version) for version in (1, 2, 3, 4)] == [0, 1, 2, 3]
    assert prior(3, task="readmission") == 0


def test_an_incumbent_that_is_made_up_moves_nothing(world) -> None:
    """Neither none where one is in production, nor one that never was."""
    promotion.run(_params(world), world.settings, KEY)
    second = risk_model.run(world.training.model_copy(update={"rounds": 6}), world.settings, "2" * 32)
    judged = evaluate.run(world.judging.model_copy(update=dict(second)), world.settings, "2" * 32)
    fields = second.model_dump() | judged.model_dump(exclude={"metrics", "counts"})
    decision = promotion.run(_params(world, **fields, sequence=3), world.settings, "2" * 32)
    assert decision.reason == "Not staged: synthetic-mortality v1 is in production, not none; decide again."
    assert len(_moves(world)) == 2


def _continued(world, hospital, freeze) -> risk_model.Params:
    """To grow version 1 on with the stays of patients who came since."""
    since = hospital("mortality", 300, seed=3).rows
    for name, beyond in (("subject_id", 1 << 40), ("stay_id", 1 << 20)):
        moved = pc.add(since[name], beyond)
        since = since.set_column(since.schema.get_field_index(name), name, moved)
    rows = pa.concat_tables([lake.read(world.settings, world.training.training_set), since])
    parent = Parent(model=world.model, training_set=world.training.training_set)
    frozen = freeze(world.settings, "mortality", rows)
    return world.training.model_copy(update={"rounds": 6, "parent": parent, "training_set": frozen})


def _trees(world, model) -> list[str]:
    return xgboost.Booster(model_file=world.settings.home / model.uri / "model.json").get_dump()


def test_a_continued_version_goes_through_the_gate_like_any_other_and_rollback_restores(
    world, command, hospital, freeze
) -> None:
    settings = world.settings
    promotion.run(_params(world), settings, KEY)
    second = risk_model.run(_continued(world, hospital, freeze), settings, "2" * 32)
    assert second.model.version == 2
    before, after = _trees(world, world.model), _trees(world, second.model)
    assert after[: len(before)] == before[: len(after)], "its trees begin with its parent's"
    assert len(after) <= len(before) + 6
    run_id = registry.client(settings).get_model_version(second.model.name, "2").run_id
    run = registry.client(settings).get_run(run_id)
    assert json.loads(run.data.params["parent"])["model"] == world.model.model_dump()
    assert 0 < run.data.metrics["grown_on_rows"] < 0.3 * run.data.metrics["train_rows"]
    now = promotion_context(settings, "synthetic", second.model)
    fields = second.model_dump()
    judged = evaluate.run(
        world.judging.model_copy(update={"incumbent": now.incumbent, **dict(second)}), settings, "2" * 32
    )
    params = _params(world, **{**fields, **judged.model_dump(exclude={"metrics", "counts"}), **dict(now)})
    decision = call.call("promotion", params.model_dump(), settings, "run").result
    assert (decision.staged, decision.promoted) == (True, False)
    assert " Production refused: " in decision.reason
    assert _aliases(world) == {"staging": 2, "production": 1}
    back = "rollback --dataset synthetic --task mortality --version 1 --alias staging"
    assert command(f"{back} --reason 'v2 is worse'") == (
        0, "synthetic-mortality staging → version 1; servers follow by themselves.\n"
    )  # fmt: skip
    deadline = time.monotonic() + 300
    while _aliases(world) != {"staging": 1, "production": 1}:
        assert time.monotonic() < deadline, "MLflow's alias did not follow in the background"
        time.sleep(0.2)
    code, told = command("history --dataset synthetic")
    assert (code, told.count("\n")) == (0, 4)
    assert re.match(
        r"   4  .*  tests  synthetic-mortality staging: 2 → 1  v2 is worse$", told.splitlines()[-1]
    )
    code, told = command("canary synthetic-mortality/2 --percent 5")
    assert (code, "synthetic-mortality v2 may not answer patients: " in told) == (4, True)
    assert decision.reason.partition("Production refused: ")[2].rstrip(".") in told
    assert command("canary synthetic-mortality/2 --percent 5 --shadow --reason Watch.")[0] == 0
    code, told = command("traffic --dataset synthetic")
    assert (code, "v2 beside production as shadow for 5 % of the patients: Watch." in told) == (0, True)
    assert command("canary synthetic-mortality/2 --stop")[0] == 0
    code, told = command("canary synthetic-mortality/2 --stop")
    assert (code, "does not answer beside production" in told) == (7, True)
    code, told = command("canary synthetic-mortality/1 --percent 5")
    assert (code, "synthetic-mortality/1 itself is in production" in told) == (7, True)
    code, told = command("promote --dataset synthetic --task mortality --version 1")
    assert (code, "synthetic-mortality v1 is in production already, since 20" in told) == (0, True)


def test_rollback_needs_a_past_and_whole_files(world) -> None:
    def move(sequence: int, version: int) -> registry.Move:
        return registry.Move(
            sequence=sequence, model=world.model.name, task="mortality", alias="production", from_version=None,
            to_version=version, actor="ana", moved_at=NOW, reason="first", evidence_digest="e",
            model_uri=world.model.uri, model_digest=world.model.digest, key=f"k{sequence}",
        )  # fmt: skip

    model_signature.sign(world.settings, world.model, "e")
    for sequence, version in ((1, 1), (2, 2)):
        registry.record(world.settings, "synthetic", move(sequence, version))
    back = partial(
        roll_back, world.settings, "synthetic", "mortality", "production",
        actor="ana", reason="alarms at night", moved_at=NOW,
    )  # fmt: skip
    with pytest.raises(
        NotFoundError, match="to version 3: it never was in production; v1 and v2 were, and v2 is now"
    ):
        back(3)
    with pytest.raises(NotFoundError, match="to version 2: it is in production now"):
        back(2)
    (world.settings.home / world.model.uri / "model.json").write_bytes(b"changed")
    with pytest.raises(StorageError, match="were changed"):
        back(1)
    assert len(registry.history(world.settings, "synthetic")) == 2


def test_four_eyes_propose_and_the_move_follows_the_approval(world, tmp_path) -> None:
    public = tmp_path / "signers"
    people = {}
    for name, roles in (("ana", ""), ("cleo", ".approver")):
        signing.make_key(tmp_path / f"{name}.key", public / f"{name}{roles}.pem")
        changes = {"signing_key": tmp_path / f"{name}.key", "public_keys": public}
        people[name] = world.settings.model_copy(update=changes)
    rule = ApprovalRule(required=True, reason="The board decided so.")
    approvals.set_rule(people["ana"], "synthetic", rule, actor="ana", at=NOW)
    config = _params(world, actor="ana", sequence=2).model_dump()
    proposed = call.call("promotion", config, people["ana"], "run").result
    assert (proposed.staged, proposed.promoted, proposed.proposed) == (True, False, True)
    assert proposed.reason.startswith("Proposed, and waits for another person's approval. Promoted: AUROC 0.")
    assert registry.current(people["ana"], "synthetic", "mortality", "production") is None
    approved = approval.approve(people["cleo"], f"{world.model.name}/1", "Reviewed with the ward.")
    assert approved.promoted
    assert approved.reason.endswith(" cleo approved of it.")
    kinds = [(e.kind, e.actor) for e in history.entries(people["cleo"], "synthetic")]
    assert kinds == [
        ("approval_rule", "ana"),
        ("move", "ana"),
        ("proposal", "ana"),
        ("approval", "cleo"),
        ("move", "cleo"),
    ]
    assert registry.current(people["ana"], "synthetic", "mortality", "production").to_version == 1


def test_a_policy_s_silent_period_is_judged_from_the_log_of_what_answered_in_shadow(
    world, command, monkeypatch
) -> None:
    """Refused without one; promoted when a person asks again after the outcomes have matured."""
    wanted = SilentPeriod(min_outcomes=300, min_events=30, auroc_low=0.7, calibration_intercept=(-0.4, 0.4))
    mortality = tasks.load("mortality")
    policy = mortality.policy.model_copy(update={"silent_period": wanted})
    asking = mortality.model_copy(update={"policy": policy})
    monkeypatch.setattr(tasks, "load", lambda _task: asking)
    first = call.call("promotion", _params(world).model_dump(), world.settings, "run").result
    assert (first.staged, first.promoted) == (True, False)
    assert "it has no silent period: serve it with --alias staging" in first.reason
    _log, labels = shadow_answers.write(world.settings, world.model, NOW)
    calls.write(world.settings, calls.Call(
        stage="labels", key="l" * 32, run_id="night", params={"dataset": "synthetic", "task": "mortality"},
        code="c", lock="l", result={"labels": labels.model_dump()}, inputs=(), produced=(), outputs=(),
        started_at=datetime(2025, 8, 1, tzinfo=UTC), seconds=1,
    ))  # fmt: skip
    code, told = command("promote --dataset synthetic --task mortality --version 1")
    assert (code, told.partition(" 0.")[0]) == (0, "Promoted: AUROC"), told
    decided = max(calls.of_stage(world.settings, "promotion"), key=lambda one: one.started_at)
    assert decided.result["silent_period"]["outcomes"] == 400
    assert decided.params["labels"] == labels.model_dump()
