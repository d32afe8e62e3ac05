"""The middle 99 % of what a model was trained on: aggregate, in no patient's own figures."""

import numpy as np
import pytest

from data_pipeline.features import history, kernel, plain_inputs
from training.tabular.usual_ranges import MIN_PATIENTS, usual_ranges
from training.training_examples import Examples


def rows(columns: dict[str, np.ndarray], stays_each: int = 1) -> Examples:
    """Stays with these newest values by plain name, ``stays_each`` of each patient."""
    n = len(next(iter(columns.values())))
    inputs = np.full((n, len(kernel.names("mortality"))), np.nan, dtype=np.float32)
    for plain, values in columns.items():
        inputs[:, plain_inputs.newest_columns("mortality")[plain]] = values
    return Examples(
        subjects=np.arange(n) // stays_each,
        times=np.full(n, np.datetime64("2150-01-01", "us")),
        admissions=np.full(n, np.datetime64("2149-12-31", "us")),
        outcomes=np.zeros(n),
        inputs=inputs,
        attributes={},
    )


@pytest.mark.parametrize("seed", range(5))
def test_a_range_holds_the_middle_99_percent_and_little_more(seed: int) -> None:
    chance = np.random.default_rng(seed)
    values = {"creatinine": chance.lognormal(0, 0.6, 5000), "temperature": chance.normal(37, 0.7, 5000)}
    for plain, (low, high) in usual_ranges(rows(values), "mortality").items():
        inside = (values[plain] >= low) & (values[plain] <= high)
        assert 0.99 <= inside.mean() <= 0.995
        assert float(f"{low:.3g}") == low
        assert float(f"{high:.3g}") == high


def test_what_few_patients_have_has_no_range() -> None:
    many = rows({"lactate": np.linspace(1, 5, MIN_PATIENTS)})
    assert usual_ranges(many, "mortality") == {"lactate": (1.02, 4.98)}
    assert usual_ranges(many.where(np.arange(MIN_PATIENTS) > 0), "mortality") == {}
    of_few = rows({"lactate": np.linspace(1, 5, 2 * MIN_PATIENTS - 2)}, stays_each=2)
    assert usual_ranges(of_few, "mortality") == {}, "stays of fewer patients than that"


def test_sex_has_no_range_and_a_high_age_is_the_oldest() -> None:
    chance = np.random.default_rng(0)
    found = usual_ranges(
        rows(
            {
                "sex": chance.integers(0, 2, 900),
                "age": np.minimum(chance.uniform(18, 140, 900), history.OLDEST),
            }
        ),
        "mortality",
    )
    assert found.keys() == {"age"}
    assert found["age"][1] == history.OLDEST
