"""Names of tasks for Airflow's environment."""

import subprocess
import sys
from pathlib import Path

from mediscale.core import task_names


def test_airflow_reads_the_names_with_the_standard_library_alone() -> None:
    code = "from mediscale.core.task_names import TASKS; print(*TASKS)"
    isolated = [sys.executable, "-S", "-c", code]
    root = str(Path(task_names.__file__).parents[2])
    done = subprocess.run(isolated, env={"PYTHONPATH": root}, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["mortality", "readmission"]
