"""Google Cloud's and Azure's Terraform against the schemas of their providers, as packages of CDK for Terraform have
them: every type, argument and block exists, every required one is given."""

import copy
import gzip
import io
import json
import re
import subprocess
import tarfile
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
CHECKS = ROOT / ".venv-infra"
PROVIDERS = {"gcp": "google", "azure": "azurerm"}
OF_TERRAFORM = {"count", "for_each", "depends_on", "lifecycle", "provider", "timeouts"}
STORES = ("google_storage_bucket", "azurerm_storage_account")
META = "cdktf.TerraformMetaArguments"
"""What a resource takes as a whole."""
PARSE = "import hcl2, json, sys; print(json.dumps([hcl2.loads(open(file).read()) for file in sys.argv[1:]]))"
"""By the parser of checkov's environment."""

Types = Mapping[str, Any]


class Schema:
    """What a provider knows."""

    def __init__(self, provider: str) -> None:
        (wheel,) = (CHECKS / "schemas").glob(f"cdktf_cdktf_provider_{provider}-*.whl")
        with zipfile.ZipFile(wheel) as package:
            (name,) = (name for name in package.namelist() if name.endswith(".jsii.tgz"))
            with tarfile.open(fileobj=io.BytesIO(package.read(name))) as files:
                assembly = json.loads(files.extractfile("package/.jsii").read())
                if "filename" in assembly:
                    packed = files.extractfile(f"package/{assembly['filename']}").read()
                    assembly = json.loads(gzip.decompress(packed))
        self.types: Types = assembly["types"]
        self.configurations = {
            self._named(one): one["fqn"] for one in self.types.values() if META in one.get("interfaces", [])
        }

    @staticmethod
    def _named(configuration: Mapping[str, Any]) -> str:
        """``data.`` and the name of a source of data, or that of a resource, by the page that it is documented on."""
        said = json.dumps(configuration.get("properties", []))
        page = re.search(r"/docs/(resources|data-sources)/(\w+)#", said)
        return f"{'data.' if page[1] == 'data-sources' else ''}{page[2]}" if page else ""

    def arguments(self, name: str) -> dict[str, Mapping[str, Any]]:
        """Of a configuration or block, by the name that Terraform has of them."""
        properties = self.types[name].get("properties", [])
        found = {re.search(r"#(\w+) ", json.dumps(one["docs"])): one for one in properties}
        return {match[1]: one for match, one in found.items() if match}

    def block(self, argument: Mapping[str, Any]) -> str:
        """The type of what stands in the argument; empty for a plain value."""
        names = re.findall(r'"fqn": "([^"]+)"', json.dumps(argument["type"]))
        own = [name for name in names if name in self.types]
        return own[0] if own else ""


def faults(schema: Schema, name: str, given: Mapping[str, Any], where: str) -> Iterator[str]:
    known = schema.arguments(name)
    blocks = {
        key: value for key, value in given.items() if not key.startswith("__") and key not in OF_TERRAFORM
    }
    for dynamic in blocks.pop("dynamic", []):
        for label, body in dynamic.items():
            blocks[label] = body["content"]
    yield from (f"{where} has no {key}" for key in sorted(blocks.keys() - known.keys()))
    required = {key for key, one in known.items() if not one.get("optional")}
    yield from (f"{where} lacks {key}" for key in sorted(required - blocks.keys()))
    for key, values in blocks.items():
        if key in known and (inner := schema.block(known[key])):
            for value in values if isinstance(values, list) else [values]:
                if isinstance(value, dict):
                    yield from faults(schema, inner, value, f"{where}.{key}")


def all_faults(schema: Schema, parts: list[dict[str, Any]]) -> list[str]:
    found = []
    for part in parts:
        for kind, prefix in (("resource", ""), ("data", "data.")):
            for block in part.get(kind, []):
                for type_name, (body,) in ((name, list(named.values())) for name, named in block.items()):
                    found += _of(schema, prefix, type_name, body)
    return found


def _of(schema: Schema, prefix: str, type_name: str, body: Mapping[str, Any]) -> list[str]:
    name = f"{prefix}{type_name.partition('_')[2]}"
    if name not in schema.configurations:
        return [f"there is no {prefix}{type_name}"]
    return list(faults(schema, schema.configurations[name], body, type_name))


@pytest.fixture(scope="module", params=PROVIDERS)
def cloud(request: pytest.FixtureRequest) -> tuple[Schema, list[dict[str, Any]]]:
    files = sorted((ROOT / "infra" / "terraform" / request.param).glob("*.tf"))
    command = [str(CHECKS / "checkov" / "bin" / "python"), "-c", PARSE, *map(str, files)]
    parsed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return Schema(PROVIDERS[request.param]), json.loads(parsed)


@pytest.mark.timeout(600)
def test_the_provider_knows_every_type_argument_and_block(cloud: tuple[Schema, list[dict[str, Any]]]) -> None:
    schema, parts = cloud
    assert sum(len(part.get("resource", [])) for part in parts) > 20
    assert all_faults(schema, parts) == []


@pytest.mark.timeout(600)
def test_what_the_provider_does_not_know_is_found(cloud: tuple[Schema, list[dict[str, Any]]]) -> None:
    schema, parts = cloud[0], copy.deepcopy(cloud[1])
    resources = [block for part in parts for block in part.get("resource", [])]
    named, *_ = (block[name] for block in resources for name in block if name in STORES)
    (body,) = named.values()
    body["localtion"] = body.pop("location")
    found = all_faults(schema, parts)
    assert [fault.partition(" ")[2] for fault in found] == ["has no localtion", "lacks location"]
