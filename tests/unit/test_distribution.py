"""What is shipped, what is installed beside it, what the locks may hold, and what stays out of the server."""

import re
import subprocess
import sys
import tomllib
import zipfile
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
    assert not re.search(r"^(mlflow|ray|torch|xgboost|pyspark|scikit-learn)==", locked, re.MULTILINE)


def test_serving_runs_the_versions_that_the_platform_tested() -> None:
    pin = re.compile(r"^([\w.-]+)(?:\[[\w,-]+\])?==(\S+)", re.MULTILINE)
    platform, serving = (
        set(pin.findall((ROOT / "requirements" / f"{name}.txt").read_text()))
        for name in ("platform", "serving")
    )
    assert serving <= platform


def test_each_jar_of_spark_has_a_digest() -> None:
    lines = (ROOT / "infra" / "spark" / "jars.sha256").read_text().splitlines()
    assert len(lines) > 5
    assert all(re.fullmatch(r"[0-9a-f]{64}  [\w.-]+\.jar", line) for line in lines)


def test_the_wheel_holds_the_packages_with_their_data_and_nothing_else(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    files = zipfile.ZipFile(wheel).namelist()
    assert "data_pipeline/ingest/sources/mimic_iv.yaml" in files
    assert {name.split("/")[0] for name in files if ".dist-info/" not in name} == set(PACKAGES)


def test_every_folder_of_mediscale_has_a_layer() -> None:
    (contract,) = (one for one in PROJECT["tool"]["importlinter"]["contracts"] if one["type"] == "layers")
    placed = set(re.findall(r"[\w.]+", " ".join(contract["layers"])))
    folders = {f"mediscale.{folder.parent.name}" for folder in (ROOT / "mediscale").glob("*/__init__.py")}
    assert folders <= placed
    assert {file.name for file in (ROOT / "mediscale").glob("*.py")} == {"__init__.py", "__main__.py"}


def test_the_server_imports_nothing_that_its_image_does_not_have() -> None:
    heavy = (
        "{'pyspark', 'mlflow', 'ray', 'torch', 'xgboost', 'shap', 'pandas', 'polars', 'scipy', 'training'}"
    )
    modules = ", ".join(f"serving.{module.stem}" for module in sorted((ROOT / "serving").glob("*.py")))
    look = f"import sys, {modules}; print(sorted({heavy} & set(sys.modules)))".replace(
        "serving.__init__", "serving"
    )
    imported = subprocess.run(
        [sys.executable, "-c", look], cwd=ROOT, check=True, capture_output=True, text=True
    )
    assert imported.stdout == "[]\n"
