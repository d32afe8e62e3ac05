"""The DAGs in Airflow's own environment: they parse fast, run in order, hand on assets, and wait for a person."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mediscale.cli import local_airflow
from mediscale.core.settings import Settings
from mediscale.core.task_names import TASKS
from mediscale.pipeline import steps

RECORDER = """#!/bin/sh
echo "$@ by $MEDISCALE_ACTOR" >> {calls}
case "$*" in
  *--dataset=broken*) echo "mediscale: There is no folder for broken." >&2; exit 3 ;;
  *drift*task=readmission*) echo "mediscale: No version of readmission is served." >&2; exit 7 ;;
esac
proposed=false
case "$*" in *task=readmission*target_alias=production*) proposed=true ;; esac
case "$*" in *target_alias=production*task=readmission*) proposed=true ;; esac
while [ "$1" != --result ]; do shift; done
cat > "$2" <<END
{{"proposed": $proposed, "retrain": true, "reason": "Drift lasts.", "staged": true,
 "model": {{"name": "m", "version": 1}}, "metrics": {{"auroc": 0.8125, "auroc_low": 0.75, "auroc_high": 0.875,
 "absent": null}}, "counts": {{"n": 1500, "events": 3, "subjects": 1200}}}}
END
"""
"""Stands for the platform's program; our seam, so a fake is right here."""

SLOW = """#!{python}
import pathlib, subprocess, threading
from mediscale.cli import stage
threading.Thread(target=stage.end_with_input, daemon=True).start()
work = subprocess.Popen(["sleep", "300"])
pathlib.Path("{child}").write_text(str(work.pid))
work.wait()
"""
"""A stage that ends with its parent, with a process of its own, as Spark is."""

NO_CLUSTER = """
apiVersion: v1
kind: Config
clusters: [{name: none, cluster: {server: "https://127.0.0.1:1"}}]
contexts: [{name: none, context: {cluster: none, user: nobody}}]
users: [{name: nobody, user: {}}]
current-context: none
"""

ML = {"pyspark", "mlflow", "ray", "xgboost", "torch", "pandas", "numpy", "kfp", "data_pipeline", "training"}


def bundle(file: Path) -> dict[str, Any]:
    """A DAG's file as a bundle of its own: Airflow parses and stores the whole bundle before each trial run."""
    kind = "airflow.dag_processing.bundles.local.LocalDagBundle"
    return {"name": file.stem, "classpath": kind, "kwargs": {"path": str(file)}}


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What Airflow told about the DAGs and about one night of them, with the calls that the stages got."""
    folder = tmp_path_factory.mktemp("airflow")
    calls, answer, dags = folder / "calls", folder / "answer.json", local_airflow.ROOT / "dags"
    programs = {
        "recorder": RECORDER.format(calls=calls),
        "slow": SLOW.format(python=sys.executable, child=folder / "grandchild"),
        "refusing": "#!/bin/sh\necho mediscale: Nobody was followed up. >&2; [ $1 = -9 ] && kill -9 $$; exit $1\n",
    }
    for name, text in programs.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    (folder / "cluster.yaml").write_text(NO_CLUSTER)
    env = local_airflow.environment(Settings(home=folder / "home")) | {
        "MEDISCALE_COMMAND": str(folder / "recorder"),
        "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": json.dumps(
            [bundle(file) for file in dags.glob("*_dag.py")]
        ),
        "KUBECONFIG": str(folder / "cluster.yaml"),
        "STAGE_POD": str(local_airflow.ROOT / "infra" / "kubernetes" / "stage-pod.yaml"),
    }
    env["PYTHONPATH"] += f"{os.pathsep}{dags}"
    python, script = local_airflow.AIRFLOW.with_name("python"), Path(__file__).with_name("airflow_side.py")
    command = [str(python), str(script), str(dags), str(folder)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert answer.exists(), done.stderr[-2000:]
    result: dict[str, Any] = json.loads(answer.read_text())
    result["calls"] = calls.read_text().splitlines()
    result["output"] = done.stdout + done.stderr
    return result


@pytest.fixture
def call(told: dict[str, Any]) -> Callable[[str, str], str]:
    """The one call of a stage whose arguments hold a text."""

    def find(stage: str, holding: str) -> str:
        (found,) = [line for line in told["calls"] if line.startswith(f"{stage} ") and holding in line]
        return str(found)

    return find


@pytest.fixture
def night(call: Callable[[str, str], str]) -> str:
    """Folder of the results of the one night that is not of the past."""
    return re.findall(r"--result (\S+)/prepare_source.json", call("prepare-source", "--size=tiny"))[0]


def test_every_dag_parses_in_under_a_second_and_without_an_ml_library(told: dict[str, Any]) -> None:
    assert told["errors"] == {}
    assert set(told["dags"]) == {
        f"mediscale_{name}"
        for name in ("features", "retraining", "drift", "drill", "promotion", "loop", "language")
    }
    assert max(told["seconds"].values()) < 1
    assert not ML & set(told["imported"])


def test_every_dag_runs_once_at_a_time_and_never_catches_up(told: dict[str, Any]) -> None:
    assert {(dag["catchup"], dag["max_active_runs"]) for dag in told["dags"].values()} == {(False, 1)}


def test_a_run_can_be_triggered_from_the_form_as_it_opens(told: dict[str, Any]) -> None:
    """Airflow's form takes an empty text for a missing one, and lets nobody go on."""
    given = [value for dag in told["dags"].values() for value in dag["params"].values()]
    assert given
    assert "" not in given


