"""A run in MLflow: one parent, each call once below it, charts and page where a person looks; told again, the same."""

import inspect
import re
from typing import get_args

import pytest

from mediscale import report
from mediscale.core.annotations import Meaning, Parts, field_meanings
from mediscale.core.refs import TableRef
from mediscale.pipeline import call, steps
from mediscale.report import mlflow_export
from mediscale.storage import calls, lineage, registry
from mediscale.storage.calls import Output


@pytest.fixture
def client(leave_run):
    return registry.client(leave_run.home)


def _runs(client, dataset: str = "synthetic"):
    experiment = client.get_experiment_by_name(dataset).experiment_id
    return client.search_runs([experiment], max_results=1000)


def _parents(runs):
    return [run for run in runs if mlflow_export.RUN_TAG in run.data.tags]


def test_each_call_is_a_child_with_its_parameters_figures_and_tables(leave_run, client) -> None:
    home = leave_run()
    assert report.publish(home)[1] == ""
    run, runs = lineage.find(home), _runs(client)
    (parent,) = _parents(runs)
    children = {r.data.tags[registry.KEY_TAG]: r for r in runs if r is not parent}
    assert children.keys() == {call.key for call in run.calls}
    assert {r.data.tags[mlflow_export.PARENT_TAG] for r in children.values()} == {parent.info.run_id}
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
    trained = lineage.find(home).newest("risk_model", "mortality")
    assert trained is not None
    experiment = registry.experiment(home, client, "synthetic")
    logged = client.create_run(experiment, tags={registry.KEY_TAG: trained.key}).info.run_id
    report.publish(home)
    (parent,) = _parents(_runs(client))
    assert client.get_run(logged).data.tags[mlflow_export.PARENT_TAG] == parent.info.run_id
    plots = {artifact.path for artifact in client.list_artifacts(logged, "plots")}
    assert plots == {f"plots/{name}.svg" for name in ("roc", "precision-recall", "calibration", "decision")}


def test_told_again_nothing_is_made_twice_and_no_patient_is_told(leave_run, client) -> None:
    home = leave_run()
    report.publish(home)
    before = {run.info.run_id for run in _runs(client)}
    report.publish(home)
    assert {run.info.run_id for run in _runs(client)} == before
    for run in _runs(client):
        assert "9007199254" not in str(run.data.to_dictionary())


COUNT_NOBODY = {
    "shards", "event_count", "replaced", "token_count", "watched", "share_drifted", "probability_better", "rows",
    "visits", "patients", "judged_facts", "values", "train", "tuning", "held_out", "augmented", "contaminated",
    "exact_duplicates", "near_duplicates", "n_questions", "rejected",
    "abstention_questions", "trials", "stopped_early", "n_files_read", "measured",
    "estimated", "reviewed", "reviewed_left_out",
}  # fmt: skip
"""Numbers of results that count nobody: facts and events are many, synthetic patients and questions are nobody."""
COUNTS_PATIENTS = (Meaning.PATIENT_COUNT, Meaning.COHORT_FLOW)


@pytest.mark.parametrize("stage", steps.STAGES)
def test_every_number_of_every_result_is_declared_to_count_patients_or_not(stage) -> None:
    fields = call.load(stage).Result.model_fields
    numbers = {
        name for name, field in fields.items() if int in (field.annotation, *get_args(field.annotation))
    }
    counted = {
        name
        for name, field in fields.items()
        if any(m in COUNTS_PATIENTS or isinstance(m, Parts) for m in field_meanings(field))
    }
    assert numbers - counted <= COUNT_NOBODY


@pytest.mark.parametrize("stage", steps.STAGES)
def test_no_summary_writes_a_count_of_patients_as_it_is(stage) -> None:
    """But by ``privacy.count``: the console had told of 7 rows where it said before, fewer than 10 stays."""
    loaded = call.load(stage)
    written = set(re.findall(r"\{\w+\.(\w+)[:}]", inspect.getsource(loaded.summary)))
    fields = loaded.Result.model_fields
    assert not [n for n in written & set(fields) if Meaning.PATIENT_COUNT in field_meanings(fields[n])]


def test_no_small_count_is_told_whatever_its_type_and_place(leave_run, client) -> None:
    home = leave_run()
    run = lineage.find(home)
    judged, scrubbed, decided = (
        call
        for call in (
            run.newest("evaluate", "mortality"),
            run.newest("deidentify"),
            run.newest("retrain_decision"),
        )
        if call is not None
    )
    leave_run.rewrite(judged, {"metrics": {"auroc": 0.8}, "counts": {"n": 60, "events": 3, "subjects": 9}})
    few = Output(ref=TableRef(**scrubbed.result["note_quarantine"]), rows=7, digest="d")
    calls.write(home, scrubbed.model_copy(update={"outputs": (*scrubbed.outputs, few)}))
    windows = [{**window, "n": 4} for window in decided.params["windows"]]
    calls.write(home, decided.model_copy(update={"params": {**decided.params, "windows": windows}}))
    report.publish(home)
    told = {run.data.tags.get(registry.KEY_TAG): run.data for run in _runs(client)}
    measured = {name for name in told[judged.key].metrics if name.startswith(("metrics.", "counts."))}
    assert measured == {"metrics.auroc", "counts.n"}
    assert "rows.quarantine_notes" not in told[scrubbed.key].metrics
    assert f"{few.ref} (fewer than 10 rows)" in told[scrubbed.key].tags["mediscale.tables"]
    assert '"n_ad_hoc": 100' in told[decided.key].params["windows"]
    assert '"n": 4' not in told[decided.key].params["windows"]
    page = (home.home / "reports" / f"{lineage.find(home).run_id}.html").read_text()
    assert f"quarantine_notes@v{few.ref.version}</code>: fewer than 10," in page


def test_a_store_that_fails_fails_nothing_else(leave_run, monkeypatch) -> None:
    home = leave_run()
    monkeypatch.setattr(mlflow_export, "_parent", lambda *_: 1 / 0)
    path, untold = report.publish(home)
    assert path.is_file()
    assert untold == "MLflow was not told of the run (ZeroDivisionError); run again to tell it."
