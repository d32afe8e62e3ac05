"""Pairing and merging of visits, where sources are untidy."""

import datetime as dt
from collections.abc import Callable

import pyarrow as pa
import pytest

from data_pipeline.cohort.stays import Patient, patients

Draw = Callable[[str], pa.Table]

HEADER = "subject_id | time | code | visit_id\n"


def visit(number: int, admitted: str, discharged: str = "", to: str = "HOME") -> str:
    end = f"1 | 2150-01-{discharged} | HOSPITAL_DISCHARGE//{to} | {number}\n" if discharged else ""
    return f"1 | 2150-01-{admitted} | HOSPITAL_ADMISSION//URGENT | {number}\n" + end


def only(drawn: pa.Table) -> Patient:
    (patient,) = patients(drawn)
    return patient


@pytest.mark.parametrize(
    ("story", "stays"),
    [
        pytest.param(
            visit(1, "01 10:00", "09 10:00") + visit(2, "03 10:00", "04 10:00"), [(1, 2)], id="inside another"
        ),
        pytest.param(
            visit(1, "01 10:00", "09 10:00")
            + visit(2, "03 10:00", "04 10:00")
            + visit(3, "10 09:00", "12 10:00"),
            [(1, 2, 3)],
            id="measured from the end of the longest so far",
        ),
        pytest.param(
            visit(1, "01 10:00", "02 10:00") + visit(2, "03 10:00", "04 10:00"), [(1, 2)], id="exactly a day"
        ),
        pytest.param(
            visit(1, "01 10:00") + visit(2, "20 10:00", "21 10:00"), [(1,), (2,)], id="the first never ended"
        ),
    ],
)
def test_which_visits_are_one_stay(events: Draw, story: str, stays: list[tuple[int, ...]]) -> None:
    patient = only(events(HEADER + story))
    assert [tuple(visit.visit_id for visit in stay.visits) for stay in patient.stays] == stays


def test_stay_ends_with_the_visit_that_ends_last(events: Draw) -> None:
    story = visit(1, "01 10:00", "09 10:00", "HOSPICE") + visit(2, "03 10:00", "04 10:00", "TRANSFER")
    (stay,) = only(events(HEADER + story)).stays
    assert stay.discharged
    assert stay.discharged.time == dt.datetime(2150, 1, 9, 10)
    assert stay.destination == "HOSPICE"


def test_stay_is_open_while_any_part_is(events: Draw) -> None:
    (stay,) = only(events(HEADER + visit(1, "01 10:00", "02 10:00") + visit(2, "02 12:00"))).stays
    assert stay.discharged is None
    assert stay.destination == ""


def test_a_patient_without_admission_has_no_stay(events: Draw) -> None:
    assert list(patients(events(HEADER + "1 | 2100-01-01 00:00 | MEDS_BIRTH | "))) == []
