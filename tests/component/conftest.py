"""A home with a run and a promotion history, as the command line finds it."""

from dataclasses import replace
from typing import Any

import pytest

from mediscale.core.settings import Settings


@pytest.fixture
def home(settings: Settings, leave_run: Any, promote: Any) -> Settings:
    """A home that holds the records of a run, and two versions of a model in the promotion history."""
    replace(leave_run, home=settings)("synthetic")
    for version in (1, 2):
        promote("mortality", version)
    return settings
