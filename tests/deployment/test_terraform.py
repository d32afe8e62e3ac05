"""Terraform: its format, each cloud against its provider's own schemas, where the provider can be had, and AWS applied
twice to a stand-in for Amazon's cloud (moto)."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from fixtures.clusters import background, free_ports, wait_for

from mediscale.core import network

TERRAFORM = Path(__file__).parents[2] / "infra" / "terraform"
CLOUDS = ("aws", "azure", "gcp")
MOTO = TERRAFORM.parents[1] / ".venv-infra" / "bin" / "moto_server"


HOSPITAL = {
    "region": "eu-central-1",
    "account": "123456789012",
    "operator_cidrs": '["192.168.0.0/16"]',
    "node_type": "m7i.2xlarge",
    "gpu_node_type": "g6.2xlarge",
    "database_type": "db.m7g.large",
}


def terraform(folder: Path, *words: str, **given: str) -> subprocess.CompletedProcess[str]:
    program = shutil.which("terraform")
    if program is None:
        pytest.skip("there is no terraform on this machine")
    around = {**os.environ, **given, "TF_IN_AUTOMATION": "1", "CHECKPOINT_DISABLE": "1"}
    return subprocess.run(
        [program, *words], cwd=folder, env=around, capture_output=True, text=True, check=False, timeout=500
    )


def test_the_files_are_formatted() -> None:
    done = terraform(TERRAFORM, "fmt", "-check", "-diff", "-recursive")
    assert done.returncode == 0, done.stdout


@pytest.fixture(params=CLOUDS)
def cloud(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A copy of the cloud's folder with its provider: nothing is left in the repository."""
    return initialized(request.param, tmp_path / request.param)


def initialized(name: str, folder: Path) -> Path:
    shutil.copytree(TERRAFORM / name, folder)
    done = terraform(folder, "init", "-backend=false", "-input=false", "-no-color")
    if done.returncode and "provider" in done.stderr:
        pytest.skip(f"the provider of {name} can't be had here, so Terraform checked only its format")
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


@pytest.fixture
def amazon(tmp_path: Path) -> Iterator[dict[str, str]]:
    """What the environment of Amazon's clients must say of a stand-in for its cloud."""
    (port,) = free_ports(1)
    server = [str(MOTO), "--host", "127.0.0.1", "--port", str(port)]
    log = tmp_path / "moto.log"
    with background(server, log, {"MOTO_IAM_LOAD_MANAGED_POLICIES": "true"}) as process:
        wait_for(lambda: "listens" if network.is_listening(f"127.0.0.1:{port}") else "", process, log)
        yield {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
            "AWS_ACCESS_KEY_ID": "hospital",
            "AWS_SECRET_ACCESS_KEY": "a secret of the hospital",
            "AWS_REGION": HOSPITAL["region"],
            **{f"TF_VAR_{name}": value for name, value in HOSPITAL.items()},
        }


@pytest.mark.timeout(1200)
def test_a_second_apply_changes_nothing(tmp_path: Path, amazon: dict[str, str]) -> None:
    folder = initialized("aws", tmp_path / "aws")
    shutil.copy(Path(__file__).with_name("moto_override.tf"), folder)
    applied = terraform(folder, "apply", "-auto-approve", "-input=false", "-no-color", **amazon)
    assert applied.returncode == 0, applied.stdout[-3000:] + applied.stderr
    assert "s3://mediscale-lake-123456789012/lake" in applied.stdout
    plan = ("plan", "-detailed-exitcode", "-input=false", "-no-color")
    planned = terraform(folder, *plan, **amazon)
    assert planned.returncode == 0, planned.stdout[-5000:] + planned.stderr
    larger = terraform(folder, *plan, "-refresh=false", **{**amazon, "TF_VAR_node_type": "m7i.4xlarge"})
    assert larger.returncode == 2, "a change is seen"
