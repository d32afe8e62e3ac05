"""Airflow on this machine: on loopback, with a kept password, on a free port."""

import re
import socket
import stat
from pathlib import Path

import pytest

from mediscale.cli import local_airflow
from mediscale.core.errors import BusyError, MediscaleError
from mediscale.core.settings import Settings


@pytest.fixture(autouse=True)
def _as_if_built(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Airflow's environment is made beside the unit tests, and nothing of it is started here."""
    (tmp_path / "airflow").touch()
    monkeypatch.setattr(local_airflow, "AIRFLOW", tmp_path / "airflow")


def test_a_taken_port_is_refused_before_anything_starts(settings: Settings) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(BusyError, match=f"Port {port} is taken; .* --port"):
            local_airflow.standalone(settings, port)
    assert not (settings.home / "airflow").exists()


def test_the_password_is_kept_and_for_the_owner_only(settings: Settings) -> None:
    settings.home.mkdir()
    file = settings.home / "passwords.json"
    first = local_airflow.read_or_create_password(file)
    assert local_airflow.read_or_create_password(file) == first
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_every_address_is_on_loopback(settings: Settings) -> None:
    env = local_airflow.standalone_environment(settings, 1234)
    addresses = {name: value for name, value in env.items() if re.search("AIRFLOW__.*_(HOST|URL)$", name)}
    assert addresses == {
        "AIRFLOW__API__HOST": "127.0.0.1",
        "AIRFLOW__API__BASE_URL": "http://127.0.0.1:1234",
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": "http://127.0.0.1:1234/execution/",
    }


def test_in_a_container_it_listens_everywhere_and_its_parts_talk_on_loopback(settings: Settings) -> None:
    env = local_airflow.standalone_environment(settings, 1234, local_airflow.EVERYWHERE)
    assert env["AIRFLOW__API__HOST"] == "0.0.0.0"
    assert env["AIRFLOW__CORE__EXECUTION_API_SERVER_URL"] == "http://127.0.0.1:1234/execution/"


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("MEDISCALE_SIZE", "medium", "MEDISCALE_SIZE is one of tiny, small, large"),
        ("MEDISCALE_SOURCE", "paper", "the sources are"),
        ("MEDISCALE_SOURCE", "mimic-iv", "belong together"),
        ("MEDISCALE_DATASET", "a/b", "lower-case letters"),
    ],
)
def test_a_default_that_a_dag_would_not_allow_is_refused(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, name: str, value: str, sentence: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(MediscaleError, match=sentence):
        local_airflow.environment(settings)


def test_a_made_up_hospital_is_a_source_too(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDISCALE_SOURCE", "synthetic")
    local_airflow.environment(settings)


def test_tasks_start_the_program_of_this_environment(settings: Settings) -> None:
    around = local_airflow.environment(settings)
    assert around["MEDISCALE_COMMAND"].endswith(".venv/bin/mediscale")
    assert around["MEDISCALE_HOME"] == str(settings.home)
