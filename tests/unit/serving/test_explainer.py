import numpy as np
import pytest

from data_pipeline.features import kernel
from mediscale.core.tasks import TaskName
from serving.risk.explainer import describe_feature


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
