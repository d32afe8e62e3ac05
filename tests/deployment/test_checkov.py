"""checkov over all that is declared; what it asks for and does not get stands with its reason in infra/checkov.yaml."""

import os
import re
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
PROGRAM = ROOT / ".venv-infra" / "checkov" / "bin" / "checkov"
CONFIG = ROOT / "infra" / "checkov.yaml"


def checkov(framework: str, folder: Path) -> tuple[int, str]:
    command = [
        str(PROGRAM),
        "--config-file",
        str(CONFIG),
        "--framework",
        framework,
        "--directory",
        str(folder),
    ]
    around = {**os.environ, "LOG_LEVEL": "ERROR"}
    done = subprocess.run(
        command, cwd=ROOT, env=around, capture_output=True, text=True, check=False, timeout=500
    )
    return done.returncode, done.stdout


@pytest.mark.parametrize("cloud", ["aws", "azure", "gcp"])
def test_a_cloud_is_closed_encrypted_and_recorded(cloud: str) -> None:
    code, said = checkov("terraform", ROOT / "infra" / "terraform" / cloud)
    assert code == 0, said


@pytest.mark.parametrize("overlay", ["local", "production"])
def test_the_manifests_are_hardened(tool, overlay: str, tmp_path: Path) -> None:
    built = tool("kubectl", "kustomize", ROOT / "infra" / "kubernetes" / "overlays" / overlay)
    (tmp_path / "manifests.yaml").write_text(built)
    code, said = checkov("kubernetes", tmp_path)
    assert code == 0, said


def test_the_dockerfiles_are_hardened() -> None:
    code, said = checkov("dockerfile", ROOT / "infra" / "docker")
    assert code == 0, said


def test_checkov_finds_a_database_that_is_public(tmp_path: Path) -> None:
    text = (ROOT / "infra" / "terraform" / "aws" / "database.tf").read_text()
    (tmp_path / "database.tf").write_text(re.sub(r"(publicly_accessible\s+=) false", r"\1 true", text))
    code, said = checkov("terraform", tmp_path)
    assert code == 1
    assert "CKV_AWS_17" in said


def test_every_exception_has_its_reason() -> None:
    """A comment above or beside it, and each stands once."""
    listed = yaml.safe_load(CONFIG.read_text())["skip-check"]
    assert len(listed) == len(set(listed))
    reason = False
    for line in CONFIG.read_text().partition("skip-check:\n")[2].splitlines():
        reason = "#" in line or (reason and "CKV" in line)
        assert reason, line
