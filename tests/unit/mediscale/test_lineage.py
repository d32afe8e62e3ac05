"""Which calls belong to one run is read off the manifests: by what they name, not by when they were written."""

from datetime import timedelta

import pytest

from mediscale.core.errors import NotFoundError
from mediscale.storage import calls, lineage


def _stages(run: lineage.Run) -> set[str]:
    return {call.stage for call in run.calls}


def test_a_run_goes_from_the_extract_to_both_decisions_and_on_to_the_verdict(leave_run) -> None:
    run = lineage.find(leave_run())
    assert run.tasks == ("mortality", "readmission")
    assert {"synthetic", "bronze", "silver", "promotion", "rehearsal", "drift", "retrain"} <= _stages(run)
    assert len(run.calls) == len(calls.everything(leave_run.home))
    assert [call.started_at for call in run.calls] == sorted(call.started_at for call in run.calls)


def test_nothing_of_another_run_or_dataset_is_in_it(leave_run) -> None:
    home = leave_run()
    leave_run("mimic-iv", day=2, made_up=False)
    leave_run(day=3)
    first, other, newest = (lineage.find(home, asked) for asked in ("synthetic-mortality/1", "mimic-iv", ""))
    assert first.dataset == newest.dataset == "synthetic"
    assert other.dataset == "mimic-iv"
    assert other.newest("synthetic") is other.newest("retrain") is None
    runs = [{call.key for call in run.calls} for run in (first, other, newest)]
    assert len(set.union(*runs)) == sum(map(len, runs)) == len(calls.everything(home))


def test_the_incumbent_is_compared_with_and_does_not_belong_to_the_run(leave_run) -> None:
    home = leave_run()
    (old,) = (call for call in lineage.find(home).all("promotion", "mortality"))
    leave_run(day=2)
    new = lineage.find(home).newest("evaluate", "mortality")
    assert new is not None
    compared = new.model_copy(update={"params": new.params | {"incumbent": old.params["model"]}})
    calls.write(home, compared)
    assert old.key not in {call.key for call in lineage.find(home).calls}


def _decided(run: lineage.Run) -> dict[str, int]:
    newest = (run.newest(lineage.DECISION, task) for task in run.tasks)
    return {call.params["task"]: call.params["model"]["version"] for call in newest if call is not None}


def test_what_is_decided_later_about_the_same_records_changes_no_earlier_run(leave_run) -> None:
    home = leave_run()
    asked = ("synthetic-mortality/1", "synthetic-readmission/1")
    before = [lineage.find(home, version) for version in asked]
    leave_run.decide_again("mortality", "readmission", day=3)
    leave_run.decide_again("mortality", "readmission", day=5)
    assert [lineage.find(home, version) for version in asked] == before
    assert before[0] == before[1]
    for version in (2, 3):
        for task in ("mortality", "readmission"):
            run = lineage.find(home, f"synthetic-{task}/{version}")
            assert _decided(run) == {"mortality": version, "readmission": version}


def test_a_task_decided_about_alone_stands_beside_what_had_been_decided_about_the_other(leave_run) -> None:
    home = leave_run()
    leave_run.decide_again("readmission", day=3)
    leave_run.decide_again("mortality", "readmission", day=5)
    runs = {version: _decided(lineage.find(home, version)) for version in (
        "synthetic-mortality/1", "synthetic-readmission/2", "synthetic-mortality/3", "synthetic-readmission/3"
    )}  # fmt: skip
    assert runs == {
        "synthetic-mortality/1": {"mortality": 1, "readmission": 1},
        "synthetic-readmission/2": {"mortality": 1, "readmission": 2},
        "synthetic-mortality/3": {"mortality": 3, "readmission": 3},
        "synthetic-readmission/3": {"mortality": 3, "readmission": 3},
    }


def test_tasks_side_by_side_belong_together_whichever_is_decided_about_first(leave_run) -> None:
    home = leave_run()
    for day in (3, 5):  # on a cluster
        leave_run.decide_again("readmission", day=day)
        leave_run.decide_again("mortality", day=day, minute=2)
    for version, other in ((2, 3), (4, 5)):
        expected = {"readmission": version, "mortality": other}
        assert _decided(lineage.find(home, f"synthetic-readmission/{version}")) == expected
        assert _decided(lineage.find(home, f"synthetic-mortality/{other}")) == expected


def test_a_version_that_a_person_releases_later_stays_with_its_own_run(leave_run) -> None:
    home = leave_run()
    staged = lineage.find(home).newest("promotion", "readmission")
    assert staged is not None
    asked_later = {"key": "f" * 32, "started_at": staged.started_at + timedelta(days=1)}
    calls.write(home, staged.model_copy(update=asked_later))
    leave_run.decide_again("mortality", "readmission", day=5)
    assert _decided(lineage.find(home, "synthetic-mortality/1")) == {"mortality": 1, "readmission": 1}
    assert _decided(lineage.find(home, "synthetic-mortality/2")) == {"mortality": 2, "readmission": 2}
    assert "f" * 32 in {call.key for call in lineage.find(home, "synthetic-readmission/1").calls}


def test_a_run_is_found_by_the_key_of_any_of_its_calls(leave_run) -> None:
    home = leave_run()
    leave_run(day=2)
    first = lineage.find(home, "synthetic-readmission/1")
    for stage in ("bronze", "training_set", "drift"):
        call = first.newest(stage)
        assert call is not None
        assert lineage.find(home, call.key[:8]).name == first.name


def test_a_task_that_was_refused_is_there_as_far_as_it_came(leave_run) -> None:
    home = leave_run()
    for stage in ("training_set", "risk_model", "evaluate", "promotion"):
        call = lineage.find(home).newest(stage, "readmission")
        leave_run.forget(call)
    run = lineage.find(home)
    assert [call.stage for call in run.all("labels", "readmission") + run.all("gold", "readmission")] == [
        "labels",
        "gold",
    ]
    assert run.newest("promotion", "readmission") is None
    assert run.newest("promotion", "mortality") is not None


@pytest.mark.parametrize("asked", ["mimic-iii", "synthetic-mortality/9", "abc", "0000000"])
def test_an_unknown_run_is_refused_in_one_sentence_that_names_what_there_is(leave_run, asked) -> None:
    with pytest.raises(
        NotFoundError, match=rf"no run '{asked}' .* \(synthetic\), .* synthetic-readmission/1"
    ):
        lineage.find(leave_run(), asked)


def test_a_home_without_a_decision_says_so(leave_run) -> None:
    with pytest.raises(NotFoundError, match="run the loop first"):
        lineage.find(leave_run.home)