def test_every_dag_says_what_it_is_for_and_whose_it_is(told: dict[str, Any]) -> None:
    assert all(dag["description"].endswith(".") for dag in told["dags"].values())
    assert {dag["owner"] for dag in told["dags"].values()} == {"mediscale"}


def test_a_made_up_hospital_has_no_source_and_an_extract_no_size(call: Callable[[str, str], str]) -> None:
    assert "--source= --path= --dataset= --size=tiny" in call("prepare-source", "--size=tiny")
    assert "--dataset=broken" in call("prepare-source", "--source=mimic-iv")
    assert "--size= " in call("prepare-source", "--source=mimic-iv")


def test_every_task_has_a_timeout_and_an_alert(told: dict[str, Any]) -> None:
    tasks = {name: task for dag in told["dags"].values() for name, task in dag["tasks"].items()}
    assert [name for name, task in tasks.items() if not task["alerts"]] == []
    without = [name for name, task in tasks.items() if not task["timeout"]]
    assert all("approval_" in name for name in without)  # waits for a person, with a timeout of its own


@pytest.mark.parametrize(("dag", "pipeline"), [("loop", steps.RISK), ("language", steps.LANGUAGE)])
def test_stages_follow_the_order_of_the_pipeline(
    told: dict[str, Any], dag: str, pipeline: tuple[steps.Step, ...]
) -> None:
    tasks = told["dags"][f"mediscale_{dag}"]["tasks"]
    for node in steps.nodes(pipeline):
        assert tasks[node.name]["upstream"] == sorted(node.upstream)


def test_a_run_of_the_language_pipeline_begins_with_its_questions(
    told: dict[str, Any], call: Callable[[str, str], str]
) -> None:
    assert told["runs"]["language"]["state"] == "success", told["runs"]["language"]
    assert "--pipeline=language --source=file --path=/q.jsonl --dataset= " in call(
        "prepare-source", "--pipeline=language"
    )
    assert "/question_set.json" in call("language_model", "--from")


def test_a_night_rehearses_a_broken_canary_and_a_rollback(
    told: dict[str, Any], call: Callable[[str, str], str]
) -> None:
    assert told["runs"]["drill"]["state"] == "success", told["runs"]["drill"]
    assert call("drill", "--dataset").startswith("drill --dataset synthetic --wait-for-lock --result ")


