"""Runs by another runner: refused before anything starts, or failed with the stage's own sentence."""

from pathlib import Path
from typing import TextIO

import pytest

from mediscale.cli import local_airflow, orchestrators
from mediscale.core.errors import BusyError, InputError, MediscaleError, UsageError
from mediscale.core.settings import Settings
from mediscale.pipeline.runtime_inputs import Source
from mediscale.storage.locks import exclusive

SYNTHETIC = Source(size="tiny")
RUN = "kubeflow-1"


def test_an_unknown_source_is_refused_before_anything_starts(settings: Settings) -> None:
    with pytest.raises(InputError, match="no source 'epic'"):
        orchestrators.orchestrate("kubeflow", settings, Source(source="epic", path="x"), {}, RUN)
    assert not settings.home.exists()


def test_a_missing_folder_is_refused_before_anything_starts(settings: Settings) -> None:
    with pytest.raises(UsageError, match="no folder nowhere"):
        orchestrators.orchestrate("airflow", settings, Source(source="mimic-iv", path="nowhere"), {}, RUN)
    assert not settings.home.exists()


def test_a_dataset_is_run_once_at_a_time(settings: Settings) -> None:
    with (
        exclusive(settings, "run-synthetic", "It"),
        pytest.raises(BusyError, match="A run of this dataset is already running"),
    ):
        orchestrators.orchestrate("kubeflow", settings, SYNTHETIC, {}, RUN)


def test_a_failed_stage_s_own_sentence_is_the_failure(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_settings: Settings, _which: Source, _config: object, _run_id: str, log: TextIO) -> bool:
        log.write("noise\n    mediscale: The disk is full.\nTraceback of a runner\n")
        return False

    monkeypatch.setitem(orchestrators.RUNNERS, "kubeflow", fail)
    with pytest.raises(MediscaleError, match=r"^The disk is full\.$"):
        orchestrators.orchestrate("kubeflow", settings, SYNTHETIC, {}, RUN)


def test_a_killed_step_says_where_to_look(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("nothing of ours\n")
    assert str(log) in orchestrators.sentence(log)


def test_without_airflow_the_way_to_it_is_named(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_airflow, "AIRFLOW", Path("absent"))
    with pytest.raises(UsageError, match="run `make airflow-env`"):
        orchestrators.orchestrate("airflow", settings, SYNTHETIC, {}, RUN)
