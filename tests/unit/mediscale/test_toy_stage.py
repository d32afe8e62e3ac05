"""Adding a stage adds one file and one line: a toy one is run by the CLI and by Kubeflow, and listed in its run."""

import json
from pathlib import Path

import pytest

from kubeflow_pipelines import component
from mediscale.cli import main
from mediscale.core.errors import QualityError
from mediscale.core.settings import Settings
from mediscale.pipeline import steps
from mediscale.storage import calls, last_calls
from mediscale.storage.lineage import Lineage

TOY = '''
from mediscale.core.annotations import PatientCount, RuntimeInput
from mediscale.core.refs import Frozen
from mediscale.core.stage import Stage

class Params(Frozen):
    dataset: RuntimeInput[str]
    depth: int = 2
    """How deep it digs, in metres."""

class Result(Frozen):
    dug: int
    seen: PatientCount

def run(params, settings, key):
    return Result(dug=params.depth * 3, seen=params.depth)

STAGE = Stage(Params, Result, run, display_name="dig", summary=lambda r: f"{r.dug} m dug")
'''


@pytest.fixture(autouse=True)
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: Settings) -> None:
    """The one file and the one line."""
    (tmp_path / "toy_stage.py").write_text(TOY)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(steps.STAGES, "toy_stage", steps.Step("toy_stage").module)
    monkeypatch.setenv("MEDISCALE_HOME", str(settings.home))


def test_the_cli_runs_it_and_lists_it_in_its_run(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["toy_stage", "--set", "dataset=a", "--set", "depth=20", "--run-id", "by-hand"]
    assert main.main(command) == 0
    assert json.loads(capsys.readouterr().out) == {"dug": 60, "seen": 20}
    (record,) = calls.of_stage(settings, "toy_stage")
    assert record.run_id == "by-hand"
    assert main.main([*command[:-1], "again"]) == 0
    capsys.readouterr()
    assert main.main(["runs"]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert "by-hand" in first
    assert "1 made,  0 cached" in first
    assert "again" in second
    assert "0 made,  1 cached" in second


def test_what_failed_when_it_was_last_called_is_listed_until_it_succeeds(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    def listed(*options: str) -> str:
        assert main.main(["runs", *options]) == 0
        return capsys.readouterr().out

    with pytest.raises(QualityError), last_calls.recording(settings, "a", "toy_stage", ""):
        raise QualityError("There is nothing to dig.")
    assert "a: The newest call of toy_stage failed (" in listed()
    assert listed("--dataset", "a").endswith(" UTC): There is nothing to dig.\n")
    assert "failed" not in listed("--dataset", "b")
    assert main.main(["toy_stage", "--set", "dataset=a"]) == 0
    capsys.readouterr()
    assert "failed" not in listed()


def test_kubeflow_runs_it_and_suppresses_its_small_count(settings: Settings) -> None:
    done = component.run("toy_stage", "", str(settings.home), {}, "", "job", [json.dumps({"dataset": "a"})])
    assert json.loads(done.result) == {"dug": 6}
    assert "6 m dug" in done.page
    assert [run.run_id for run in Lineage(settings).runs()] == ["kubeflow-job"]


def test_its_help_shows_each_parameter_with_type_default_and_meaning(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as ended:
        main.main(["toy_stage", "--help"])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert "Dig: runs the stage toy_stage." in shown
    assert "dataset (string; required; given by the run)" in shown
    assert "depth (integer; default 2)\n      How deep it digs, in metres." in shown


def test_the_help_groups_verbs_by_who_uses_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["--help"]) == 0
    shown = capsys.readouterr().out
    groups = ["for data scientists", "for MLOps engineers", "for orchestrators"]
    assert [shown.index(group) for group in groups] == sorted(shown.index(group) for group in groups)
    assert shown.index("mediscale run`") < shown.index(groups[0])


def test_a_stage_logs_to_standard_error_with_its_module_and_its_idle_threads_sleep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    talks = "    import logging, os; logging.getLogger('training.toy').info(os.environ['OMP_WAIT_POLICY'])\n"
    head, run, tail = TOY.partition("def run(params, settings, key):\n")
    (tmp_path / "talking_stage.py").write_text(head + run + talks + tail)
    monkeypatch.setitem(steps.STAGES, "talking_stage", steps.Step("talking_stage").module)
    assert main.main(["talking_stage", "--set", "dataset=a"]) == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out) == {"dug": 6, "seen": 2}
    assert printed.err.strip().endswith("INFO training.toy: PASSIVE")
