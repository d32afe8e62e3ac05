"""Lineage reads call records and run lists: what a call names, not when it was written."""

import pytest

from mediscale.core.annotations import ComparedWith, Digest
from mediscale.core.errors import NotFoundError
from mediscale.core.refs import Frozen, TableRef
from mediscale.governance import lineage_text
from mediscale.storage import calls, lineage
from mediscale.storage.lineage import Lineage

EVENTS = TableRef(dataset="a", table="events", table_id="e1", version=3)


class Params(Frozen):
    events: TableRef
    extract: Digest
    name: str = "digest"
    incumbent: ComparedWith[TableRef | None] = None


def test_artifacts_are_told_by_their_type_and_not_by_their_name() -> None:
    params = Params(events=EVENTS, extract="f00", incumbent=EVENTS.model_copy(update={"table_id": "other"}))
    assert lineage.artifact_ids(params) == ("table:e1@3", "digest:f00")


def _stages(run: lineage.Run) -> set[str]:
    return {call.stage for call in run.calls}


def test_a_run_goes_from_the_extract_to_both_decisions_and_on_to_the_retrain_decision(leave_run) -> None:
    run = lineage.find(leave_run())
    assert run.tasks == ("mortality", "readmission")
    assert {"synthetic", "bronze", "promotion", "held_out_replay", "drift", "retrain_decision"} <= _stages(
        run
    )
    assert len(run.calls) == len(calls.all_calls(leave_run.home))
    assert [call.started_at for call in run.calls] == sorted(call.started_at for call in run.calls)
    assert not run.cached
    *_, first = lineage_text.of_version(leave_run.home, "synthetic-mortality", 1)
    assert ": a synthetic hospital in " in first


def test_nothing_of_another_run_or_dataset_is_in_it(leave_run) -> None:
    home = leave_run()
    leave_run("mimic-iv", day=2, made_up=False)
    leave_run(day=3)
    first, other, newest = (lineage.find(home, asked) for asked in ("synthetic-mortality/1", "mimic-iv", ""))
    assert first.dataset == newest.dataset == "synthetic"
    assert other.dataset == "mimic-iv"
    runs = [{call.key for call in run.calls} for run in (first, other, newest)]
    assert len(set.union(*runs)) == sum(map(len, runs)) == len(calls.all_calls(home))
    assert [run.run_id for run in Lineage(home).runs()] == [first.run_id, other.run_id, newest.run_id]


def test_a_retraining_stands_on_the_features_of_an_earlier_run_and_lists_only_its_own(leave_run) -> None:
    home = leave_run()
    leave_run.decide_again("mortality", day=3)
    retraining = lineage.find(home, "synthetic-mortality/2")
    own = {call.stage for call in retraining.calls if call.key not in retraining.cached}
    assert "training_set" in own
    assert "bronze" not in own
    assert {"bronze", "silver"} <= _stages(retraining)
    assert retraining.began_at == min(
        call.started_at for call in retraining.calls if call.key not in retraining.cached
    ), "not when the extract was landed that it reads"
    assert retraining.newest("bronze").run_id == lineage.find(home, "synthetic-mortality/1").run_id
    assert retraining.tasks == ("mortality",)


def test_what_is_decided_later_about_the_same_records_changes_no_earlier_run(leave_run) -> None:
    home = leave_run()
    before = lineage.find(home, "synthetic-mortality/1")
    leave_run.decide_again("mortality", "readmission", day=3)
    assert lineage.find(home, "synthetic-mortality/1") == before
    assert {
        c.params["model"]["version"] for c in lineage.find(home, "synthetic-readmission/2").decisions
    } == {2}


def test_a_call_that_another_run_had_made_is_cached_in_the_next(leave_run) -> None:
    home = leave_run()
    (bronze,) = calls.of_stage(home, "bronze")
    assert calls.list_in_run(home, "cli-later", bronze)
    run = Lineage(home).run("cli-later")
    assert bronze.key in run.cached
    assert {"synthetic", "bronze"} == _stages(run)


def test_a_run_is_found_by_its_id_and_by_the_key_of_any_of_its_calls(leave_run) -> None:
    home = leave_run()
    leave_run(day=2)
    first = lineage.find(home, "synthetic-readmission/1")
    assert lineage.find(home, first.run_id) == first
    for stage in ("bronze", "training_set", "drift"):
        assert lineage.find(home, first.newest(stage).key[:8]).run_id == first.run_id


@pytest.mark.parametrize("asked", ["mimic-iii", "synthetic-mortality/9", "abc", "0000000"])
def test_an_unknown_run_is_refused_in_one_sentence_that_names_what_there_is(leave_run, asked) -> None:
    with pytest.raises(
        NotFoundError, match=rf"no run '{asked}' .* \(synthetic\), .* synthetic-readmission/1"
    ):
        lineage.find(leave_run(), asked)


def test_a_home_without_a_decision_says_so(leave_run) -> None:
    with pytest.raises(NotFoundError, match="mediscale run"):
        lineage.find(leave_run.home)
