"""Runtime inputs: what callers look up before they call a stage, and how results become parameters."""

from pathlib import Path

import pytest

from mediscale.core.errors import InputError, UsageError
from mediscale.core.settings import Settings
from mediscale.pipeline import runtime_inputs


def test_results_fill_only_known_parameters() -> None:
    landed = {"source": "mimic-iv", "dataset": "a", "bronze": {}, "rows": 3}
    assert runtime_inputs.wired("validate", {}, [landed]) == {
        "source": "mimic-iv",
        "dataset": "a",
        "bronze": {},
    }


def test_what_is_set_wins_over_results() -> None:
    assert runtime_inputs.wired("validate", {"dataset": "b"}, [{"dataset": "a"}, {"dataset": "c"}]) == {
        "dataset": "b"
    }


def test_results_that_disagree_are_refused() -> None:
    with pytest.raises(UsageError, match="disagree about 'dataset'"):
        runtime_inputs.wired("validate", {}, [{"dataset": "a"}, {"dataset": "c"}])


def test_a_first_version_has_no_incumbent_and_becomes_number_one(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = {
        "dataset": "a",
        "task": "mortality",
        "model": {"name": "a-mortality", "version": 1.0, "uri": "m", "digest": "d"},
    }
    monkeypatch.setenv("MEDISCALE_ACTOR", "dr. who")
    promotion = runtime_inputs.filled("promotion", {}, [model], settings)
    assert promotion["sequence"] == 1
    assert promotion["incumbent"] is None
    assert promotion["actor"] == "dr. who"
    assert promotion["moved_at"].tzinfo is None
    assert runtime_inputs.filled("evaluate", {}, [model], settings)["incumbent"] is None


@pytest.mark.parametrize(
    ("which", "sentence"),
    [
        ({"source": "mimic-iii"}, "belong together"),
        ({"source": "a", "path": "b", "size": "tiny"}, "leave it out"),
    ],
)
def test_half_an_extract_is_refused(which: dict[str, str], sentence: str, settings: Settings) -> None:
    with pytest.raises(UsageError, match=sentence):
        runtime_inputs.prepare_source(settings, runtime_inputs.Source(**which), {}, "run")


def test_an_unknown_source_names_those_that_exist(settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="mimic-iii"):
        runtime_inputs.prepare_source(
            settings, runtime_inputs.Source(source="epic", path=str(tmp_path)), {}, "run"
        )
