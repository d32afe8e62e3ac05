"""Who is asked about on a night, and that a night sees nothing that was written down after it."""

import datetime as dt
from collections.abc import Callable
from itertools import pairwise

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from data_pipeline.cohort import bitemporal, cohort_flow, prediction_times
from data_pipeline.cohort.bitemporal import latest_as_of
from data_pipeline.cohort.stays import patients
from mediscale.core import task_names, tasks

Draw = Callable[[str], pa.Table]

MORTALITY = tasks.load("mortality")

HEADER = "subject_id | time | code | visit_id | available_time\n"
WARD = (
    HEADER
    + """
1 | 1950-06-01 00:00 | MEDS_BIRTH | | 1950-06-01 00:00
1 | 2022-03-01 10:00 | HOSPITAL_ADMISSION//EMERGENCY | 10 | 2022-03-01 10:00
1 | 2022-03-09 12:00 | HOSPITAL_DISCHARGE//HOME | 10 | 2022-03-09 12:00
2 | 1960-06-01 00:00 | MEDS_BIRTH | | 1960-06-01 00:00
2 | 2022-03-01 11:00 | HOSPITAL_ADMISSION//URGENT | 20 | 2022-03-01 11:00
2 | 2022-03-02 10:59 | HOSPITAL_DISCHARGE//HOME | 20 | 2022-03-02 10:59
3 | 2010-06-01 00:00 | MEDS_BIRTH | | 2010-06-01 00:00
3 | 2022-03-01 12:00 | HOSPITAL_ADMISSION//EMERGENCY | 30 | 2022-03-01 12:00
4 | 1970-06-01 00:00 | MEDS_BIRTH | | 1970-06-01 00:00
4 | 2022-03-01 13:00 | HOSPITAL_ADMISSION//EMERGENCY | 40 | 2022-03-01 13:00
4 | 2022-03-04 06:00 | MEDS_DEATH | 40 | 2022-03-04 06:00
4 | 2022-03-04 06:00 | HOSPITAL_DISCHARGE//DIED | 40 | 2022-03-04 08:00
5 | 1980-06-01 00:00 | MEDS_BIRTH | | 1980-06-01 00:00
5 | 2022-03-02 09:00 | HOSPITAL_ADMISSION//OBSERVATION | 50 | 2022-03-02 09:00
"""
)
"""1: stays for days. 2: left before a day had passed. 3: a child. 4: dies on the fourth. 5: only observed."""


def march(day: int, hour: int = 1) -> dt.datetime:
    return dt.datetime(2022, 3, day, hour)


def test_a_night_s_round_asks_about_adults_still_there_after_a_day(events: Draw) -> None:
    assert prediction_times.due_predictions(events(WARD), MORTALITY, march(2), march(3)) == [
        (1, march(2, 10)),
        (4, march(2, 13)),
    ]


def test_who_leaves_later_is_asked_about_all_the_same(events: Draw) -> None:
    """On that night nobody knew how, or that, the stays would end."""
    known = events(WARD).filter(pc.less_equal(events(WARD)["available_time"], march(3)))
    assert prediction_times.due_predictions(
        known, MORTALITY, march(2), march(3)
    ) == prediction_times.due_predictions(events(WARD), MORTALITY, march(2), march(3))


AT_HOME = (
    HEADER
    + """
6 | 1950-06-01 00:00 | MEDS_BIRTH | | 1950-06-01 00:00
6 | 2022-03-01 10:00 | HOSPITAL_ADMISSION//EMERGENCY | 60 | 2022-03-01 10:00
6 | 2022-03-02 09:00 | HOSPITAL_DISCHARGE//HOME | 60 | 2022-03-02 09:00
6 | 2022-03-02 18:00 | HOSPITAL_ADMISSION//EMERGENCY | 61 | 2022-03-02 18:00
6 | 2022-03-05 10:00 | HOSPITAL_DISCHARGE//HOME | 61 | 2022-03-05 10:00
"""
)
"""At home when a day had passed, and back in the evening: one merged stay."""


@pytest.mark.parametrize("until", [march(2, 12), march(2, 20), march(9)])
def test_who_is_at_home_after_a_day_is_not_asked_about_though_a_return_follows(
    events: Draw, until: dt.datetime
) -> None:
    assert prediction_times.due_predictions(events(AT_HOME), MORTALITY, march(2), until) == []
    passed = cohort_flow.cohort(events(AT_HOME), "mortality", None, 0)["steps"].to_pylist()
    assert max(passed) < len(MORTALITY.steps)