def test_assets_connect_the_nights(told: dict[str, Any]) -> None:
    dags = told["dags"]
    assert dags["mediscale_features"]["tasks"]["publish"]["outlets"] == ["mediscale_features"]
    assert dags["mediscale_features"]["tasks"]["publish"]["upstream"] == [
        "gold_mortality", "gold_readmission", "note_tokens"
    ]  # fmt: skip
    assert dags["mediscale_drift"]["tasks"]["publish_mortality"]["outlets"] == ["mediscale_drifted"]
    assert dags["mediscale_retraining"]["assets"] == ["mediscale_drifted", "mediscale_features"]
    assert dags["mediscale_retraining"]["tasks"]["publish"]["outlets"] == ["mediscale_candidate"]
    assert dags["mediscale_promotion"]["assets"] == ["mediscale_candidate"]


@pytest.mark.parametrize("name", ["features", "drift", "retraining", "promotion"])
def test_a_night_succeeds(told: dict[str, Any], name: str) -> None:
    assert told["runs"][name]["state"] == "success", told["runs"][name]


@pytest.mark.parametrize("stage", ["labels", "gold"])
def test_a_night_sees_what_was_known_when_it_began(told: dict[str, Any], night: str, stage: str) -> None:
    made = [line for line in told["calls"] if line.startswith(f"{stage} ") and f"--result {night}" in line]
    assert len(made) == len(TASKS)
    assert all("--as-of 2026-02-03T01:00:00" in line for line in made)


def test_a_run_s_configuration_reaches_every_stage(told: dict[str, Any], night: str) -> None:
    made = [line for line in told["calls"] if f"--result {night}" in line]
    assert len(made) == len(list(steps.nodes(steps.FEATURES))) + 1
    assert all('--run-config {"gold": {"audited_per_shard": 3}}' in line for line in made)


def test_drift_looks_at_the_day_before(call: Callable[[str, str], str]) -> None:
    made, asked = call("drift", "task=mortality"), call("question_drift", "dataset=clinical-questions")
    assert "--set start=2026-02-02T01:00:00 --set end=2026-02-03T01:00:00" in made
    assert "--set start=2026-02-02T01:00:00 --set end=2026-02-03T01:00:00" in asked


def test_retraining_takes_the_newest_night_and_stops_at_staging(told: dict[str, Any], night: str) -> None:
    made = [line for line in told["calls"] if "/runs/mediscale_retraining/" in line]
    trained = [line for line in made if line.startswith("training_set ")]
    assert trained
    assert all(f"--from {night}/gold_" in line for line in trained)
    asked = [line for line in made if line.startswith("promotion ")]
    assert asked
    # whatever the run's configuration says
    assert all("--set target_alias=staging" in line for line in asked)


def test_production_is_recorded_with_the_person_who_approved_what_was_shown(told: dict[str, Any]) -> None:
    made = [
        line for line in told["calls"] if line.startswith("promotion ") and "target_alias=production" in line
    ]
    assert len(made) == len(TASKS)
    for line in made:
        assert line.endswith(" by dr. grey")
        # the model, its evidence and its night, kept; the result
        assert line.count("/runs/mediscale_promotion/") == 4
        assert "/runs/mediscale_retraining/" not in line


def test_a_proposal_is_put_to_a_second_person_and_approved_in_their_name(
    told: dict[str, Any], call: Callable[[str, str], str]
) -> None:
    tasks = told["runs"]["promotion"]["tasks"]
    assert (tasks["proposal_mortality"], tasks["approve_mortality"]) == ("skipped", "skipped")
    made = call("approve", "m/1")
    assert "/approve_readmission.json" in made
    assert made.endswith(" by dr. grey")


def test_a_person_is_shown_figures_with_intervals_and_no_small_count(told: dict[str, Any]) -> None:
    assert told["questions"]
    for question in told["questions"]:
        assert "- events: fewer than 10\n- subjects: 1,200\n- auroc: 0.812 (0.750 to 0.875)\n" in question


def test_versions_are_asked_about_once(told: dict[str, Any]) -> None:
    assert told["runs"]["again"]["tasks"]["publish"] == "skipped"


