"""The prediction tasks. Standard library only: Airflow's environment reads this while it parses the DAGs."""

from typing import Literal

Task = Literal["mortality", "readmission"]

TASKS: tuple[Task, ...] = ("mortality", "readmission")