def test_who_is_back_and_not_yet_booked_in_is_not_asked_about(events: Draw) -> None:
    """When a day had passed the patient was back, as the record says since the evening, and at home as it said then."""
    booked_late = AT_HOME.replace(
        "2022-03-02 18:00 | HOSPITAL_ADMISSION", "2022-03-02 09:30 | HOSPITAL_ADMISSION"
    )
    assert prediction_times.due_predictions(events(booked_late), MORTALITY, march(2), march(9)) == []
    passed = cohort_flow.cohort(events(booked_late), "mortality", None, 0)["steps"].to_pylist()
    assert max(passed) < len(MORTALITY.steps)


REVISED = """event_id | subject_id | time | code | visit_id | available_time | retracted
1 | 7 | 1950-06-01 00:00 | MEDS_BIRTH | | 1950-06-01 00:00 | false
2 | 7 | 2022-03-01 10:00 | HOSPITAL_ADMISSION//EMERGENCY | 70 | 2022-03-01 10:00 | false
3 | 7 | 2022-03-02 09:00 | HOSPITAL_DISCHARGE//HOME | 70 | 2022-03-02 09:00 | false
3 | 7 | 2022-03-04 09:00 | HOSPITAL_DISCHARGE//HOME | 70 | {corrected} | false
"""
"""Discharged before a day had passed, as the record said until it was corrected: it was two days later."""


@pytest.mark.parametrize(("corrected", "due"), [("2022-03-02 09:30", True), ("2022-03-02 10:30", False)])
def test_a_discharge_that_was_corrected_counts_as_it_was_known(
    events: Draw, corrected: str, due: bool
) -> None:
    revised = events(REVISED.format(corrected=corrected))
    asked = prediction_times.due_predictions(revised, MORTALITY, march(2), march(9))
    assert asked == ([(7, march(2, 10))] if due else [])
    passed = cohort_flow.cohort(revised, "mortality", None, 0)["steps"].to_pylist()
    assert (max(passed) == len(MORTALITY.steps)) is due


