"""What a step shows to a Kubeflow user, and how it fails."""

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from kubeflow_pipelines import component
from mediscale.core.annotations import PatientCount
from mediscale.core.errors import QualityError
from mediscale.core.refs import Frozen
from mediscale.core.settings import Settings
from mediscale.core.stage import Stage
from mediscale.pipeline import steps
from mediscale.storage import calls

RUN = "kubeflow-1"


class Params(Frozen):
    dataset: str
    rows: int
    rounds: int = 10
    positives: int = 30
    task: str = ""


class Result(Frozen):
    kept: int
    metrics: dict[str, float | None]
    positives: PatientCount


@pytest.fixture(autouse=True)
def counting(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stage of our own; our seam, so a fake is right here."""
    module: Any = ModuleType("counting_stage")

    def run(params: Params, _settings: Settings, _key: str) -> Result:
        if params.dataset == "poor":
            raise QualityError("Nobody was followed up.")
        kept = params.rows * params.rounds
        return Result(kept=kept, metrics={"auroc": 0.75, "gap": None}, positives=params.positives)

    module.STAGE = Stage(Params, Result, run, display_name="count", summary=lambda r: f"{r.kept} <kept>")
    monkeypatch.setitem(sys.modules, "counting_stage", module)
    monkeypatch.setitem(steps.STAGES, "counting", "counting_stage")
    monkeypatch.setattr(calls, "code_digest", lambda _module: "code")


def run(settings: Settings, **config: float) -> component.Done:
    upstream = json.dumps({"dataset": "a", "rows": 4, "more": 1})
    whole: dict[str, dict[str, float]] = {"counting": config, "other": {"x": 1}}
    return component.run("counting", "", str(settings.home), whole, "", "job-1", [upstream, ""])


def test_numbers_of_a_result_become_metrics(settings: Settings) -> None:
    assert run(settings).metrics == {"kept": 40.0, "auroc": 0.75, "positives": 30.0}


def test_parameters_of_the_run_reach_their_stage(settings: Settings) -> None:
    # Kubeflow hands integers over as floats
    assert json.loads(run(settings, rounds=3.0).result)["kept"] == 12


def test_a_page_is_written_with_text_escaped(settings: Settings, tmp_path: Path) -> None:
    run(settings).write(report=str(tmp_path / "report"), record=str(tmp_path / "record"))
    assert "40 &lt;kept&gt;" in (tmp_path / "report").read_text()
    assert json.loads((tmp_path / "record").read_text())["kept"] == 40


def test_a_small_count_is_told_to_nobody(settings: Settings) -> None:
    done = run(settings, rounds=1, positives=3)
    assert done.metrics == {"kept": 4.0, "auroc": 0.75}
    assert "positives" not in done.page + done.result


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ({"rounds": "x"}, "rounds: "),
        ({"depth": 1}, "there is no parameter depth"),
        ({"dataset": None}, "dataset: "),
    ],
)
def test_a_parameter_out_of_range_is_one_sentence(
    settings: Settings, config: dict[str, Any], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        run(settings, **config)
    said = capsys.readouterr().err
    assert said.startswith("mediscale: Stage counting: ")
    assert sentence in said
    assert said.count("\n") == 1
    assert stopped.value.code == 2


def test_a_run_whose_configuration_no_stage_takes_makes_no_extract(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    which = dict.fromkeys(("source", "path", "dataset"), "") | {"size": "tiny"}
    with pytest.raises(SystemExit):
        component.prepare_source(str(settings.home), {"risk_modle": {"rounds": 1}}, RUN, "", **which)
    assert "no stage 'risk_modle'" in capsys.readouterr().err
    assert not settings.home.exists()


def test_a_task_is_a_parameter(settings: Settings) -> None:
    upstream = json.dumps({"dataset": "a", "rows": 4})
    component.run("counting", "mortality", str(settings.home), {}, RUN, "", [upstream])
    (left,) = calls.of_stage(settings, "counting")
    assert left.params["task"] == "mortality"
    assert left.run_id == RUN


def test_a_run_is_called_as_kubeflow_calls_it_where_nobody_named_it(settings: Settings) -> None:
    run(settings)
    (left,) = calls.of_stage(settings, "counting")
    assert left.run_id == "kubeflow-job-1"
    assert calls.run_ids(settings) == ["kubeflow-job-1"]


def test_a_refused_task_passes_its_reason_on(settings: Settings) -> None:
    upstream = json.dumps({"dataset": "poor", "rows": 4})
    refused = component.run("counting", "mortality", str(settings.home), {}, RUN, "", [upstream])
    assert json.loads(refused.result) == {"refused": "Nobody was followed up."}
    further = component.run(
        "counting", "mortality", str(settings.home), {}, RUN, "", [upstream, refused.result]
    )
    assert further == refused


def test_what_all_tasks_share_may_not_be_refused(settings: Settings) -> None:
    with pytest.raises(SystemExit) as stopped:
        component.run(
            "counting", "", str(settings.home), {}, RUN, "", [json.dumps({"dataset": "poor", "rows": 4})]
        )
    assert stopped.value.code == 4
