"""Acute kidney injury by creatinine: KDIGO's two rises, first onset only, and who was measured again."""

import datetime as dt
from collections.abc import Callable

import pyarrow as pa
import pytest
import yaml

from data_pipeline.cohort import labels
from mediscale.core import task_names, tasks
from mediscale.core.errors import UsageError

Draw = Callable[[str], pa.Table]
HEADER = "subject_id | time | available_time | code | numeric_value | visit_id\n"
STAY = (
    "1 | 1950-06-01 00:00 | 1950-06-01 00:00 | MEDS_BIRTH | |\n"
    "1 | 2150-01-01 10:00 | 2150-01-01 10:00 | HOSPITAL_ADMISSION//EMERGENCY | | 10\n"
    "1 | 2150-01-09 10:00 | 2150-01-09 10:00 | HOSPITAL_DISCHARGE//HOME | | 10\n"
)


def creatinine(*values: tuple[str, float]) -> str:
    return "".join(f"1 | 2150-{at} | 2150-{at} | LOINC//2160-0 | {value} | 10\n" for at, value in values)


def reached(drawn: pa.Table) -> tuple[str, str, dt.datetime | None]:
    (row,) = labels.cohort(drawn, "kidney_injury", None, 0).to_pylist()
    return tasks.load("kidney_injury").steps[row["steps"] - 1].name, row["outcome"], row["outcome_time"]


BEFORE = ("01-01 11:00", 1.0)
ONSET = dt.datetime(2150, 1, 3, 6)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ((BEFORE, ("01-03 06:00", 1.3)), ("measured_again", "kidney_injury", ONSET)),
        ((BEFORE, ("01-03 06:00", 1.29)), ("measured_again", "no_kidney_injury", None)),
        # After 48 hours a rise by 0.3 no longer counts, one to 1.5 times does.
        ((BEFORE, ("01-04 09:00", 1.4)), ("measured_again", "no_kidney_injury", None)),
        ((BEFORE, ("01-04 09:00", 1.5)), ("measured_again", "kidney_injury", dt.datetime(2150, 1, 4, 9))),
        # The lowest of the days before counts, not the first.
        ((BEFORE, ("01-02 09:00", 0.8), ("01-03 06:00", 1.2)), ("measured_again", "kidney_injury", ONSET)),
        # Risen by the prediction time: no first onset. Beyond 48 hours after it: not this prediction's.
        ((BEFORE, ("01-02 10:00", 1.4), ("01-03 06:00", 2.8)), ("clear_about_death", "", None)),
        ((BEFORE, ("01-03 06:00", 1.0), ("01-04 11:00", 3.0)), ("measured_again", "no_kidney_injury", None)),
        ((BEFORE, ("01-04 11:00", 3.0)), ("at_risk", "", None)),
    ],
)  # fmt: skip
def test_who_has_an_injury_of_the_kidney(
    events: Draw, values: tuple[tuple[str, float], ...], expected: tuple[str, str, dt.datetime | None]
) -> None:
    assert reached(events(HEADER + STAY + creatinine(*values))) == expected


def test_a_value_that_was_known_late_makes_the_label_certain_late(events: Draw) -> None:
    late = creatinine(BEFORE, ("01-03 06:00", 1.3)).replace(
        "2150-01-03 06:00 | LOINC", "2150-02-01 00:00 | LOINC"
    )
    drawn = events(HEADER + STAY + late)
    (row,) = labels.cohort(drawn, "kidney_injury", None, 0).to_pylist()
    assert row["known_time"] == dt.datetime(2150, 2, 1)
    (row,) = labels.cohort(drawn, "kidney_injury", dt.datetime(2150, 1, 20), 0).to_pylist()
    assert row["outcome"] == "", "then nothing was known to have been measured again"


@pytest.mark.parametrize(
    ("rise", "sentence"),
    [
        ({"within_hours": 48}, "give one of by and times"),
        ({"by": 0.3, "times": 1.5, "within_hours": 48}, "give one of by and times"),
        ({"times": 1, "within_hours": 48}, "Input should be greater than 1"),
    ],
)
def test_a_rise_that_is_none_is_refused(rise: dict[str, float], sentence: str) -> None:
    declared = yaml.safe_load((task_names.FOLDER / "optional" / "kidney_injury.yaml").read_text())
    changed = {**declared, "outcome": {**declared["outcome"], "rises": [rise]}}
    with pytest.raises(UsageError, match=sentence):
        tasks.parse("mine", yaml.safe_dump(changed))
