"""The three clouds take the same and give the same."""

import re
from pathlib import Path

import pytest

TERRAFORM = Path(__file__).parents[3] / "infra" / "terraform"
CLOUDS = ("aws", "azure", "gcp")


@pytest.mark.parametrize("cloud", CLOUDS)
def test_a_cloud_takes_the_same_inputs_and_gives_the_same_outputs(cloud: str) -> None:
    assert (TERRAFORM / cloud / "variables.tf").samefile(TERRAFORM / "aws" / "variables.tf")
    assert outputs(cloud) == outputs("aws")


def outputs(cloud: str) -> dict[str, str]:
    said = (TERRAFORM / cloud / "outputs.tf").read_text()
    return dict(re.findall(r'output "(\w+)" \{\s+description = "([^"]+)"', said))


@pytest.mark.parametrize("cloud", CLOUDS)
def test_every_input_is_used(cloud: str) -> None:
    said = "".join(
        file.read_text() for file in (TERRAFORM / cloud).glob("*.tf") if file.name != "variables.tf"
    )
    declared = set(re.findall(r'variable "(\w+)"', (TERRAFORM / cloud / "variables.tf").read_text()))
    assert declared - set(re.findall(r"var\.(\w+)", said)) == set()
