"""The overlays as kubectl builds them: strict schemas of each object, and the home-made check of what leads where."""

import os
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from infra.kubernetes import check

KUBERNETES = Path(check.__file__).parent
OVERLAYS = sorted(path.name for path in (KUBERNETES / "overlays").iterdir())
SCHEMAS = Path(__file__).parents[2] / ".venv-infra" / "modules"
CRDS = (
    "config/crd/standard/*.yaml",
    "example/prometheus-operator-crd/*_servicemonitors.yaml",
    "example/prometheus-operator-crd/*_prometheusrules.yaml",
)
"""Where the modules of the Gateway API and of the Prometheus operator have them."""


@pytest.fixture(scope="module")
def others() -> dict[tuple[str, str], dict[str, Any]]:
    """By version and kind the schema of what others define, as strict as the API server: no field that it lacks."""
    schemas = {}
    for file in (file for pattern in CRDS for file in SCHEMAS.rglob(pattern)):
        for definition in yaml.safe_load_all(file.read_text()):
            group, kind = definition["spec"].get("group"), definition["spec"].get("names", {}).get("kind")
            for version in definition["spec"].get("versions", []):  # a policy of admission has none
                schemas[f"{group}/{version['name']}", kind] = strict(version["schema"]["openAPIV3Schema"])
    return schemas


def strict(schema: dict[str, Any]) -> dict[str, Any]:
    for part in (
        *schema.get("properties", {}).values(),
        schema.get("items"),
        schema.get("additionalProperties"),
    ):
        if isinstance(part, dict):
            strict(part)
    if "pattern" in schema:
        schema["pattern"] = schema["pattern"].replace("^(?i)", "(?i)^")  # where Python takes what Go does
    if "properties" in schema:
        schema.setdefault("additionalProperties", False)
    if schema.get("properties", {}).get("metadata") == {"type": "object"}:
        schema["properties"]["metadata"] = {}  # Kubernetes' own
    return schema


@pytest.fixture(scope="module", params=[*OVERLAYS, "airflow"])
def built(tool, request, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp(request.param)
    file = folder / "manifests.yaml"
    overlay = overlay_with_airflow(folder) if request.param == "airflow" else request.param
    file.write_text(tool("kubectl", "kustomize", KUBERNETES / "overlays" / overlay))
    return file


def overlay_with_airflow(folder: Path) -> Path:
    """Production where Airflow starts the nights."""
    places = {"resources": "overlays/production", "components": "airflow"}
    built_of = {kind: [os.path.relpath(KUBERNETES / place, folder)] for kind, place in places.items()}
    kustomization = {"namespace": "mediscale", **built_of}
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    return folder


def test_every_object_passes_its_strict_schema(tool, built: Path, others) -> None:
    said = tool("kubernetes-validate", "--strict", built)
    objects = list(yaml.safe_load_all(built.read_text()))
    defined = [one for one in objects if (one["apiVersion"], one["kind"]) in others]
    for one in defined:
        jsonschema.validate(one, others[one["apiVersion"], one["kind"]])
    assert said.count(" passed for resource ") + len(defined) == len(objects)


def test_every_name_selector_port_and_volume_leads_somewhere(built: Path) -> None:
    assert check.faults(list(yaml.safe_load_all(built.read_text()))) == []


def test_the_schemas_refuse_a_field_that_does_not_exist(tool, built: Path, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(built.read_text().replace("terminationGracePeriodSeconds", "terminationGraceSeconds"))
    assert "terminationGraceSeconds" in tool("kubernetes-validate", "--strict", wrong, fails=True)


def test_the_schemas_of_the_gateway_api_refuse_a_field_that_does_not_exist(others) -> None:
    _, route, _ = yaml.safe_load_all((KUBERNETES / "gateway" / "gateway.yaml").read_text())
    jsonschema.validate(route, others[route["apiVersion"], "HTTPRoute"])
    route["spec"]["rules"][0]["timeouts"] = {"requests": "1s"}
    with pytest.raises(jsonschema.ValidationError, match="requests"):
        jsonschema.validate(route, others[route["apiVersion"], "HTTPRoute"])


@pytest.mark.parametrize(
    ("file", "wrong"), [("service-monitor.yaml", "endpoints"), ("prometheus-rule.yaml", "groups")]
)
def test_the_schemas_of_the_prometheus_operator_refuse_a_field_that_does_not_exist(
    others, file: str, wrong: str
) -> None:
    one = yaml.safe_load((KUBERNETES / "monitoring" / file).read_text())
    schema = others[one["apiVersion"], one["kind"]]
    jsonschema.validate(one, schema)
    one["spec"][wrong][0]["intervals"] = "15s"
    with pytest.raises(jsonschema.ValidationError, match="intervals"):
        jsonschema.validate(one, schema)


def test_the_pod_of_a_stage_passes_its_schema(tool, tmp_path: Path) -> None:
    pod = yaml.safe_load((KUBERNETES / "stage-pod.yaml").read_text())
    pod["metadata"]["name"] = "stage"  # which Airflow fills in
    (tmp_path / "pod.yaml").write_text(yaml.safe_dump(pod))
    assert "passed" in tool("kubernetes-validate", "--strict", tmp_path / "pod.yaml")


def test_airflows_nights_are_in_the_place_of_the_cronjobs(tool, tmp_path: Path) -> None:
    manifests = yaml.safe_load_all(tool("kubectl", "kustomize", overlay_with_airflow(tmp_path)))
    suspended = {
        one["metadata"]["name"]
        for one in manifests
        if one["kind"] == "CronJob" and one["spec"].get("suspend")
    }
    assert suspended == {"mediscale-night"}


def test_every_claim_of_production_names_a_class_that_encrypts(tool) -> None:
    manifests = yaml.safe_load_all(tool("kubectl", "kustomize", KUBERNETES / "overlays" / "production"))
    claims = [
        claim
        for one in manifests
        for claim in ([one] if one["kind"] == "PersistentVolumeClaim" else [])
        + one.get("spec", {}).get("volumeClaimTemplates", [])
    ]
    assert {one["spec"].get("storageClassName") for one in claims} == {"encrypted", "encrypted-shared"}


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
