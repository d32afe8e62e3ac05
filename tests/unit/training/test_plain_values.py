"""The requests that every version is tried on give what its task can be given."""

import pytest

from data_pipeline.features import plain_inputs
from mediscale.core import task_names
from training.tabular import export


@pytest.mark.parametrize("task", task_names.all_names())
def test_the_examples_of_requests_can_be_asked_of_every_task(task: str) -> None:
    for values in export._PLAIN_EXAMPLES.values():
        plain_inputs.features(export._request_values(values, task), task)


def test_a_task_without_vital_signs_is_given_none() -> None:
    values = {"age": 67.0, "blood_pressure": 140.0}
    assert export._request_values(values, "encounter_readmission") == {"age": 67.0}
    assert export._request_values(values, "mortality") == values
