"""What goes wrong where a platform is deployed is one sentence: a wrong image, two releases on one lake."""

from datetime import datetime, timedelta

import pytest

from mediscale.cli import main
from mediscale.cli.verbs import Verb
from mediscale.core.errors import UsageError
from mediscale.core.settings import Settings
from mediscale.governance import integrity
from mediscale.storage import calls
from mediscale.storage.calls import Call

NOW = datetime(2026, 3, 1, 12)


def test_a_verb_that_an_image_can_t_run_names_the_image(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def train(_options: object) -> int:
        raise ModuleNotFoundError("No module named 'pyspark.sql'", name="pyspark.sql")

    monkeypatch.setitem(main.GROUPS, "tests", (Verb("train", "trains", train),))
    assert main.main(["train"]) == UsageError.exit_code
    assert capsys.readouterr().err == (
        "mediscale: This environment lacks pyspark.sql, which `mediscale train` needs; take the image "
        "mediscale-platform, or in a checkout type `make setup`.\n"
    )


def called(settings: Settings, codes: str) -> None:
    """A call of the stage gold by each of these versions of the code, an hour after the other."""
    for number, code in enumerate(codes):
        call = Call(
            stage="gold", key=f"{number}", run_id="r", params={}, code=code * 64, lock="l", result={}, inputs=(),
            produced=(), outputs=(), started_at=NOW + timedelta(hours=number), seconds=1.0,
        )  # fmt: skip
        calls.write(settings, call)


@pytest.mark.parametrize("codes", ["aab", "aba", "abc"])
def test_an_upgrade_and_a_rollback_are_no_second_deployment(settings: Settings, codes: str) -> None:
    called(settings, codes)
    assert list(integrity.warnings(settings)) == []


def test_two_releases_that_work_on_one_lake_by_turns_are_told(settings: Settings) -> None:
    called(settings, "aabaab")
    (said,) = integrity.warnings(settings)
    assert said == (
        f"Two versions of the code run gold by turns in {settings.lake} (digests aaaaaaaaaaaa and bbbbbbbbbbbb), and "
        "each does the other's work again; give each deployment a lake, or the same release."
    )
