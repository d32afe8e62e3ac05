import numpy as np
import pytest

from data_pipeline.features import kernel
from mediscale.core.tasks import TaskName
from serving.risk.explainer import _state, describe_feature


@pytest.mark.parametrize(
    ("feature", "text"),
    [
        ("heart_rate_max_24h", "highest heart rate in the last 24 h"),
        ("lactate_trend_stay", "trend per hour of lactate in this stay"),
        ("treatment_vasopressor_6h", "vasopressor in the last 6 h"),
        ("charlson_heart_failure", "heart failure among earlier diagnoses (Charlson)"),
        ("charlson_score", "charlson score"),
        ("prior_visits_365d", "hospital visits in the year before"),
    ],
)
def test_a_feature_in_words(feature: str, text: str) -> None:
    assert describe_feature(feature) == text


@pytest.mark.parametrize("task", ["mortality", "readmission"])
def test_every_feature_has_words(task: TaskName) -> None:
    texts = [describe_feature(name) for name in kernel.names(task)]
    assert not any("_" in text for text in texts)
    assert len(np.unique(texts)) == len(texts)


@pytest.mark.parametrize(
    ("feature", "value", "text"),
    [
        ("heart_rate_last_24h", 121.0, " (121 /min)"),
        ("temperature_max_6h", float(np.float32(38.9)), " (38.9 °C)"),
        ("age_years", 67.0, " (67 years)"),
        ("in_icu", 1.0, " (yes)"),
        ("heart_rate_last_24h", np.nan, " (not recorded)"),
        ("heart_rate_trend_24h", 2.0, ""),
    ],
)
def test_what_the_record_holds_stands_beside_a_factor_of_a_known_patient(
    feature: str, value: float, text: str
) -> None:
    assert _state(feature, value) == text
