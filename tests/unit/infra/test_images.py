"""What the Dockerfiles say of themselves and of each other; `make check-infra` runs what is made of them."""

import fnmatch
import re
import tomllib
from pathlib import Path

import pytest
import yaml
from fixtures import dockerfiles

from kubeflow_pipelines import steps

ROOT = Path(__file__).parents[3]
FILES = {file.stem: file for file in sorted((ROOT / "infra" / "docker").glob("*.Dockerfile"))}
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


def name_of(image: str) -> str:
    """As the Dockerfile's own first command tags it."""
    return dockerfiles.tags(FILES[image])[0]


def test_kubeflow_and_airflow_name_the_platforms_image_as_it_is_built() -> None:
    template = yaml.safe_load((ROOT / "infra" / "kubernetes" / "stage-pod.yaml").read_text())
    (container,) = template["spec"]["containers"]
    assert container["image"] == steps.IMAGE == name_of("platform")
    assert f"ARG PLATFORM={name_of('platform')}" in FILES["airflow"].read_text()


@pytest.mark.parametrize("image", FILES)
def test_an_image_is_named_by_release_and_python(image: str) -> None:
    for name in dockerfiles.tags(FILES[image]):
        assert re.fullmatch(rf"mediscale-{image}(-language)?:{re.escape(VERSION)}-python3\.11", name)


def test_a_server_that_runs_a_language_model_is_the_same_image_from_another_lock() -> None:
    lock = re.search(r"--build-arg LOCK=(\S+)", FILES["serving"].read_text())
    assert lock
    assert (ROOT / "requirements" / f"{lock[1]}.txt").exists()


@pytest.mark.parametrize("image", FILES)
def test_what_an_image_copies_is_in_the_repository_and_in_the_builds_context(image: str) -> None:
    ignore = (ROOT / ".dockerignore").read_text().splitlines()
    allowed = [line[1:] for line in ignore if line.startswith("!")]
    for source, _ in dockerfiles.read(FILES[image]).copied:
        assert (ROOT / source).exists(), source
        assert any(source == path or source.startswith(f"{path}/") for path in allowed), source


def test_the_builds_context_has_no_home_and_no_key() -> None:
    first, *others = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line[0] != "#"]
    assert first == "*"
    allowed = {line[1:] for line in others if line.startswith("!")}
    for private in (".mediscale", ".git", ".venv", "infra/docker/secrets", "tests"):
        assert not any(fnmatch.fnmatch(private, path) or private.startswith(f"{path}/") for path in allowed)


@pytest.mark.parametrize("image", FILES)
def test_an_image_runs_as_the_account_that_owns_its_volumes(image: str) -> None:
    recipe = dockerfiles.read(FILES[image])
    assert recipe.all("USER")[-1] == "10001:10001"
    assert len(recipe.all("HEALTHCHECK")) == 1
    assert "org.opencontainers.image.revision=" in " ".join(recipe.all("LABEL"))
    template = yaml.safe_load((ROOT / "infra" / "kubernetes" / "stage-pod.yaml").read_text())
    assert template["spec"]["securityContext"]["runAsUser"] == 10001


@pytest.mark.parametrize("image", FILES)
def test_an_image_is_made_from_hashed_locks_alone(image: str) -> None:
    said = "\n".join(dockerfiles.read(FILES[image]).all("RUN"))
    assert not re.search(r"apt-get|apk |curl|wget|git clone", said)
    for install in re.findall(r"pip (?:install|sync)[^&]*", said):
        assert "--require-hashes" in install
