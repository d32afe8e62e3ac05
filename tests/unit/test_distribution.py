"""What is shipped, what is installed beside it, and what the locks may hold."""

import re
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PACKAGES = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
LOCKS = sorted((ROOT / "requirements").glob("*.txt"))
DIRECT = [
    (extra, Requirement(line))
    for extra, lines in PROJECT["project"]["optional-dependencies"].items()
    for line in lines
]


@pytest.mark.parametrize("package", PACKAGES)
def test_no_other_distribution_ships_our_generic_names(package: str) -> None:
    assert (ROOT / package / "__init__.py").is_file()
    assert set(packages_distributions().get(package, [])) <= {"mediscale"}


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.stem)
def test_a_lock_holds_digests_and_no_address(lock: Path) -> None:
    text = lock.read_text()
    assert not re.search(r"\w+://|--(index|extra-index|find-links)", text)
    pins = re.findall(r"^[\w.-]+(?:\[[\w,-]+\])?==.*(?:\n    .*)*", text, re.MULTILINE)
    assert pins
    assert all("--hash=sha256:" in pin for pin in pins)


@pytest.mark.parametrize(("extra", "requirement"), DIRECT, ids=lambda part: getattr(part, "name", part))
def test_every_direct_dependency_has_a_floor(extra: str, requirement: Requirement) -> None:
    assert {clause.operator for clause in requirement.specifier} & {">=", "==", "~="}, (
        f"{requirement} in {extra}"
    )


def test_airflow_has_no_library_of_the_platform() -> None:
    locked = (ROOT / "requirements" / "airflow.txt").read_text()
    assert "\napache-airflow==3.3.2 " in locked
    assert not re.search(r"^(mlflow|ray|torch|xgboost|lightgbm|pyspark|scikit-learn)==", locked, re.MULTILINE)


def test_serving_runs_the_versions_that_the_platform_tested() -> None:
    pin = re.compile(r"^([\w.-]+)(?:\[[\w,-]+\])?==(\S+)", re.MULTILINE)
    platform, serving = (
        set(pin.findall((ROOT / "requirements" / f"{name}.txt").read_text()))
        for name in ("platform", "serving")
    )
    assert serving <= platform


def test_an_image_has_no_package_of_the_tests() -> None:
    """Other packages need packaging and psutil, too."""
    dev = {requirement.name.replace(".", "-") for extra, requirement in DIRECT if extra == "dev"}
    locked = {name: (ROOT / "requirements" / f"{name}.txt").read_text() for name in ("dev", "platform")}
    assert all(f"\n{name}==" in locked["dev"] for name in dev)
    assert {name for name in dev if f"\n{name}==" in locked["platform"]} == {"packaging", "psutil"}


def test_every_folder_of_mediscale_has_a_layer() -> None:
    (contract,) = (one for one in PROJECT["tool"]["importlinter"]["contracts"] if one["type"] == "layers")
    placed = set(re.findall(r"[\w.]+", " ".join(contract["layers"])))
    folders = {f"mediscale.{folder.parent.name}" for folder in (ROOT / "mediscale").glob("*/__init__.py")}
    assert folders <= placed
    assert {file.name for file in (ROOT / "mediscale").glob("*.py")} == {"__init__.py", "__main__.py"}