def test_stays_are_paired_again_only_where_something_else_was_known(
    events: Draw, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For each prediction of a patient with a correction it took as long as all the others together."""
    paired_at: list[dt.datetime] = []

    def latest_as_of(table: pa.Table, at: dt.datetime | None) -> pa.Table:
        paired_at.extend([at] if at else [])
        return bitemporal.latest_as_of(table, at)

    monkeypatch.setattr(prediction_times, "latest_as_of", latest_as_of)
    revised = events(REVISED.format(corrected="2022-03-02 13:00"))
    stays = prediction_times.RevisedStays.of(revised, tasks.load("kidney_injury"))
    [patient] = patients(bitemporal.latest_as_of(revised, None))
    times = list(stays.times(patient, patient.stays[0]))
    assert len(times) > 5
    assert paired_at
    wrong_then = [march(2, 9) <= at < march(2, 13) for at in paired_at]
    assert all(wrong_then)
    assert not set(times) & set(paired_at)


def test_nobody_is_asked_about_twice_and_nobody_is_forgotten(events: Draw) -> None:
    nights = [march(day) for day in range(1, 8)]
    each = [prediction_times.due_predictions(events(WARD), MORTALITY, *span) for span in pairwise(nights)]
    assert [who for due in each for who in due] == prediction_times.due_predictions(
        events(WARD), MORTALITY, nights[0], nights[-1]
    )


@pytest.mark.parametrize("day", range(1, 14))
def test_a_night_labels_as_if_later_records_did_not_exist(events: Draw, day: int) -> None:
    everything = events(WARD)
    known = everything.filter(pc.less_equal(everything["available_time"], march(day)))
    told = cohort_flow.cohort(everything, "mortality", march(day), 0)
    assert told.equals(cohort_flow.cohort(known, "mortality", march(day), 0))


@pytest.mark.parametrize(
    ("as_of", "known"),
    [
        pytest.param(march(4, 7), set(), id="the stay of the dead is still open"),
        pytest.param(
            march(4, 8), set(), id="written down now: who left alive today would be certain tomorrow"
        ),
        pytest.param(march(5, 8), {4}, id="the discharge of the dead is a day old"),
        pytest.param(march(9, 13), {4}, id="home an hour ago: it may yet be a transfer"),
        pytest.param(march(10, 12), {1, 4}, id="home for a day"),
    ],
)
def test_an_outcome_is_unknown_until_it_is_certain(events: Draw, as_of: dt.datetime, known: set[int]) -> None:
    rows = cohort_flow.cohort(events(WARD), "mortality", as_of, 0)
    certain = rows.filter(pc.equal(rows["steps"], len(MORTALITY.steps)))
    assert set(certain["subject_id"].to_pylist()) == known


RETURN = """
7 | 1950-06-01 00:00 | MEDS_BIRTH | | 1950-06-01 00:00
7 | 2022-03-01 10:00 | HOSPITAL_ADMISSION//EMERGENCY | 70 | 2022-03-01 10:00
7 | 2022-03-02 10:00 | HOSPITAL_DISCHARGE//HOME | 70 | 2022-03-02 10:00
7 | 2022-03-02 20:00 | HOSPITAL_ADMISSION//EMERGENCY | 71 | 2022-03-02 20:00
7 | 2022-03-05 10:00 | HOSPITAL_DISCHARGE//{destination} | 71 | 2022-03-05 10:00
"""
"""A day in hospital, ten hours at home, and in hospital again until the fifth: one merged stay."""


@pytest.mark.parametrize(
    ("destination", "at", "answers"),
    [
        pytest.param("HOME", march(1, 15), [], id="an hour before the shortest window is full"),
        pytest.param("HOME", march(1, 16), ["mortality"], id="hour 6"),
        pytest.param("HOME", march(2, 9), ["mortality"], id="hour 23"),
        pytest.param("HOME", march(2, 10), ["readmission"], id="gone home, and nobody knows of a return"),
        pytest.param("HOME", march(2, 15), [], id="at home"),
        pytest.param("HOME", march(3, 10), ["mortality"], id="hour 48, back in hospital"),
        pytest.param("HOME", march(3, 11), [], id="the third day"),
        pytest.param("HOME", march(5, 9), [], id="an hour before discharge"),
        pytest.param("HOME", march(5, 10), ["readmission"], id="at discharge"),
        pytest.param("HOSPICE", march(5, 10), [], id="to hospice"),
        pytest.param("DIED", march(5, 10), [], id="died"),
    ],
)
def test_a_model_is_asked_only_at_the_moments_it_was_made_for(
    events: Draw, destination: str, at: dt.datetime, answers: list[str]
) -> None:
    drawn = events(HEADER + RETURN.format(destination=destination))
    (patient,) = patients(latest_as_of(drawn, at))
    declared = [tasks.load(name) for name in task_names.names()]
    assert [
        task.name
        for task in declared
        if prediction_times.may_be_asked(
            patient.stays[-1], at, task.may_be_asked, task.at_risk.excluded_destinations
        )
    ] == answers


@pytest.mark.parametrize("name", task_names.names())
def test_every_prediction_time_is_a_moment_at_which_a_server_may_be_asked(events: Draw, name: str) -> None:
    """Else the replays of the simulation, and a hospital's nightly predictions, would be refused."""
    task = tasks.load(name)
    for story in (WARD, AT_HOME, HEADER + RETURN.format(destination="HOME")):
        drawn = events(story)
        for subject, at in prediction_times.due_predictions(drawn, task, march(1, 0), march(20)):
            known = patients(latest_as_of(drawn, at))
            stay = next(patient for patient in known if patient.subject_id == subject).stays[-1]
            assert prediction_times.may_be_asked(
                stay, at, task.may_be_asked, task.at_risk.excluded_destinations
            )


@pytest.mark.parametrize("known", ["2022-03-02 09:59", "2022-03-02 10:00", "2022-03-02 10:01"])
def test_a_stay_whose_admission_became_known_after_the_prediction_is_not_predicted(
    events: Draw, known: str
) -> None:
    """As after a corrected extract: one such stay made the leak certificate refuse every version of the dataset."""
    admitted = "HOSPITAL_ADMISSION//EMERGENCY | 10 | 2022-03-01 10:00"
    ward = events(WARD.replace(admitted, f"{admitted[:-16]}{known}"))
    stays = cohort_flow.cohort(ward, "mortality", None, 0)
    predicted = [row["stay_id"] for row in stays.to_pylist() if row["prediction_time"] is not None]
    assert predicted == ([40] if known == "2022-03-02 10:01" else [10, 40])
