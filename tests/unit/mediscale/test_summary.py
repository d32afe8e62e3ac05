"""The summary of a run: what is new at its end, in a reader's words, and what to type next."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from mediscale.cli import summary
from mediscale.core.settings import Settings
from mediscale.pipeline.local import Run
from mediscale.pipeline.progress import Progress, Step
from mediscale.storage import lineage, registry
from training.promotion.decision import Result


def finished(settings: Settings, **changed: Any) -> tuple[Run, Result]:
    """A run whose newest decision about mortality is as ``changed`` says."""
    (call, *_) = reversed(lineage.find(settings, "").all(lineage.DECISION, "mortality"))
    result = Result.model_validate(call.result).model_copy(update=changed)
    run = SimpleNamespace(
        settings=settings,
        dataset="synthetic",
        progress=Progress(steps=[Step("bronze", 2.0), Step("silver", 1.0, cached=True)]),
        decisions={"mortality": SimpleNamespace(result=result)},
        refusals={},
        verdicts=[],
    )
    return cast("Run", run), result


def test_a_run_ends_with_its_figures_and_each_decision_once(
    one_run: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    run, result = finished(one_run)
    summary.show(run, None)
    said = capsys.readouterr().out
    assert said.count(result.reason) == 1
    assert "2 calls of stages in 3 s, 1 of them found as an earlier run left them" in said
    assert said.index("Discrimination (AUROC)") < said.index("Brier score") < said.index("AUROC of NEWS2")


def test_a_version_that_production_was_refused_may_be_tried_as_a_shadow(
    one_run: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, result = finished(one_run, staged=True, promoted=False)
    shadow = f"canary {result.model.name}/{result.model.version} --percent 100 --shadow"
    for now, serve, is_offered in (
        (None, "--alias staging", False),
        ("a version", "--dataset synthetic", True),
    ):
        monkeypatch.setattr(
            registry, "current", lambda *about, now=now: now if about[-1] == "production" else "a version"
        )
        commands = summary._next(run)
        assert commands[0].endswith(serve)
        assert any(command.endswith(shadow) for command in commands) is is_offered


def test_no_server_is_offered_that_would_have_no_version(
    one_run: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, _ = finished(one_run, staged=False, promoted=False)
    monkeypatch.setattr(registry, "current", lambda *_: None)
    assert not any(" serve " in command for command in summary._next(run))
