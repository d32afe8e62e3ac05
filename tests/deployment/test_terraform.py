"""Terraform: its format, and each cloud against its provider's own schemas, where the provider can be had."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

TERRAFORM = Path(__file__).parents[2] / "infra" / "terraform"
CLOUDS = ("aws", "azure", "gcp")


def terraform(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    program = shutil.which("terraform")
    if program is None:
        pytest.skip("there is no terraform on this machine")
    around = {**os.environ, "TF_IN_AUTOMATION": "1", "CHECKPOINT_DISABLE": "1"}
    return subprocess.run(
        [program, *words], cwd=folder, env=around, capture_output=True, text=True, check=False, timeout=500
    )


def test_the_files_are_formatted() -> None:
    done = terraform(TERRAFORM, "fmt", "-check", "-diff", "-recursive")
    assert done.returncode == 0, done.stdout


@pytest.fixture(params=CLOUDS)
def cloud(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A copy of the cloud's folder with its provider: nothing is left in the repository."""
    folder = tmp_path / request.param
    shutil.copytree(TERRAFORM / request.param, folder)
    done = terraform(folder, "init", "-backend=false", "-input=false", "-no-color")
    if done.returncode and "provider" in done.stderr:
        pytest.skip(f"the provider of {request.param} can't be had here, so only its format was checked")
    assert done.returncode == 0, done.stderr
    return folder


def test_the_provider_finds_nothing_wrong_and_the_tests_pass(cloud: Path) -> None:
    validated = terraform(cloud, "validate", "-no-color")
    assert validated.returncode == 0, validated.stderr
    if (cloud / "tests").is_dir():
        tested = terraform(cloud, "test", "-no-color")
        assert tested.returncode == 0, tested.stdout + tested.stderr


def test_a_public_database_fails_the_tests(cloud: Path) -> None:
    if not (cloud / "tests").is_dir():
        pytest.skip(f"{cloud.name} has no tests")
    database = cloud / "database.tf"
    text = database.read_text()
    database.write_text(re.sub(r"(publicly_accessible\s+=) false", r"\1 true", text))
    assert database.read_text() != text
    tested = terraform(cloud, "test", "-no-color")
    assert "The database can be reached from the internet." in tested.stdout + tested.stderr
