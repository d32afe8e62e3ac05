"""A run in MLflow: one parent, each call once below it, charts and page where a person looks; told again, the same."""

import pytest

from mediscale import lineage, registry, report
from mediscale.report import tracked


@pytest.fixture
def client(leave_run):
    return registry.client(leave_run.home)


def _runs(client, dataset: str = "synthetic"):
    experiment = client.get_experiment_by_name(dataset).experiment_id
    return client.search_runs([experiment], max_results=1000)


def _parents(runs):
    return [run for run in runs if tracked.RUN_TAG in run.data.tags]


def test_each_call_is_a_child_with_its_parameters_figures_and_tables(leave_run, client) -> None:
    home = leave_run()
    assert report.publish(home)[1] == ""
    run, runs = lineage.find(home), _runs(client)
    (parent,) = _parents(runs)
    children = {r.data.tags[registry.KEY_TAG]: r for r in runs if r is not parent}
    assert children.keys() == {call.key for call in run.calls}
    assert {r.data.tags[tracked.PARENT_TAG] for r in children.values()} == {parent.info.run_id}
    assert {r.info.status for r in runs} == {"FINISHED"}
    labels = run.newest("labels", "mortality")
    assert labels is not None
    told = children[labels.key]
    assert told.info.run_name == "labels mortality"
    assert told.data.params["task"] == "mortality"
    assert told.data.metrics["seconds"] == 7.5
    assert told.data.metrics["flow.visits"] == 4000
    assert told.data.tags["mediscale.code"] == labels.code
    assert [i.dataset.name for i in told.inputs.dataset_inputs] == ["events"]
    assert told.inputs.dataset_inputs[0].dataset.source_type == "delta_table"
    assert parent.data.metrics["mortality.auroc_low"] < parent.data.metrics["mortality.auroc"]
    assert parent.data.params["readmission.decision"] == "staging"
    assert [a.path for a in client.list_artifacts(parent.info.run_id)] == ["report.html"]


def test_what_the_training_logged_becomes_a_child_and_holds_the_charts(leave_run, client) -> None:
    home = leave_run()
    call = lineage.find(home).newest("risk_model", "mortality")
    assert call is not None
    experiment = registry.experiment(home, client, "synthetic")
    logged = client.create_run(experiment, tags={registry.KEY_TAG: call.key}).info.run_id
    leave_run.rewrite(call, {"run_id": logged})
    report.publish(home)
    (parent,) = _parents(_runs(client))
    assert client.get_run(logged).data.tags[tracked.PARENT_TAG] == parent.info.run_id
    plots = {artifact.path for artifact in client.list_artifacts(logged, "plots")}
    assert plots == {f"plots/{name}.svg" for name in ("roc", "precision-recall", "calibration", "decision")}


def test_told_again_nothing_is_made_twice_and_no_patient_is_told(leave_run, client) -> None:
    home = leave_run()
    report.publish(home)
    before = {run.info.run_id for run in _runs(client)}
    report.publish(home)
    assert {run.info.run_id for run in _runs(client)} == before
    for run in _runs(client):
        assert not {
            name
            for name, value in run.data.metrics.items()
            if name.startswith(("flow", "counts")) and 0 < value < 10
        }
        assert "9007199254" not in str(run.data.to_dictionary())


def test_a_store_that_fails_fails_nothing_else(leave_run, monkeypatch) -> None:
    home = leave_run()
    monkeypatch.setattr(tracked, "_parent", lambda *_: 1 / 0)
    path, untold = report.publish(home)
    assert path.is_file()
    assert untold == "MLflow was not told of the run (ZeroDivisionError); run again to tell it."
