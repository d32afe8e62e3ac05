"""What a person is told to type finds the same home, lake and keys from another shell."""

import pytest

from mediscale.core import commands


def test_a_command_carries_every_place_that_is_not_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HOME", "LAKE", "ARTIFACT_ROOT", "TRUST"):
        monkeypatch.delenv(f"MEDISCALE_{name}", raising=False)
    plain = commands.program("mediscale")
    assert "MEDISCALE_" not in plain
    monkeypatch.setenv("MEDISCALE_HOME", "/a home")
    monkeypatch.setenv("MEDISCALE_TRUST", "/keys")
    assert commands.program("mediscale") == f"MEDISCALE_HOME='/a home' MEDISCALE_TRUST=/keys {plain}"
    assert "MEDISCALE_" not in commands.program("mlflow", home=False)
