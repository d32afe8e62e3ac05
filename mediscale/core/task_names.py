"""The names of the prediction tasks: the stems of the files in ``data_pipeline/cohort/tasks/``.

Standard library only: `mediscale --help` and Airflow, while it parses the DAGs, read this. What a file says is in
``mediscale.core.tasks``.
"""

from functools import cache
from pathlib import Path

FOLDER = Path(__file__).parents[2] / "data_pipeline" / "cohort" / "tasks"


def names() -> tuple[str, ...]:
    """Every task that has a file."""
    return _names(FOLDER)


@cache
def _names(folder: Path) -> tuple[str, ...]:
    return tuple(sorted(path.stem for path in folder.glob("*.yaml")))


TASKS = names()
LANGUAGE = "language"
"""What stands where a risk model has its task: in a language model's name, tags and history."""
