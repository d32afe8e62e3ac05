"""The floors of ``promotion_policy.yaml``, read and checked; the reasons for each are beside it in the file."""

from functools import cache
from pathlib import Path

from pydantic import Field, ValidationError

from mediscale.core.errors import UsageError
from mediscale.core.refs import Frozen
from mediscale.core.tasks import Task

_FILE = Path(__file__).with_name("promotion_policy.yaml")


class Policy(Frozen):
    """What one task's model must show. ``…_low`` bounds are on the lower end of 95 % intervals."""

    clinical_threshold: float = Field(gt=0, lt=1)
    thresholds: tuple[float, ...]
    """Of the decision curve; the clinical one is among them."""
    min_events: int
    min_subjects: int
    auroc_low: float
    suspicious_above: float
    calibration_slope: tuple[float, float]
    calibration_intercept: tuple[float, float]
    net_benefit_over_alternatives_low: float
    subgroup_gap_max: float
    subgroup_min_events: int
    subgroup_min_subjects: int
    gain_over_bedside_low: float
    plain_auroc_low: float
    probability_better: float


@cache
def of(task: Task) -> Policy:
    """The policy of a task.

    Raises:
        UsageError: the file lacks the task or a floor.
    """
    import yaml

    try:
        return Policy.model_validate(yaml.safe_load(_FILE.read_text())[task])
    except (KeyError, ValidationError) as error:
        raise UsageError(
            f"{_FILE.name} does not state every floor of {task}; complete it and run again."
        ) from error
