"""What a person types: help at once, one sentence for a mistake, the exit code of its class."""

import json
import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from mediscale.cli import main, stage, verbs
from mediscale.core.settings import Settings, misspelt
from mediscale.storage.locks import exclusive

ROOT = Path(__file__).parents[3]


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from mediscale.cli.main import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        "heavy = {'pydantic', 'pyarrow', 'pyspark', 'mlflow', 'ray', 'numpy', 'xgboost'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout


def test_an_entry_of_the_history_is_written_and_read_without_what_an_emergency_would_wait_for(
    settings: Settings,
) -> None:
    code = (
        "import sys; from datetime import datetime; from mediscale.core.settings import Settings\n"
        "from mediscale.storage import history, history_entries as kinds, signing\n"
        "from training.promotion import rollback\n"
        "home, rule = Settings(), kinds.ApprovalRule(required=True, reason='\u00e9, \\n')\n"
        "draft = kinds.Draft(rule, signing.actor(home), datetime(2026, 1, 1, 0, 0, 0, 5), 'key')\n"
        "written = history.append(home, 'd', draft)\n"
        "assert history.entries(home, 'd') == [written] and written.content == rule\n"
        "heavy = {'pandas', 'mlflow', 'mediscale.core.tasks'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    environment = os.environ | {"MEDISCALE_HOME": str(settings.home)}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["gild"], 2, "no verb or stage 'gild'"),
        (["run", "--source", "mimic-iii"], 2, "belong together"),
        (["run", "--dataset", "a/b"], 2, "lower-case letters, digits and dashes"),
        (
            ["require-approval", "--dataset", "../d", "--reason", "x"],
            2,
            "lower-case letters, digits and dashes",
        ),
        (["serve", "--dataset", "d", "--dataset", "D"], 2, "lower-case letters, digits and dashes"),
        (["transport", "d-mortality/1", "--to", "../d"], 2, "choose another --to"),
        (
            ["index", "README.md", "--index", "../i"],
            2,
            "The name of an index is at most 100 lower-case letters",
        ),
        (
            ["run", "--set", "promotion.incumbent=null"],
            2,
            "incumbent can't be configured; a run's own options",
        ),
        (["run", "--source", "mimic-iii", "--path", "x", "--size", "tiny"], 2, "leave it out"),
        (["run", "--set", "rounds=3"], 2, "write it as STAGE.NAME=VALUE"),
        (["run", "--set", "risk_modle.rounds=3"], 2, "A run has no stage 'risk_modle' to configure"),
        (["run", "--set", "risk_model.rounds=few"], 2, "Stage risk_model: rounds: must be an integer"),
        (
            ["run", "--set", "gold.deep=1", "--runner", "kubeflow"],
            2,
            "Stage gold: there is no parameter deep; there are ",
        ),
        (["kubeflow", "submit", "--set", "drift.start=1"], 2, "A run has no stage 'drift'"),
        (["prepare-source", "--run-config", "[]"], 3, "--run-config holds no JSON object"),
        (["bronze", "--set", "source"], 2, "NAME=VALUE"),
        (["bronze", "--config", "absent.json"], 3, "absent.json can't be read"),
        (["bronze", "--run-config", '{"bronze": 3}'], 2, "its configuration is not parameters by name"),
        (["promotion", "--run-config", '{"promotion": {"actor": "x"}}'], 2, "actor can't be configured"),
        (["run", "--set", "synthetic.size=tiny"], 2, "size can't be configured; a run's own options give it"),
        (["kubeflow", "compile", "--output", "."], 2, "ends with .yaml"),
        (["history", "--dataset", ""], 2, "lower-case letters, digits and dashes"),
        (["history", "--dataset", "a" * 5000], 2, "at most 100 lower-case letters"),
        (["audit", "--dataset", "d", "--since", "0001-01-01T00:00:00+14:00"], 2, "is no time; write it as"),
        (["bronze", "--set", 'bronze={"a": 1, "a": 2}'], 3, "a stands twice in one JSON object"),
        (["bronze", "--run-config", '{"bronze": {}, "bronze": {}}'], 3, "bronze stands twice in one JSON"),
        (["kubeflow", "compile", "--size", "tiny"], 2, "give these options to submit"),
    ],
)
def test_a_mistake_is_one_sentence(
    arguments: list[str], code: int, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.main(arguments) == code
    error = capsys.readouterr().err
    assert sentence in error
    assert "Traceback" not in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("port", ["0", "65536", "web", "-1"])
def test_airflow_is_refused_what_is_no_port(port: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main.main(["airflow", f"--port={port}"])
    assert f"{port} is no port; choose one from 1 to 65535" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "refusal"),
    [
        ("serve --workers=0", "0 is no count; give a whole number from 1 on"),
        ("serve --workers=1000000", "1000000 is too many; give at most 256"),
        ("bench-serving --clients=-1", "-1 is no count"),
        ("tune --trials=1.5", "1.5 is no count"),
        ("ask  ", "QUESTION: is blank"),
        ("rollback --dataset=d --task=mortality --version=1 --reason= ", "--reason: is blank"),
        ("erase p --dataset=d --reason= ", "--reason: is blank"),
    ],
)
def test_a_number_that_counts_nothing_and_a_blank_text_are_refused_before_anything_begins(
    words: str, refusal: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main.main(words.split(" "))
    assert ended.value.code == 2
    assert refusal in capsys.readouterr().err


def test_a_home_that_is_a_file_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MEDISCALE_HOME", str(tmp_path / "file"))
    (tmp_path / "file").touch()
    assert main.main(["runs"]) == 2
    assert "which is no folder; set it to one" in capsys.readouterr().err


def test_a_working_directory_that_is_gone_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    monkeypatch.setenv("MEDISCALE_HOME", "home")
    gone.rmdir()
    assert main.main(["runs"]) == 6
    assert "The working directory is no longer there" in capsys.readouterr().err


def test_what_the_machine_refuses_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    binary = tmp_path / "config.json"
    binary.write_bytes(b"\xff\xfe")
    assert main.main(["bronze", "--config", str(binary)]) == 3
    assert main.main(["prepare-source", "--result", str(tmp_path)]) == 6
    monkeypatch.setenv("MEDISCALE_HOME", "/dev/null/home")
    assert main.main(["history", "--dataset", "nowhere"]) == 7
    assert main.main(["run", "--size", "tiny"]) == 6
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 4
    assert "is not text in UTF-8" in told[0]
    assert "No alias of nowhere was ever moved; the lake's datasets are: none yet." in told[2]
    assert "/dev/null/home/locks: Not a directory" in told[3]


def test_a_torn_config_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "config.json"
    config.write_text('{"source": ')
    assert main.main(["bronze", "--config", str(config)]) == 3
    assert "not valid JSON" in capsys.readouterr().err


def test_a_refusal_is_left_as_the_result_and_passed_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    refused, result = tmp_path / "labels.json", tmp_path / "gold.json"
    refused.write_text('{"refused": "Nobody was followed up."}')
    result.write_text('{"features": "of an earlier try"}')
    arguments = ["gold", "--from", str(refused), "--result", str(result)]
    assert main.main(arguments) == 4
    assert "Nobody was followed up." in capsys.readouterr().err
    assert not result.exists()
    assert main.main([*arguments, "--skip-unsupported"]) == 4
    assert json.loads(result.read_text()) == json.loads(refused.read_text())


def test_who_waits_goes_on_when_the_other_has_ended(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MEDISCALE_HOME", str(settings.home))
    monkeypatch.setattr(stage, "WAIT_SECONDS", 0.1)
    arguments = [
        "prepare-source",
        "--size",
        "tiny",
        "--run-config",
        '{"synthetic": {"patients": 30, "days": 30}}',
    ]
    with exclusive(settings, "synthetic-synthetic", "Another"):
        assert main.main(arguments) == 5
        waiting = threading.Thread(target=main.main, args=([*arguments, "--wait-for-lock"],))
        waiting.start()
        while "Trying again in 0 s." not in capsys.readouterr().err:
            assert waiting.is_alive()
            time.sleep(0.05)
    waiting.join()
    assert json.loads(capsys.readouterr().out)["patients"] == 30


def test_a_tied_step_ends_with_its_input_and_takes_its_processes_along(settings: Settings) -> None:
    code = (
        "import subprocess, sys; from mediscale.cli import main as cli\n"
        "from mediscale.pipeline import runtime_inputs\n"
        "def long(*_, **__):\n"
        "    print(subprocess.Popen(['sleep', '300']).pid, flush=True)\n"
        "    subprocess.run(['sleep', '300'])\n"
        "runtime_inputs.prepare_source = long\n"
        "cli.main(['prepare-source', '--exit-with-parent'])\n"
    )
    step = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
        env={**os.environ, "MEDISCALE_HOME": str(settings.home)},
    )
    assert step.stdin is not None
    assert step.stdout is not None
    child = psutil.Process(int(step.stdout.readline()))
    step.stdin.close()
    assert step.wait(10) == -9
    assert psutil.wait_procs([child], timeout=10)[1] == [] or child.status() == psutil.STATUS_ZOMBIE
    step.stdout.close()


def test_a_tied_step_that_is_done_ends_by_itself(settings: Settings) -> None:
    program = str(Path(sys.executable).with_name("mediscale"))
    command = [program, "prepare-source", "--size", "tiny", "--exit-with-parent"]
    command += ["--run-config", '{"synthetic": {"patients": 30, "days": 30}}']
    around = {**os.environ, "MEDISCALE_HOME": str(settings.home)}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=around) as step:
        assert step.stdout is not None
        assert json.loads(step.stdout.read())["patients"] == 30
        assert step.wait(120) == 0


def test_assignments_are_json_or_text() -> None:
    texts = ["rounds=20", "source=mimic-iii", "as_of=2026-01-02T00:00:00"]
    assert verbs.assignments(texts) == {"rounds": 20, "source": "mimic-iii", "as_of": "2026-01-02T00:00:00"}


def test_a_misspelt_setting_is_refused_and_no_name_of_ours_is_taken_for_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pages = (page for folder in ("docs", "infra") for page in (ROOT / folder).rglob("*") if page.is_file())
    for name in {
        name for page in pages for name in re.findall(r"MEDISCALE_[A-Z_]+", page.read_text(errors="replace"))
    }:
        monkeypatch.setenv(name, "")
    assert misspelt(os.environ) == {}
    monkeypatch.setenv("MEDISCALE_ARTEFACT_ROOT", "s3://elsewhere")
    assert main.main(["runs"]) == 2
    assert "did you mean MEDISCALE_ARTIFACT_ROOT?" in capsys.readouterr().err
