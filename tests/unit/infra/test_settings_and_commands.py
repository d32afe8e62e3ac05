"""What compose and the manifests set and start exists: settings, and command lines as the program reads them."""

import argparse
import re
import shlex
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from fixtures import dockerfiles

from infra.kubernetes import check
from mediscale.cli import main
from mediscale.core.settings import Settings

ROOT = Path(__file__).parents[3]
INFRA = ROOT / "infra"
SETTINGS = {f"MEDISCALE_{name.upper()}" for name in Settings.model_fields}
VERBS = {verb.name: verb for verb in chain.from_iterable(main.GROUPS.values())}
DOCKERFILES = sorted((INFRA / "docker").glob("*.Dockerfile"))
MANIFESTS = [
    file for file in sorted((INFRA / "kubernetes").rglob("*.yaml")) if "kustomization" not in file.name
]
OVERLAYS = sorted((INFRA / "kubernetes" / "overlays").glob("*/settings.env"))


def of_the_scheduler() -> set[str]:
    """Those that Airflow's own side reads."""
    said = (ROOT / "dags" / "mediscale_steps.py").read_text()
    defaults = {f"MEDISCALE_{name.upper()}" for name in re.findall(r'usual\("(\w+)"\)', said)}
    return set(re.findall(r'"(MEDISCALE_\w+)"', said)) | defaults


class Container(NamedTuple):
    """What starts somewhere."""

    where: str
    command: list[str]
    variables: set[str]


def containers() -> Iterator[Container]:
    compose = yaml.safe_load((INFRA / "docker" / "compose.yaml").read_text())
    for name, service in compose["services"].items():
        yield Container(f"compose {name}", service.get("command", []), set(service.get("environment", {})))
    for file in MANIFESTS:
        for manifest in yaml.safe_load_all(file.read_text()):
            pod = check.pod_of(manifest)
            for one in pod["spec"].get("containers", []) if pod else ():
                words = [*one.get("command", []), *one.get("args", [])]
                variables = {variable["name"] for variable in one.get("env", [])}
                yield Container(f"{file.name} {one['name']}", words, variables)
    chart = yaml.safe_load((INFRA / "helm" / "airflow.yaml").read_text())
    yield Container("chart of Airflow", [], {variable["name"] for variable in chart["env"]})
    for file in DOCKERFILES:
        yield Container(file.name, dockerfiles.read(file).command, set())


CONTAINERS = list(containers())


@pytest.mark.parametrize("container", CONTAINERS, ids=lambda one: one.where)
def test_every_variable_is_a_setting(container: Container) -> None:
    ours = {name for name in container.variables if name.startswith("MEDISCALE_")}
    assert ours <= SETTINGS | of_the_scheduler()


@pytest.mark.parametrize("file", OVERLAYS, ids=lambda file: file.parent.name)
def test_an_overlays_settings_are_settings(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [line.partition("=") for line in file.read_text().splitlines() if line]
    assert {name for name, _, _ in lines} <= SETTINGS
    for name, _, value in lines:
        monkeypatch.setenv(name, value)
    settings = Settings()
    assert str(settings.public_keys) == "/signers"
    # each server has a home of its own: the lake lies elsewhere
    assert settings.lake != str(settings.home / "lake")


def test_every_variable_of_the_images_is_a_setting() -> None:
    for file in DOCKERFILES:
        assert set(re.findall(r"\b(MEDISCALE_\w+)=", file.read_text())) <= SETTINGS, file


def commands() -> dict[str, list[str]]:
    """By place the words after ``mediscale``."""
    found = {}
    for container in CONTAINERS:
        words = container.command
        if words[:2] == ["sh", "-c"]:
            words = shlex.split(re.sub(r"\$\([^)]*\)", "now", words[2]))
        if words and words[0] == "mediscale" and words[1:] not in ([], ["--help"]):
            found[container.where] = words[1:]
    return found


@pytest.mark.parametrize("where", commands())
def test_every_command_is_one_that_the_program_takes(where: str) -> None:
    name, *options = commands()[where]
    parser = argparse.ArgumentParser(prog=where, exit_on_error=False)
    VERBS[name].add_arguments(parser)
    parser.parse_args(options)


def test_the_commands_are_those_that_a_deployment_has() -> None:
    started = {words[0] for words in commands().values()}
    assert started == {"serve", "airflow", "run", "verify", "backup"}


def test_compose_and_manifests_start_the_images_that_are_built() -> None:
    built = {dockerfiles.tags(file)[0] for file in DOCKERFILES}
    texts = [file.read_text() for file in (INFRA / "docker" / "compose.yaml", *MANIFESTS)]
    named = set(re.findall(r"image: (mediscale-\S+)", "\n".join(texts)))
    assert named == built


def test_the_servers_ports_and_files_are_those_of_its_image() -> None:
    (image,) = [words for where, words in commands().items() if where == "serving.Dockerfile"]
    (cluster,) = [words for where, words in commands().items() if where == "serving.yaml serving"]
    assert image == cluster


def secrets(compose: dict[str, Any]) -> set[str]:
    return {name for service in compose["services"].values() for name in service.get("secrets", [])}


def test_compose_mounts_the_secrets_and_volumes_that_it_declares() -> None:
    compose = yaml.safe_load((INFRA / "docker" / "compose.yaml").read_text())
    assert secrets(compose) == set(compose["secrets"])
    mounted = {
        str(one).split(":")[0]
        for service in compose["services"].values()
        for one in service.get("volumes", [])
    }
    assert {name for name in mounted if name.isidentifier()} == set(compose["volumes"])


def test_the_server_that_only_answers_has_no_private_key() -> None:
    compose = yaml.safe_load((INFRA / "docker" / "compose.yaml").read_text())["services"]["serving"]
    assert not any("signing" in volume for volume in compose["volumes"])
    assert "signing" not in (INFRA / "kubernetes" / "base" / "serving.yaml").read_text()
