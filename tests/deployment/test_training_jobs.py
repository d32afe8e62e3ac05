"""A stage as a training job of a cloud: the job against the cloud's own schema, the command against the program's."""

import copy
import json
from pathlib import Path
from typing import Any

import botocore.session
import botocore.validate
import jsonschema
import pytest
import yaml
from fixtures import dockerfiles

from mediscale.cli import stage
from mediscale.core.settings import Settings
from mediscale.pipeline import call

ROOT = Path(__file__).parents[2]
JOBS = ROOT / "infra" / "training_jobs"
SAGEMAKER = yaml.safe_load((JOBS / "sagemaker.yaml").read_text())
VERTEX = yaml.safe_load((JOBS / "vertex-ai.yaml").read_text())
(POOL,) = VERTEX["workerPoolSpecs"]
COMMANDS = {
    "sagemaker": [
        *SAGEMAKER["AlgorithmSpecification"]["ContainerEntrypoint"],
        *SAGEMAKER["AlgorithmSpecification"]["ContainerArguments"],
    ],
    "vertex-ai": [*POOL["containerSpec"]["command"], *POOL["containerSpec"]["args"]],
}
VARIABLES = {
    "sagemaker": set(SAGEMAKER["Environment"]),
    "vertex-ai": {one["name"] for one in POOL["containerSpec"]["env"]},
}


def sagemaker_faults(job: dict[str, Any]) -> str:
    """What Amazon's own description of the request has against it."""
    model = botocore.session.get_session().get_service_model("sagemaker").operation_model("CreateTrainingJob")
    report = botocore.validate.ParamValidator().validate(job, model.input_shape)
    return str(report.generate_report())


@pytest.fixture(scope="module")
def vertex() -> jsonschema.Draft202012Validator:
    """Google's own description of a custom job's specification, of which no field may be unknown."""
    (file,) = (ROOT / ".venv-infra" / "lib").glob(
        "python*/site-packages/googleapiclient/discovery_cache/documents/aiplatform.v1.json"
    )
    schemas = json.loads(file.read_text())["schemas"]
    for schema in schemas.values():
        if "properties" in schema:
            schema["additionalProperties"] = False
    text = json.dumps(schemas).replace('"$ref": "', '"$ref": "#/$defs/')
    specification = {"$ref": "#/$defs/GoogleCloudAiplatformV1CustomJobSpec", "$defs": json.loads(text)}
    return jsonschema.Draft202012Validator(specification)


def test_sagemaker_knows_every_field() -> None:
    assert sagemaker_faults(SAGEMAKER) == ""
    wrong = copy.deepcopy(SAGEMAKER)
    wrong["AlgorithmSpecification"]["ContainerCommand"] = ["mediscale"]
    del wrong["RoleArn"]
    assert 'Unknown parameter in AlgorithmSpecification: "ContainerCommand"' in sagemaker_faults(wrong)
    assert 'Missing required parameter in input: "RoleArn"' in sagemaker_faults(wrong)


def test_vertex_ai_knows_every_field(vertex: jsonschema.Draft202012Validator) -> None:
    vertex.validate(VERTEX)
    wrong = copy.deepcopy(VERTEX)
    wrong["workerPoolSpecs"][0]["containerSpec"]["arguments"] = []
    with pytest.raises(jsonschema.ValidationError, match="'arguments' was unexpected"):
        vertex.validate(wrong)


@pytest.mark.parametrize("cloud", COMMANDS)
def test_a_job_runs_a_stage_as_every_runner_does(cloud: str) -> None:
    program, name, *words = COMMANDS[cloud]
    options = stage._parser(name, call.load(name)).parse_args(words)
    given = dict(one.split("=", 1) for one in options.set)
    parameters = call.load(name).Params(**{**given, "training_set": json.loads(given["training_set"])})
    assert (program, parameters.model_dump()["dataset"]) == ("mediscale", "mimic-iv")
    settings = {f"MEDISCALE_{field.upper()}" for field in Settings.model_fields}
    assert {variable for variable in VARIABLES[cloud] if variable.startswith("MEDISCALE_")} <= settings


def test_the_jobs_run_the_platforms_image() -> None:
    (image,) = dockerfiles.tags(ROOT / "infra" / "docker" / "platform.Dockerfile")
    images = SAGEMAKER["AlgorithmSpecification"]["TrainingImage"], POOL["containerSpec"]["imageUri"]
    assert {one.rpartition("/")[2] for one in images} == {image}
