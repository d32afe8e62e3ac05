"""compose.yaml says who waits for whom, and opens one port; tests/deployment/test_compose.py starts what it can."""

import re
from typing import Any

import pytest
from fixtures import dockerfiles
from fixtures.compose_services import COMPOSE, DEFINITION, commands_that_make_the_secrets

SERVICES: dict[str, dict[str, Any]] = DEFINITION["services"]
IMAGES = {dockerfiles.tags(file)[0]: dockerfiles.read(file) for file in COMPOSE.parent.glob("*.Dockerfile")}


def has_health_check(name: str) -> bool:
    image = IMAGES.get(SERVICES[name]["image"])
    return "healthcheck" in SERVICES[name] or bool(image and image.all("HEALTHCHECK") != ["NONE"])


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_says_how_one_sees_that_it_works(name: str) -> None:
    ends_by_itself = {"bucket", "platform"}
    assert has_health_check(name) != (name in ends_by_itself)


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_waits_until_what_it_needs_works(name: str) -> None:
    for other, how in SERVICES[name].get("depends_on", {}).items():
        expected = "service_healthy" if has_health_check(other) else "service_completed_successfully"
        assert how == {"condition": expected}, other


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_waits_for_the_services_that_it_names(name: str) -> None:
    """Directly, or for one that does."""
    needed, new = set(), {name}
    while new:
        needed |= new
        new = {other for one in new for other in SERVICES[one].get("depends_on", {})} - needed
    said = " ".join(
        [*map(str, SERVICES[name].get("environment", {}).values()), *SERVICES[name].get("command", [])]
    )
    named = set(re.findall(r"(?<!s3:)(?://|@)([a-z-]+)[:/]|=([a-z-]+):\d", said))
    assert {one or other for one, other in named} <= needed


def test_only_the_server_is_reached_from_other_machines() -> None:
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert published.pop("serving") == ["8443:8443"]
    assert all(port.startswith("127.0.0.1:") for ports in published.values() for port in ports)


def test_where_memory_runs_short_a_stage_ends_before_the_server() -> None:
    first = {name for name, service in SERVICES.items() if service.get("oom_score_adj", 0) > 0}
    assert first == {"platform", "airflow", "spark-worker", "ray-head", "ray-worker"}


def test_every_file_of_secrets_is_made_on_the_page() -> None:
    files = {file for service in SERVICES.values() for file in service.get("env_file", [])}
    files |= {secret["file"] for name, secret in DEFINITION["secrets"].items() if name != "prometheus_key"}
    assert files <= set(commands_that_make_the_secrets().split())


def test_no_secret_stands_in_the_file() -> None:
    for name, service in SERVICES.items():
        for variable in service.get("environment", {}):
            assert not re.search(r"PASSWORD$|SECRET|TOKEN|ACCESS_KEY", variable), f"{name}: {variable}"
