"""The DAGs in Airflow's own environment: they parse fast, run in order, hand on assets, and wait for a person."""

import json
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from mediscale import graph, scheduler
from mediscale.settings import Settings

RECORDER = """#!/bin/sh
echo "$@" >> {calls}
for last; do :; done
case "$*" in
  *--dataset=broken*) echo "mediscale: There is no folder for broken." >&2; exit 3 ;;
esac
cat > "$last" <<'END'
{{"retrain": true, "reason": "Drift lasts.", "staged": true, "model": {{"name": "m", "version": 1}},
 "metrics": {{"auroc": 0.8125, "absent": null}}}}
END
"""
"""Stands for the platform's program; our seam, so a fake is right here."""

ML = {"pyspark", "mlflow", "ray", "xgboost", "torch", "pandas", "numpy", "kfp", "data_pipeline", "training"}


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What Airflow told about the DAGs and about one night of them, with the calls that the stages got."""
    folder = tmp_path_factory.mktemp("airflow")
    calls, program, answer = folder / "calls", folder / "recorder", folder / "answer.json"
    program.write_text(RECORDER.format(calls=calls))
    program.chmod(0o755)
    around = scheduler.environment(Settings(home=folder / "home")) | {"MEDISCALE_COMMAND": str(program)}
    python, script = scheduler.AIRFLOW.with_name("python"), Path(__file__).with_name("airflow_side.py")
    command = [str(python), str(script), str(scheduler.ROOT / "dags"), str(answer)]
    done = subprocess.run(command, env=around, capture_output=True, text=True, check=False)
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


def test_every_dag_parses_in_under_a_second_and_without_an_ml_library(told: dict[str, Any]) -> None:
    assert told["errors"] == {}
    assert set(told["dags"]) == {
        f"mediscale_{name}" for name in ("features", "retraining", "drift", "promotion", "loop")
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


def test_a_made_up_hospital_has_no_source_and_an_extract_no_size(
    call: Callable[[str, str], str],
) -> None:
    assert "--source= --path= --dataset= --size=tiny" in call("extract", "--size=tiny")
    assert "--dataset=broken" in call("extract", "--source=mimic-iv")
    assert "--size= " in call("extract", "--source=mimic-iv")


def test_every_task_has_a_timeout_and_an_alert(told: dict[str, Any]) -> None:
    tasks = {name: task for dag in told["dags"].values() for name, task in dag["tasks"].items()}
    assert [name for name, task in tasks.items() if not task["alerts"]] == []
    without = [name for name, task in tasks.items() if not task["timeout"]]
    assert all(
        name.startswith("approval_") for name in without
    )  # waits for a person, with a timeout of its own


def test_stages_follow_the_order_of_the_loop(told: dict[str, Any]) -> None:
    tasks = told["dags"]["mediscale_loop"]["tasks"]
    for node in graph.nodes(graph.LOOP):
        assert tasks[node.name]["upstream"] == sorted(node.upstream)


def test_assets_connect_the_nights(told: dict[str, Any]) -> None:
    dags = told["dags"]
    assert dags["mediscale_features"]["tasks"]["publish"]["outlets"] == ["mediscale_features"]
    assert dags["mediscale_drift"]["tasks"]["publish"]["outlets"] == ["mediscale_drifted"]
    assert dags["mediscale_retraining"]["assets"] == ["mediscale_drifted", "mediscale_features"]
    assert dags["mediscale_retraining"]["tasks"]["publish"]["outlets"] == ["mediscale_candidate"]
    assert dags["mediscale_promotion"]["assets"] == ["mediscale_candidate"]


@pytest.mark.parametrize("name", ["features", "drift", "retraining", "promotion"])
def test_a_night_succeeds(told: dict[str, Any], name: str) -> None:
    assert told["runs"][name]["state"] == "success", told["runs"][name]


@pytest.mark.parametrize("stage", graph.AS_OF)
def test_a_night_sees_what_was_known_when_it_began(told: dict[str, Any], stage: str) -> None:
    made = [
        line for line in told["calls"] if line.startswith(f"{stage} ") and "runs/mediscale_features/" in line
    ]
    assert made
    assert all("--set as_of=2026-02-03T01:00:00" in line for line in made)


def test_a_run_s_configuration_reaches_every_stage(told: dict[str, Any]) -> None:
    made = [line for line in told["calls"] if "runs/mediscale_features/" in line]
    assert len(made) == len(list(graph.nodes(graph.FEATURES))) + 1
    assert all('--run-config {"gold": {"audited_per_shard": 3}}' in line for line in made)


def test_drift_looks_at_the_day_before(call: Callable[[str, str], str]) -> None:
    made = call("drift", "task=mortality")
    assert "--set start=2026-02-02T01:00:00 --set end=2026-02-03T01:00:00" in made


def test_retraining_takes_the_newest_night_and_stops_at_staging(call: Callable[[str, str], str]) -> None:
    assert "/runs/mediscale_features/" in call("training_set", "task=mortality")
    assert "aim=staging" in call("promotion", "task=mortality --set aim=staging")


def test_production_is_recorded_with_the_person_who_approved(call: Callable[[str, str], str]) -> None:
    made = call("promotion", "task=readmission --set aim=production")
    assert '--set actor="dr. grey"' in made
    assert made.count("/runs/mediscale_retraining/") == 2  # the model and its evidence


def test_the_sentence_of_a_failed_stage_is_the_task_s_failure(told: dict[str, Any]) -> None:
    failing = told["runs"]["failing"]
    assert failing["state"] == "failed"
    assert failing["tasks"]["extract"] == "failed"
    assert failing["tasks"]["bronze"] == "upstream_failed"
    assert "RuntimeError: mediscale: There is no folder for broken." in told["output"]
    assert 'mediscale alert {"dag": "mediscale_loop", "task": "extract"' in told["output"]


@pytest.mark.parametrize("signal_name", ["SIGTERM", "timeout"])
def test_a_task_that_ends_takes_its_stage_s_processes_along(tmp_path: Path, signal_name: str) -> None:
    program = tmp_path / "slow"
    program.write_text(f"#!/bin/sh\nsleep 300 &\necho $! > {tmp_path / 'grandchild'}\nwait\n")
    program.chmod(0o755)
    how = "signal.SIGTERM" if signal_name == "SIGTERM" else "signal.SIGALRM"
    code = (
        "import os, signal, sys, threading, time; import mediscale_steps as steps\n"
        "def stop(*_): raise TimeoutError('the task is over')\n"
        f"signal.signal({how}, stop)\n"
        f"from pathlib import Path; child = Path({str(tmp_path / 'grandchild')!r})\n"
        "def later():\n"
        "    while not (child.exists() and child.read_text().strip()): time.sleep(0.05)\n"
        f"    os.kill(os.getpid(), {how})\n"
        "threading.Thread(target=later, daemon=True).start()\n"
        f"steps.start([], Path({str(tmp_path / 'log')!r}))\n"
    )
    done = inside(code, program, tmp_path)
    assert "the task is over" in done.stderr
    grandchild = int((tmp_path / "grandchild").read_text())
    waited = time.monotonic() + 10
    while alive(grandchild) and time.monotonic() < waited:
        time.sleep(0.05)
    assert not alive(grandchild)


def alive(pid: int) -> bool:
    """Running: an orphan that ended stays as a zombie until init looks."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_a_refused_task_is_skipped_with_what_needs_it(tmp_path: Path) -> None:
    program = tmp_path / "refusing"
    program.write_text("#!/bin/sh\necho mediscale: Nobody was followed up. >&2; exit 4\n")
    program.chmod(0o755)
    labels, gold = str(tmp_path / "labels.json"), str(tmp_path / "gold.json")
    code = (
        "import mediscale_steps as steps\n"
        "from airflow.sdk.exceptions import AirflowSkipException\n"
        "def skipped(*arguments):\n"
        "    try: steps.process.function(*arguments)\n"
        "    except AirflowSkipException as why: return str(why)\n"
        f"assert skipped(['labels'], {labels!r}, True) == 'mediscale: Nobody was followed up.'\n"
        f"assert 'followed up' in skipped(['gold', '--from', {labels!r}], {gold!r}, True)\n"
        f"try: steps.process.function(['quality'], {gold!r}, False)\n"
        "except RuntimeError as failure: print(type(failure).__name__)\n"
    )
    assert inside(code, program, tmp_path).stdout.splitlines()[-1] == "RefusedError"


def inside(code: str, program: Path, folder: Path) -> "subprocess.CompletedProcess[str]":
    """Runs code in Airflow's environment beside the DAG files."""
    around = scheduler.environment(Settings(home=folder / "home")) | {"MEDISCALE_COMMAND": str(program)}
    around["PYTHONPATH"] += f"{os.pathsep}{scheduler.ROOT / 'dags'}"
    command = [str(scheduler.AIRFLOW.with_name("python")), "-c", code]
    return subprocess.run(command, env=around, capture_output=True, text=True, check=False)
