"""What a person types: help at once, one sentence for a mistake, the exit code of its class."""

import subprocess
import sys
from pathlib import Path

import pytest

from mediscale import cli


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from mediscale.cli import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        "heavy = {'pydantic', 'pyarrow', 'pyspark', 'mlflow', 'ray', 'numpy', 'xgboost'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["gild"], 2, "no verb or stage 'gild'"),
        (["run", "--source", "mimic-iii"], 2, "belong together"),
        (["run", "--source", "mimic-iii", "--path", "x", "--size", "tiny"], 2, "leave it out"),
        (["run", "--set", "rounds=3"], 2, "write it as STAGE.NAME=VALUE"),
        (["run", "--set", "risk_modle.rounds=3"], 2, "A run has no stage 'risk_modle' to configure"),
        (
            ["run", "--set", "risk_model.rounds=few"],
            2,
            "Stage risk_model: rounds: input should be a valid integer",
        ),
        (["run", "--set", "gold.deep=1", "--runner", "kubeflow"], 2, "Stage gold: deep: extra inputs"),
        (["pipeline", "submit", "--set", "drift.start=1"], 2, "A run has no stage 'drift'"),
        (["extract", "--run-config", "[]"], 3, "--run-config holds no JSON object"),
        (["bronze", "--set", "source"], 2, "NAME=VALUE"),
        (["bronze", "--config", "absent.json"], 3, "absent.json can't be read"),
    ],
)
def test_a_mistake_is_one_sentence(
    arguments: list[str], code: int, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(arguments) == code
    error = capsys.readouterr().err
    assert sentence in error
    assert "Traceback" not in error
    assert error.count("\n") == 1


def test_a_torn_config_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "config.json"
    config.write_text('{"source": ')
    assert cli.main(["bronze", "--config", str(config)]) == 3
    assert "not valid JSON" in capsys.readouterr().err


def test_assignments_are_json_or_text() -> None:
    assert cli._assignment("rounds=20") == ("rounds", 20)
    assert cli._assignment("source=mimic-iii") == ("source", "mimic-iii")
    assert cli._assignment("as_of=2026-01-02T00:00:00") == ("as_of", "2026-01-02T00:00:00")
