"""The promotion history: append-only, one winner per number, MLflow's aliases made to follow."""

import os
import shutil
import subprocess
import sys
import threading
from datetime import datetime
from pathlib import Path

import pytest

from mediscale.core.errors import BusyError
from mediscale.core.settings import Settings
from mediscale.storage import registry

NOW = datetime(2150, 1, 1)


def _move(**changes) -> registry.Move:
    given = {
        "sequence": 1,
        "model": "h-mortality",
        "task": "mortality",
        "alias": "staging",
        "from_version": None,
        "to_version": 1,
        "actor": "ana",
        "moved_at": NOW,
        "reason": "Staged.",
        "evidence_digest": "e",
        "model_uri": "artifacts/m1",
        "model_digest": "d",
        "key": "k1",
    }
    return registry.Move.model_validate({**given, **changes})


def test_a_model_uri_is_relative_inside_the_home_and_whole_elsewhere(settings) -> None:
    inside = f"{settings.home}/artifacts/m"
    assert (
        registry.relative(settings, inside)
        == registry.relative(settings, f"file://{inside}")
        == "artifacts/m"
    )
    assert registry.locate(settings, "artifacts/m") == inside
    for root in ("s3://bucket", "/mnt/models"):
        elsewhere = settings.model_copy(update={"artifact_root": root})
        assert registry.locate(elsewhere, registry.relative(elsewhere, f"{root}/m")) == f"{root}/m"


def test_a_home_begins_with_the_store_that_set_up_made(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Settings(home=tmp_path / "made")
    registry.client(made).create_registered_model("of-set-up")
    monkeypatch.setattr(registry, "_MADE_STORE", made.home / "mlflow.db")
    mlflow = registry.client(settings)
    assert [model.name for model in mlflow.search_registered_models()] == ["of-set-up"]
    assert mlflow.get_experiment("0").artifact_location == f"{settings.artifact_root}/Default"
    mlflow.delete_registered_model("of-set-up")
    assert not registry.client(settings).search_registered_models(), "a store that is there stays"


def test_an_empty_history_answers(settings) -> None:
    assert registry.history(settings, "h") == []
    assert registry.current(settings, "h", "mortality", "production") is None
    assert registry.next_sequence(settings, "h") == 1
    assert registry.repair(settings, "h") == 0


def test_history_is_told_in_order_and_current_is_the_newest(settings) -> None:
    registry.record(settings, "h", _move(), _move(sequence=2, alias="production"))
    registry.record(settings, "h", _move(sequence=3, from_version=1, to_version=2, key="k2"))
    assert [m.sequence for m in registry.history(settings, "h")] == [1, 2, 3]
    assert registry.current(settings, "h", "mortality", "staging").to_version == 2
    assert registry.current(settings, "h", "mortality", "production").to_version == 1
    assert registry.current(settings, "h", "readmission", "production") is None
    assert registry.next_sequence(settings, "h") == 4


def test_the_same_key_is_recorded_once_and_a_taken_number_is_busy(settings) -> None:
    both = [_move(), _move(sequence=2, alias="production")]
    registry.record(settings, "h", *both)
    registry.record(settings, "h", _move(sequence=9))
    for taken in (1, 0):
        with pytest.raises(BusyError, match=f"number {taken} of h's history"):
            registry.record(settings, "h", _move(sequence=taken, key="k2", to_version=2))
    assert registry.history(settings, "h") == both


def test_of_writers_at_the_same_moment_one_wins(settings) -> None:
    registry.record(settings, "h", _move())
    lost, start = [], threading.Barrier(4)

    def promote(name: int) -> None:
        start.wait()
        try:
            registry.record(settings, "h", _move(sequence=2, to_version=name, key=f"writer {name}"))
        except BusyError:
            lost.append(name)

    writers = [threading.Thread(target=promote, args=(name,)) for name in range(2, 6)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert len(lost) == 3
    assert [m.sequence for m in registry.history(settings, "h")] == [1, 2]


def test_aliases_are_repaired_from_the_history(settings) -> None:
    mlflow = registry.client(settings)
    experiment = registry.experiment(settings, mlflow, "h-mortality")
    run = mlflow.create_run(experiment)
    logged = mlflow.create_logged_model(experiment, source_run_id=run.info.run_id)
    mlflow.finalize_logged_model(logged.model_id, "READY")
    registered = [registry.register(mlflow, "h-mortality", logged, key, {}) for key in ("k1", "k2", "k1")]
    assert registered == [1, 2, 1]
    registry.record(settings, "h", _move(alias="production"))
    mlflow.set_registered_model_alias("h-mortality", "production", "2")
    mlflow.set_registered_model_alias("h-mortality", "staging", "2")
    mlflow.set_registered_model_alias("h-mortality", "mine", "2")
    assert registry.repair(settings, "h") == 2
    aliases = mlflow.get_registered_model("h-mortality").aliases
    assert {alias: int(version) for alias, version in aliases.items()} == {"production": 1, "mine": 2}
    assert registry.repair(settings, "h") == 0


def test_processes_that_come_first_together_all_get_the_store(settings: Settings) -> None:
    code = (
        "from mediscale.storage import registry; from mediscale.core.settings import Settings\n"
        "settings = Settings(); mlflow = registry.client(settings)\n"
        "registry.experiment(settings, mlflow, 'hospital')\n"
    )
    around = {**os.environ, "MEDISCALE_HOME": str(settings.home)}
    started = [
        subprocess.Popen([sys.executable, "-c", code], env=around, stderr=subprocess.PIPE) for _ in range(2)
    ]
    for process in started:
        _, said = process.communicate()
        assert process.returncode == 0, said.decode()[-2000:]


def test_in_a_copied_home_what_is_trained_lies_in_the_copy(settings: Settings, tmp_path: Path) -> None:
    """MLflow keeps an experiment's folder as an absolute path: that of the home that was copied."""
    mlflow = registry.client(settings)
    first = registry.experiment(settings, mlflow, "h")
    run = mlflow.create_run(first).info.run_id
    copy = Settings(home=tmp_path / "copy")
    shutil.copytree(settings.home, copy.home)
    for home in (copy, copy, settings, copy):
        mlflow = registry.client(home)
        experiment = registry.experiment(home, mlflow, "h")
        logged = mlflow.create_logged_model(
            experiment, source_run_id=mlflow.create_run(experiment).info.run_id
        )
        uri = registry.relative(home, logged.artifact_location)
        assert uri.startswith("artifacts/h/")
        assert registry.locate(home, uri) == str(home.home / uri)
    assert registry.client(copy).get_run(run).info.experiment_id == first
    assert registry.experiment(settings, registry.client(settings), "h") == first
