"""The names of the prediction tasks: the stems of their files.

``data_pipeline/cohort/tasks/`` holds the tasks that every run takes, its folder ``optional/`` those that a person
chooses, its folder ``shared/`` features and floors that tasks take with ``extends``, and a home's folder ``tasks/`` a
person's own tasks. Standard library only: `mediscale --help` and Airflow, while it
parses the DAGs, read this. What a file says is in ``mediscale.core.tasks``.
"""

from functools import cache
from pathlib import Path

from mediscale.core import declaration_files

FOLDER = Path(__file__).parents[2] / "data_pipeline" / "cohort" / "tasks"
SHARED = FOLDER / "shared"


def names() -> tuple[str, ...]:
    """The tasks that every run takes."""
    return _names(FOLDER)


def all_names() -> tuple[str, ...]:
    """Every task that has a file: those of every run, then those that are chosen, then a person's own."""
    own = declaration_files.home_folder("task")
    return tuple(dict.fromkeys((*names(), *_names(FOLDER / "optional"), *_stems(own))))


def file_of(name: str) -> Path | None:
    """The file of a task; None where there is no such task."""
    folders = (FOLDER, FOLDER / "optional", declaration_files.home_folder("task"))
    files = (folder / f"{name}.yaml" for folder in folders)
    return next((file for file in files if file.exists()), None)


def is_shipped(name: str) -> bool:
    """Whether the name is taken by a task that no person's own file can replace."""
    return name in (*names(), *_names(FOLDER / "optional"), LANGUAGE)


@cache
def _names(folder: Path) -> tuple[str, ...]:
    return _stems(folder)


def _stems(folder: Path) -> tuple[str, ...]:
    return tuple(sorted(path.stem for path in folder.glob("*.yaml")))


TASKS = names()
LANGUAGE = "language"
"""What stands where a risk model has its task: in a language model's name, tags and history."""
