"""Requests made of patients' rows say no more than a request can."""

import numpy as np
import pytest

from data_pipeline.features import kernel, plain_inputs
from training.tabular import request_dropout


@pytest.mark.parametrize("task", ["mortality", "readmission"])
def test_a_request_holds_only_what_plain_inputs_fill(task) -> None:
    rng = np.random.default_rng(0)
    names, inputs = kernel.names(task), plain_inputs.names(task)
    rows = rng.normal(size=(500, len(names))).astype(np.float32)
    asked = request_dropout.as_requests(rows, task, rng)
    fillable = {names[i] for name in inputs for i in request_dropout.filled_features(task, name)}
    said = {name for name, column in zip(names, asked.T, strict=True) if np.isfinite(column).any()}
    assert said == fillable
    assert not any("_count_" in name or "_trend_" in name or name.startswith("charlson") for name in said)


def test_a_value_that_is_said_is_the_patients_newest_everywhere() -> None:
    rng = np.random.default_rng(0)
    names = list(kernel.names("mortality"))
    rows = rng.normal(size=(300, len(names))).astype(np.float32)
    asked = request_dropout.as_requests(rows, "mortality", rng)
    newest, highest = names.index("heart_rate_last_24h"), names.index("heart_rate_max_24h")
    told = np.isfinite(asked[:, highest])
    assert 20 < told.sum() < 280
    assert (asked[told, highest] == rows[told, newest]).all()


def test_few_inputs_are_common_and_age_is_nearly_always_said() -> None:
    rng = np.random.default_rng(0)
    names, inputs = list(kernel.names("mortality")), plain_inputs.names("mortality")
    asked = request_dropout.as_requests(np.ones((4000, len(names)), dtype=np.float32), "mortality", rng)
    said = sum(
        np.isfinite(asked[:, request_dropout.filled_features("mortality", name)[0]]).astype(int)
        for name in inputs
    )
    assert 0.15 < (said <= 4).mean() < 0.6
    assert (said > 0.8 * len(inputs)).mean() > 0.05
    assert np.isfinite(asked[:, names.index("age_years")]).mean() == pytest.approx(0.9, abs=0.03)
