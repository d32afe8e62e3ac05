"""Simulated nights: their calendar, what is counted as arrived, and how a row reads."""

from collections.abc import Callable
from datetime import datetime, timedelta
from types import SimpleNamespace

import pyarrow as pa
import pytest

from mediscale.core.errors import UsageError
from mediscale.core.refs import ModelRef
from mediscale.core.settings import Settings
from mediscale.simulation import nights as simulation
from mediscale.simulation import nights_report
from mediscale.simulation.nights_report import Night, NightCounts

NIGHT = datetime(2022, 3, 17, 1)


@pytest.mark.parametrize("nights", [0, simulation.MOST_NIGHTS + 1])
def test_a_night_that_is_not_in_the_calendar_is_refused(settings: Settings, nights: int) -> None:
    with pytest.raises(UsageError, match=f"1 to {simulation.MOST_NIGHTS} nights"):
        simulation.run(settings, nights, "tiny")
    assert not settings.home.exists()


def test_nights_are_a_day_apart() -> None:
    assert simulation.night(2) - simulation.night(1) == timedelta(days=1)


def test_arrived_is_what_was_written_down_since_not_what_happened_since(
    events: Callable[[str], pa.Table],
) -> None:
    drawn = events("""subject_id | time | code | available_time
        1 | 2022-03-16 00:30 | HOSPITAL_ADMISSION//URGENT | 2022-03-16 00:30
        2 | 2022-03-16 10:00 | HOSPITAL_ADMISSION//URGENT | 2022-03-16 10:00
        2 | 2022-03-16 23:00 | LOINC//2160-0 | 2022-03-17 02:00
        3 | 2022-03-15 20:00 | LOINC//2160-0 | 2022-03-16 07:00
        3 | 2022-03-17 01:00 | HOSPITAL_DISCHARGE//HOME | 2022-03-17 01:00
        4 | 2022-03-17 01:01 | HOSPITAL_ADMISSION//URGENT | 2022-03-17 01:01""")
    assert nights_report.count(drawn, NIGHT - timedelta(days=1), NIGHT) == NightCounts(1, 1, 3)


def test_a_row_says_what_happened_and_leaves_out_what_did_not() -> None:
    served = ModelRef(name="simulated-mortality", version=1, uri="", digest="")
    night = Night(3, NIGHT, arrived=NightCounts(14, 12, 4100), served=served)
    assert nights_report.row(night).split() == [
        "3", "2022-03-17", "01:00", "14", "in,", "12", "out,", "4,100", "events", "0", "v1"
    ]  # fmt: skip
    assert nights_report.sentences(night) == []


def test_a_refusal_is_told_with_its_reason() -> None:
    staged = SimpleNamespace(staged=True, promoted=False, model="m v2", reason="Staged.")
    refused = SimpleNamespace(
        staged=True, promoted=False, model="m v2", reason="Production refused: 9 events."
    )
    verdict = SimpleNamespace(retrain=True, reason="2 of the last 3 windows drifted.", performance=None)
    night = Night(9, NIGHT, verdict=verdict, staged=staged, promoted=refused)
    assert nights_report.sentences(night) == [
        "retrain: 2 of the last 3 windows drifted.",
        "m v2: Production refused: 9 events.",
    ]
