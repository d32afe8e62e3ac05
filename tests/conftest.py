"""Fixtures that more than one test folder uses."""

from pathlib import Path

import pytest

from mediscale.settings import Settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A home of its own for each test."""
    return Settings(home=tmp_path / "home")
