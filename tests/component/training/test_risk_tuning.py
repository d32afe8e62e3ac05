"""A hyperparameter search for real: Ray Tune with Optuna and ASHA, MLflow on SQLite, a kill in between."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from mediscale.cli import main
from mediscale.core.refs import TableRef
from mediscale.core.settings import Settings
from mediscale.storage import calls, registry
from training.hyperparameter_search import PARENT_TAG
from training.tabular import risk_tuning

KEY, KILLED_KEY = "1" * 32, "2" * 32


def search(settings: Settings, frozen: TableRef, key: str, trials: int) -> risk_tuning.Result:
    params = risk_tuning.Params(
        dataset="synthetic", task="mortality", training_set=frozen, trials=trials, minutes=30, rounds=80
    )
    return risk_tuning.run(params, settings, key)


def runs_of(settings: Settings, key: str) -> tuple[Any, list[Any]]:
    """The search's run and those of its trials, oldest first."""
    mlflow = registry.client(settings)
    runs = mlflow.search_runs([registry.experiment(settings, mlflow, "synthetic")])
    (parent,) = [run for run in runs if run.data.tags.get(registry.KEY_TAG) == key]
    trials = [run for run in runs if run.data.tags.get(PARENT_TAG) == parent.info.run_id]
    return parent, sorted(trials, key=lambda run: run.info.start_time)


def flipped_outcomes_of_the_held_out(rows: pa.Table) -> pa.Table:
    held_out = np.array(rows["split"].to_pylist()) == "held_out"
    outcomes = rows["boolean_value"].to_numpy(zero_copy_only=False) ^ held_out
    at = rows.schema.get_field_index("boolean_value")
    return rows.set_column(at, "boolean_value", pa.array(outcomes))


@pytest.mark.usefixtures("local_ray")
def test_a_search_logs_each_trial_and_chooses_the_same_whatever_the_held_out_patients_outcomes_are(
    settings: Settings, hospital, freeze
) -> None:
    rows = hospital("mortality", 500, prevalence=0.2).rows
    result = search(settings, freeze(settings, "mortality", rows), KEY, trials=3)
    parent, trials = runs_of(settings, KEY)
    assert [run.info.status for run in (parent, *trials)] == ["FINISHED"] * 4
    finished = [run for run in trials if run.data.metrics["finished"] == 1]
    assert len(finished) == result.trials - result.stopped_early >= 1
    best = min(finished, key=lambda run: run.data.metrics["tuning_loss"])
    chosen, default = result.choices[:2]
    settled = {name: json.loads(value) for name, value in best.data.params.items()}
    assert settled.items() <= result.settings.items()
    assert trials[0].data.params["depth"] == "3", "the default settings come first"
    assert chosen.log_loss.value == pytest.approx(best.data.metrics["tuning_loss"], abs=1e-9)
    assert default.difference.value >= chosen.difference.value == 0
    assert default.log_loss.low < default.log_loss.value < default.log_loss.high
    poisoned = freeze(settings, "mortality", flipped_outcomes_of_the_held_out(rows))
    other = search(settings, poisoned, "3" * 32, trials=3)
    assert other.model_copy(update={"search": KEY, "cpu_minutes": result.cpu_minutes}) == result


BEGIN = """
import sys
from pathlib import Path
from mediscale.core.refs import TableRef
from mediscale.core.settings import Settings
from training.tabular import risk_tuning
if __name__ == "__main__":
    frozen = TableRef.model_validate_json(sys.argv[2])
    given = {"dataset": "synthetic", "task": "mortality", "training_set": frozen}
    params = risk_tuning.Params(**given, trials=500, minutes=30, rounds=80)
    risk_tuning.run(params, Settings(home=Path(sys.argv[1])), sys.argv[3])
"""


@pytest.mark.usefixtures("local_ray")
def test_a_search_that_was_killed_goes_on_from_the_trials_that_ended(
    settings: Settings, hospital, freeze, tmp_path: Path
) -> None:
    frozen = freeze(settings, "mortality", hospital("mortality", 300, prevalence=0.2).rows)
    program = tmp_path / "begin.py"
    program.write_text(BEGIN)
    command = [sys.executable, str(program), str(settings.home), frozen.model_dump_json(), KILLED_KEY]
    with (tmp_path / "log").open("w") as log:
        begun = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        try:
            ended = wait_for_trials(settings, begun, 2)
        finally:
            os.killpg(begun.pid, signal.SIGKILL)
            begun.wait()
    most = len(runs_of(settings, KILLED_KEY)[1])
    result = search(settings, frozen, KILLED_KEY, trials=most + 1)
    parent, trials = runs_of(settings, KILLED_KEY)
    finished = [run for run in trials if run.info.status == "FINISHED"]
    assert ended <= {run.info.run_id for run in finished}
    assert len(finished) == result.trials == most + 1
    assert {run.info.status for run in (parent, *trials)} <= {"FINISHED", "KILLED"}
    assert len({tuple(sorted(run.data.params.items())) for run in finished}) == len(finished), "tried twice"


def wait_for_trials(settings: Settings, process: subprocess.Popen[bytes], least: int) -> set[str]:
    """Ids of the runs of the trials that ended, as soon as there are as many."""
    deadline = time.monotonic() + 400
    while time.monotonic() < deadline and process.poll() is None:
        try:
            _, trials = runs_of(settings, KILLED_KEY)
        except ValueError:  # the search's run is not made yet
            trials = []
        ended = {run.info.run_id for run in trials if run.info.status == "FINISHED"}
        if len(ended) >= least:
            return ended
        time.sleep(0.2)
    pytest.fail(
        f"The search ended (exit code {process.poll()}) or took too long before {least} trials had ended."
    )


@pytest.mark.usefixtures("local_ray")
def test_what_a_search_chose_is_in_the_next_version_s_record_and_can_be_reproduced(
    settings: Settings, hospital, freeze, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    from mediscale.pipeline import runtime_inputs

    monkeypatch.setenv("MEDISCALE_HOME", str(settings.home))
    frozen = freeze(settings, "mortality", hospital("mortality", 300, prevalence=0.2).rows)
    assert main.main(["tune", "--task", "mortality", "--trials", "2", "--minutes", "30"]) == 0
    said = capsys.readouterr().out
    assert "mortality: 2 trials" in said
    given = {"dataset": "synthetic", "task": "mortality", "training_set": frozen}
    runtime_inputs.call("risk_model", given, [], settings, "cli-test")
    (searched,), (fitted,) = calls.of_stage(settings, "risk_tuning"), calls.of_stage(settings, "risk_model")
    assert fitted.params["tuned"] == {"search": searched.key, "settings": searched.result["settings"]}
    assert f"digest:{searched.key}" in fitted.inputs
    assert main.main(["tune", "--task", "mortality", "--trials", "2", "--minutes", "30"]) == 0
    assert "(cached)" in capsys.readouterr().out
    assert "newer search" not in said
    assert main.main(["tune", "--task", "mortality", "--trials", "1", "--minutes", "30"]) == 0
    assert "xgboost was chosen" in capsys.readouterr().out
    assert main.main(["tune", "--task", "mortality", "--trials", "2", "--minutes", "30"]) == 0
    assert "a newer search chose other settings" in capsys.readouterr().out
    assert main.main(["reproduce", "synthetic-mortality/1"]) == 0
    assert "identical to the bit in model.json" in capsys.readouterr().out
