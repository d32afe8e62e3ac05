"""A client of the application that answers for one promoted task."""

from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient

from mediscale.core.settings import Settings
from serving.app import create_app
from serving.log.prediction_log import PredictionLog
from serving.risk.models import Predictors


@pytest.fixture
def client(settings: Settings, promote: Any) -> Iterator[TestClient]:
    promote("mortality")
    predictors = Predictors(settings, "synthetic", "production")
    with TestClient(create_app(settings, predictors, PredictionLog(settings, "synthetic"))) as client:
        yield client
