"""What is set on the command line and by the environment: one reading, or a sentence."""

from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from mediscale.cli import main, verbs
from mediscale.core.errors import UsageError
from mediscale.core.settings import Settings
from mediscale.core.stage import is_configurable
from mediscale.pipeline import call, steps


@pytest.mark.parametrize(
    ("texts", "sentence"),
    [
        (
            ["risk_model.rounds=30", "risk_model.rounds=40"],
            "--set risk_model.rounds stands twice; give it once",
        ),
        (["risk_model.rounds=010"], "write a number in decimal digits alone"),
        (["risk_model.rounds=1_0"], "write a number in decimal digits alone"),
        (["risk_model.rounds=+5"], "write a number in decimal digits alone"),
        (["risk_model.rounds=0x1f"], "write a number in decimal digits alone"),
        (["risk_model.learning_rate=.5"], "write a number in decimal digits alone"),
        (["risk_model.=1"], "write it as STAGE.NAME=VALUE"),
        ([".rounds=1"], "write it as STAGE.NAME=VALUE"),
        (["rounds=1"], "write it as STAGE.NAME=VALUE"),
        (["="], "write it as STAGE.NAME=VALUE"),
        (["risk_model.rounds"], "write it as STAGE.NAME=VALUE"),
    ],
)
def test_what_has_two_readings_is_refused(texts: list[str], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        verbs.config_of(texts)


@given(st.text(st.sampled_from("0123456789_.+-eExX"), min_size=1, max_size=6))
def test_a_number_is_read_as_json_reads_it_or_refused(text: str) -> None:
    try:
        value = verbs.config_of([f"stage.name={text}"])["stage"]["name"]
    except UsageError:
        return
    try:
        python = float(text)
    except ValueError:
        assert isinstance(value, str)
    else:
        assert value == python, text
        assert not isinstance(value, str), "pydantic would read it in Python's way"


@pytest.mark.parametrize("value", [True, False])
def test_true_is_no_number(value: bool) -> None:
    with pytest.raises(UsageError, match=rf"Stage risk_model: rounds: {str(value).lower()} is no number"):
        call.check({"risk_model": {"rounds": value}})
    call.check({"bronze": {"rebuild": value}})


@pytest.mark.parametrize("stage", ["risk_model", "note_model", "evaluate", "synthetic"])
@pytest.mark.parametrize("seed", [-1, 2**31])
def test_a_seed_that_no_generator_takes_is_refused_before_the_run(stage: str, seed: int) -> None:
    with pytest.raises(UsageError, match=rf"Stage {stage}: seed: must be"):
        call.check({stage: {"seed": seed}})


STAGES = sorted({step.stage for step in (steps.SYNTHETIC, *steps.RISK, *steps.LANGUAGE, *steps.MONITORING)})


@pytest.mark.parametrize("stage", STAGES)
def test_every_number_that_a_run_may_be_configured_with_has_bounds(stage: str) -> None:
    """Without any, no prediction of a shard was audited where somebody set 0 or less."""
    fields = call.load(stage).Params.model_fields
    numbers = {
        name: field
        for name, field in fields.items()
        if is_configurable(field) and {int, float} & {field.annotation, *get_args(field.annotation)}
    }
    assert [name for name, field in numbers.items() if not field.metadata] == []


@pytest.mark.parametrize("path", ["", " "])
@pytest.mark.parametrize(
    "command",
    [
        ["run", "--source", "mimic-iv", "--path"],
        ["report", "--output"],
        ["source", "check", "mimic-iv", "--path"],
        ["source", "draft", "--path"],
        ["backup"],
        ["score", "--dataset", "d", "--task", "mortality", "--output"],
    ],
)
def test_an_empty_path_is_not_the_current_folder(
    command: list[str], path: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main.main([*command, path])
    assert (ended.value.code, "is empty; name a file or a folder" in capsys.readouterr().err) == (2, True)


def test_a_draft_of_no_folder_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["source", "draft", "--path", str(tmp_path / "nowhere")]) == 3
    assert "There is no directory" in capsys.readouterr().err


def test_an_empty_setting_is_its_default(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The current folder was the home, and closed to everybody else."""
    monkeypatch.chdir(tmp_path)
    for name in ("HOME", "LAKE", "TRUST", "RATE_LIMIT", "SPARK_MASTER"):
        monkeypatch.setenv(f"MEDISCALE_{name}", "")
    settings = Settings()
    assert settings.home == tmp_path / ".mediscale"
    assert (settings.lake, settings.spark_master) == (str(tmp_path / ".mediscale/lake"), "local[*]")


@pytest.mark.parametrize(
    "place", ["ftp://x/lake", "s3:/bucket/lake", "s3:///lake", "http://x", "S3://bucket", "gs://"]
)
def test_a_lake_at_no_place_is_refused(place: str) -> None:
    sentence = "is no place; give a path, or a URI such as s3://"
    with pytest.raises(ValidationError, match=sentence):
        Settings(lake=place)
    with pytest.raises(ValidationError, match=sentence):
        Settings(artifact_root=place)


@pytest.mark.parametrize(
    "place", ["s3://b/lake", "gs://b", "abfss://c@a.dfs.core.windows.net/x", "file:///lake", "a/b", "/a:b"]
)
def test_a_lake_at_a_place_is_taken(place: str) -> None:
    assert Settings(lake=place).lake == place