def test_a_task_that_no_version_answers_for_leaves_the_other_its_verdict(told: dict[str, Any]) -> None:
    assert told["runs"]["drift"]["tasks"] == {
        "drift_mortality": "success", "performance_series_mortality": "success",
        "retrain_decision_mortality": "success", "publish_mortality": "success",
        "drift_readmission": "skipped", "performance_series_readmission": "skipped",
        "retrain_decision_readmission": "skipped", "publish_readmission": "skipped",
        "question_drift": "success",
    }  # fmt: skip


def test_a_night_of_the_past_starts_no_retraining(told: dict[str, Any]) -> None:
    assert told["runs"]["past"]["state"] == "success"
    assert told["runs"]["past"]["tasks"]["publish"] == "skipped"


def test_the_sentence_of_a_failed_stage_is_the_task_s_failure(told: dict[str, Any]) -> None:
    failing = told["runs"]["failing"]
    assert failing["state"] == "failed"
    assert failing["tasks"]["prepare_source"] == "failed"
    assert failing["tasks"]["bronze"] == "upstream_failed"
    assert "RuntimeError: mediscale: There is no folder for broken." in told["output"]
    of_task, of_run = re.findall(r"mediscale alert (.*)", told["output"])
    assert '"dag": "mediscale_loop"' in of_task
    assert '"task": "prepare_source", "try": 1' in of_task
    assert '"dag": "mediscale_loop"' in of_run
    assert '"why": "task_failure"' in of_run


@pytest.mark.parametrize("how", ["killed by Airflow", "timed out", "killed with -9"])
def test_a_task_that_ends_takes_its_stage_s_processes_along(told: dict[str, Any], how: str) -> None:
    ended = told["ends"][how]
    assert ended["code"] != 0
    assert ("the task is over" in ended["output"]) is (how == "timed out")
    assert not ended["left"]


def test_how_the_program_ends_says_what_the_task_does(told: dict[str, Any]) -> None:
    """Skipped, tried again, or failed for good where no second try mends it."""
    sentence = "mediscale: Nobody was followed up."
    *ended, (_, _, raised, of_killed) = told["failures"]["value"]
    assert raised == "RuntimeError"
    assert "was killed by SIGKILL, by hand or by the kernel for want of memory" in of_killed
    assert ended == [
        [4, [4], "AirflowSkipException", sentence],
        [4, [], "RuntimeError", sentence],
        [7, [7], "AirflowSkipException", sentence],
        [2, [4], "AirflowFailException", sentence],
        [3, [4], "RuntimeError", sentence],
    ]


def test_a_stage_is_a_pod_where_a_template_says_how(told: dict[str, Any]) -> None:
    assert told["pod"]["code"] == 0, told["pod"]["output"]
    (container,) = told["pod"]["value"]["pod"]["spec"]["containers"]
    assert container["command"] == ["mediscale"]
    assert container["args"][:2] == ["gold", "--fill-runtime-inputs"]
    assert {"--wait-for-lock", "--skip-unsupported", "--run-id"} <= set(container["args"])
    assert "--exit-with-parent" not in container["args"]  # the pod ends with the task
    mounts = ["/mediscale", "/tmp", "/trust", "/extracts", "/signing", "/signers"]
    assert [mount["mountPath"] for mount in container["volumeMounts"]] == mounts
    settings, *secrets = container["envFrom"]
    assert settings == {"configMapRef": {"name": "mediscale-settings"}}
    assert [one["secretRef"]["name"] for one in secrets] == ["mediscale-credentials", "mediscale-ray"]
    assert {"MEDISCALE_TRUST", "MEDISCALE_SIGNING_KEY"} <= {one["name"] for one in container["env"]}
    assert container["securityContext"]["runAsNonRoot"]
    assert told["pod"]["value"]["skips"] == [4]
    assert told["pod"]["value"]["starts_within"] == [1800, 1800]  # of being scheduled, and of starting
