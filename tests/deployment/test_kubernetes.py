"""The overlays as kubectl builds them: strict schemas of each object, and the home-made check of what leads where."""

from pathlib import Path

import pytest
import yaml

from infra.kubernetes import check

KUBERNETES = Path(check.__file__).parent
OVERLAYS = sorted(path.name for path in (KUBERNETES / "overlays").iterdir())
WITHOUT_SCHEMA = {"ServiceMonitor", "PrometheusRule"}
"""Kinds of the Prometheus operator."""


@pytest.fixture(scope="module", params=OVERLAYS)
def built(tool, request, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp(request.param) / "manifests.yaml"
    file.write_text(tool("kubectl", "kustomize", KUBERNETES / "overlays" / request.param))
    return file


def test_every_object_passes_its_strict_schema(tool, built: Path) -> None:
    said = tool("kubernetes-validate", "--strict", built)
    objects = [one for one in yaml.safe_load_all(built.read_text()) if one["kind"] not in WITHOUT_SCHEMA]
    assert said.count(" passed for resource ") == len(objects)


def test_every_name_selector_port_and_volume_leads_somewhere(built: Path) -> None:
    assert check.faults(list(yaml.safe_load_all(built.read_text()))) == []


def test_the_schemas_refuse_a_field_that_does_not_exist(tool, built: Path, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(built.read_text().replace("terminationGracePeriodSeconds", "terminationGraceSeconds"))
    assert "terminationGraceSeconds" in tool("kubernetes-validate", "--strict", wrong, fails=True)


def test_the_pod_of_a_stage_passes_its_schema(tool, tmp_path: Path) -> None:
    pod = yaml.safe_load((KUBERNETES / "stage-pod.yaml").read_text())
    pod["metadata"]["name"] = "stage"  # which Airflow fills in
    (tmp_path / "pod.yaml").write_text(yaml.safe_dump(pod))
    assert "passed" in tool("kubernetes-validate", "--strict", tmp_path / "pod.yaml")


def test_production_takes_its_images_from_the_hospitals_registry(tool) -> None:
    manifests = tool("kubectl", "kustomize", KUBERNETES / "overlays" / "production")
    images = {
        container["image"]
        for manifest in yaml.safe_load_all(manifests)
        if (pod := check.pod_of(manifest))
        for container in pod["spec"]["containers"]
    }
    assert {image.split(":")[0] for image in images} == {
        "hospital/mediscale-serving",
        "hospital/mediscale-platform",
    }
