"""What `mediscale transport` says of a hospital whose run froze no training set, as where nobody's outcome is known."""

from collections.abc import Callable
from typing import Any

import pytest

from mediscale.cli.main import main
from mediscale.core.settings import Settings
from mediscale.storage import calls, registry


def test_a_run_that_ended_before_a_training_set_is_not_asked_for_again(
    leave_run: Callable[[], Settings], capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    home = leave_run()
    monkeypatch.setenv("MEDISCALE_HOME", str(home.home))
    frozen = [call for call in calls.of_stage(home, "training_set") if call.params["task"] == "mortality"]
    dataset = frozen[0].params["dataset"]
    version = f"{registry.model_name(dataset, 'mortality')}/1"
    assert main(["transport", version, "--to", "elsewhere"]) == 7
    assert "run `mediscale run --task mortality` on its extract first" in capsys.readouterr().err
    for call in frozen:
        calls.forget(home, call)
    assert main(["transport", version, "--to", dataset]) == 7
    sentence = capsys.readouterr().err
    assert "its run ended before one was made, as where too few have the outcome or lack it" in sentence
    assert "first" not in sentence
