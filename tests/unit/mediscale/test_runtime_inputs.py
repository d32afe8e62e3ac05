"""Runtime inputs: what callers look up before they call a stage, and how results become parameters."""

import shutil
from datetime import datetime
from pathlib import Path

import pytest

from mediscale.core.errors import InputError, StorageError, UsageError
from mediscale.core.settings import Settings
from mediscale.pipeline import runtime_inputs
from mediscale.storage import history, signing
from mediscale.storage.history_entries import Draft, Export


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
        ({"source": "mimic-iii"}, r"belong together.* Add the path \(--path FOLDER\)\."),
        ({"source": "a", "path": "b", "size": "tiny"}, "leave it out"),
    ],
)
def test_half_an_extract_is_refused(which: dict[str, str], sentence: str, settings: Settings) -> None:
    with pytest.raises(UsageError, match=sentence):
        runtime_inputs.prepare_source(settings, runtime_inputs.Source(**which), {}, "run")


def _decide_and_delete(settings: Settings, dataset: str) -> None:
    """Somebody decides about the dataset, and then the whole home is deleted."""
    body = Export(what="rows", purpose="test", rows=1, digest="d")
    history.append(settings, dataset, Draft(body, signing.actor(settings), datetime(2026, 1, 1), "k"))
    shutil.rmtree(settings.home)


def test_a_synthetic_hospital_whose_home_was_deleted_begins_anew(settings: Settings) -> None:
    _decide_and_delete(settings, "synthetic")
    few = {"synthetic": {"patients": 3, "notes": False}}
    runtime_inputs.prepare_source(settings, runtime_inputs.Source(size="tiny"), few, "run")
    assert history.entries(settings, "synthetic") == []


def test_a_hospital_whose_lake_is_gone_is_refused_before_anything_is_done(
    settings: Settings, tmp_path: Path
) -> None:
    _decide_and_delete(settings, "mimic-iv")
    hospital = runtime_inputs.Source(source="mimic-iv", path=str(tmp_path))
    with pytest.raises(
        StorageError, match=r"is the lake mounted\? If it was deleted on purpose, delete .*\.json"
    ):
        runtime_inputs.prepare_source(settings, hospital, {}, "run")


def test_an_unknown_source_names_those_that_exist(settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="mimic-iii"):
        runtime_inputs.prepare_source(
            settings, runtime_inputs.Source(source="epic", path=str(tmp_path)), {}, "run"
        )


def test_of_a_hospital_s_own_extract_the_deidentifier_and_its_secret_are_both_looked_up(
    settings: Settings,
) -> None:
    """A synthetic hospital brings the secret; an extract of one's own brings neither."""
    given = {"source": "mimic-iv", "dataset": "a", "bronze": {}}
    filled = runtime_inputs.filled("deidentify", {}, [given], settings)
    assert filled["deidentifier"] == settings.deidentifier
    assert filled["pseudonym_secret"]
    brought = runtime_inputs.filled("deidentify", {}, [{**given, "pseudonym_secret": "s"}], settings)
    assert (brought["deidentifier"], brought["pseudonym_secret"]) == (settings.deidentifier, "s")
