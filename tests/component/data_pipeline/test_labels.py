"""The two cohorts, visit by visit; each trap of merging, follow-up and competing events by its name."""

import datetime as dt
from collections.abc import Callable

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from data_pipeline.cohort import cohort_flow, labels
from mediscale.core import tasks
from mediscale.core.errors import QualityError
from mediscale.core.refs import TableRef
from mediscale.core.settings import Settings
from mediscale.core.tasks import TaskName
from mediscale.storage import lake

Draw = Callable[[str], pa.Table]
Land = Callable[..., TableRef]

BORN = "1 | 2080-06-01 00:00 | MEDS_BIRTH | \n"
HEADER = "subject_id | time | code | visit_id\n"


def cohort(drawn: pa.Table, task: TaskName, as_of: dt.datetime | None = None) -> list[dict[str, object]]:
    rows = cohort_flow.cohort(drawn, task, as_of, 0)
    return rows.filter(pc.equal(rows["steps"], len(tasks.load(task).steps))).to_pylist()


def left_at(drawn: pa.Table, task: TaskName, as_of: dt.datetime | None = None) -> list[int]:
    return sorted(cohort_flow.cohort(drawn, task, as_of, 0)["steps"].to_pylist())


def visit(number: int, admitted: str, discharged: str, to: str = "HOME", kind: str = "EMERGENCY") -> str:
    return (
        f"1 | {admitted} | HOSPITAL_ADMISSION//{kind} | {number}\n"
        f"1 | {discharged} | HOSPITAL_DISCHARGE//{to} | {number}\n"
    )


def test_mortality_is_predicted_a_day_after_admission(events: Draw) -> None:
    (row,) = cohort(
        events(
            HEADER
            + BORN
            + visit(7, "2150-01-01 10:00", "2150-01-05 12:00", "DIED")
            + "1 | 2150-01-05 11:30 | MEDS_DEATH | 7"
        ),
        "mortality",
    )
    assert row["prediction_time"] == dt.datetime(2150, 1, 2, 10)
    assert row["boolean_value"] is True
    assert row["outcome_time"] == dt.datetime(2150, 1, 5, 11, 30)
    assert row["stay_id"] == 7
    assert row["admission_time"] == dt.datetime(2150, 1, 1, 10)


@pytest.mark.parametrize(
    ("story", "steps"),
    [
        pytest.param(BORN + visit(1, "2150-01-01 10:00", "2150-01-02 10:00"), [6], id="discharged within 24 h"),
        pytest.param(BORN + visit(1, "2150-01-01 10:00", "2150-01-02 09:00", "DIED"), [6], id="died within 24 h"),
        pytest.param(
            BORN + visit(1, "2150-01-01 10:00", "2150-01-09 09:00", "DIED") + "1 | 2150-01-02 08:00 | MEDS_DEATH | 1",
            [6],
            id="dead at 24 h, discharged days later as an organ donor",
        ),
        pytest.param(BORN + "1 | 2150-01-01 10:00 | HOSPITAL_ADMISSION//URGENT | 1", [4], id="still in hospital"),
        pytest.param(BORN + visit(1, "2098-05-31 10:00", "2098-06-09 10:00"), [3], id="17, birthday tomorrow"),
        pytest.param(BORN + visit(1, "2098-06-01 10:00", "2098-06-09 10:00"), [8], id="18 today"),
        pytest.param(visit(1, "2150-01-01 10:00", "2150-01-09 10:00"), [3], id="age unknown"),
        pytest.param(BORN + visit(1, "2150-01-01 10:00", "2150-01-09 10:00", kind="OBSERVATION"), [1], id="watched"),
        pytest.param(BORN + visit(1, "2080-06-01 10:00", "2080-06-09 10:00", kind="NEWBORN"), [1], id="newborn"),
        pytest.param(
            BORN + visit(1, "2150-01-01 10:00", "2150-01-01 20:00") + visit(2, "2150-01-02 08:00", "2150-01-05 10:00"),
            [2, 8],
            id="a transfer: gone for less than a day",
        ),
        pytest.param(
            BORN + visit(1, "2150-01-01 10:00", "2150-01-02 10:00") + visit(2, "2150-01-02 18:00", "2150-01-05 10:00"),
            [2, 6],
            id="at home at 24 h: nobody knew of the return",
        ),
        pytest.param(
            BORN + visit(1, "2150-01-01 10:00", "2150-01-02 10:00") + visit(2, "2150-01-02 10:00", "2150-01-05 10:00"),
            [2, 8],
            id="moved at 24 h, without a gap",
        ),
        pytest.param(
            BORN + visit(1, "2150-01-01 10:00", "2150-01-05 20:00") + visit(2, "2150-01-06 20:01", "2150-01-09 10:00"),
            [8, 8],
            id="more than a day apart",
        ),
    ],
)  # fmt: skip
def test_who_is_at_risk_of_death(events: Draw, story: str, steps: list[int]) -> None:
    assert left_at(events(HEADER + story), "mortality") == steps


def test_a_birth_300_years_back_is_an_adult(events: Draw) -> None:
    story = "1 | 1850-06-01 00:00 | MEDS_BIRTH | \n" + visit(1, "2150-01-01 10:00", "2150-01-05 12:00")
    assert left_at(events(HEADER + story), "mortality") == [8]


def test_death_after_a_transfer_belongs_to_the_stay(events: Draw) -> None:
    story = visit(1, "2150-01-01 10:00", "2150-01-03 10:00", "TRANSFER") + visit(
        2, "2150-01-03 12:00", "2150-01-09 10:00", "DIED"
    )
    (row,) = cohort(events(HEADER + BORN + story), "mortality")
    assert (row["stay_id"], row["boolean_value"]) == (1, True)


def test_death_after_discharge_is_not_death_in_hospital(events: Draw) -> None:
    story = visit(1, "2150-01-01 10:00", "2150-01-05 10:00") + "1 | 2150-01-06 00:00 | MEDS_DEATH | "
    (row,) = cohort(events(HEADER + BORN + story), "mortality")
    assert row["boolean_value"] is False


def test_readmission_is_predicted_at_discharge(events: Draw) -> None:
    story = visit(1, "2150-01-01 10:00", "2150-01-05 12:00") + visit(
        2, "2150-02-04 12:00", "2150-02-09 10:00"
    )
    first, second = cohort(events(HEADER + BORN + story), "readmission")
    assert first["prediction_time"] == dt.datetime(2150, 1, 5, 12)
    assert (first["boolean_value"], first["outcome_time"]) == (True, dt.datetime(2150, 2, 4, 12))
    assert (second["boolean_value"], second["outcome_time"]) == (False, None)


@pytest.mark.parametrize(
    ("following", "outcome"),
    [
        (visit(2, "2150-02-04 12:01", "2150-02-09 10:00"), "not_readmitted"),
        (visit(2, "2150-01-20 12:00", "2150-02-09 10:00", kind="ELECTIVE"), "planned_return"),
        (visit(2, "2150-01-20 12:00", "2150-02-09 10:00", kind="OTHER"), "readmitted"),
        (visit(2, "2150-01-20 12:00", "2150-01-21 10:00", kind="OBSERVATION"), "not_readmitted"),
        ("1 | 2150-01-20 00:00 | MEDS_DEATH | ", "died_after_discharge"),
    ],
)
def test_what_counts_as_readmission(events: Draw, following: str, outcome: str) -> None:
    """Death within 30 days competes with readmission: such a patient stays, as not readmitted, and is counted."""
    story = BORN + visit(1, "2150-01-01 10:00", "2150-01-05 12:00") + following
    first = cohort(events(HEADER + story), "readmission")[0]
    assert (first["outcome"], first["boolean_value"]) == (outcome, outcome == "readmitted")


@pytest.mark.parametrize("destination", ["DIED", "HOSPICE", "TRANSFER"])
def test_who_was_not_sent_home_can_not_be_readmitted(events: Draw, destination: str) -> None:
    story = BORN + visit(1, "2150-01-01 10:00", "2150-01-05 12:00", destination)
    assert left_at(events(HEADER + story), "readmission") == [6]


def test_stays_a_day_apart_are_a_transfer_and_not_a_readmission(events: Draw) -> None:
    story = visit(1, "2150-01-01 10:00", "2150-01-05 12:00") + visit(
        2, "2150-01-06 12:00", "2150-01-09 10:00"
    )
    (row,) = cohort(events(HEADER + BORN + story), "readmission")
    assert (row["prediction_time"], row["boolean_value"]) == (dt.datetime(2150, 1, 9, 10), False)


def test_readmission_needs_30_days_of_follow_up(events: Draw) -> None:
    """Of a patient who came back as of one who did not: else the newest enter only if they came back."""
    story = (
        BORN
        + visit(1, "2150-01-01 10:00", "2150-01-05 12:00")
        + visit(2, "2150-01-10 12:00", "2150-01-12 10:00")
    )
    drawn = events(HEADER + story)
    assert left_at(drawn, "readmission", dt.datetime(2150, 2, 4, 11, 59)) == [7, 7]
    assert left_at(drawn, "readmission", dt.datetime(2150, 2, 4, 12)) == [7, 8]


def test_as_of_sees_what_was_known_by_then(events: Draw) -> None:
    drawn = events("""
        subject_id | time             | available_time   | code                          | visit_id | event_id
        1          | 2080-06-01 00:00 | 2080-06-01 00:00 | MEDS_BIRTH                    |          | 1
        1          | 2150-01-01 10:00 | 2150-01-01 10:00 | HOSPITAL_ADMISSION//EMERGENCY | 1        | 2
        1          | 2150-01-05 12:00 | 2150-01-05 12:00 | HOSPITAL_DISCHARGE//HOME      | 1        | 3
        1          | 2150-01-05 12:00 | 2150-02-20 12:00 | HOSPITAL_DISCHARGE//DIED      | 1        | 3
        """)
    assert left_at(drawn, "mortality", dt.datetime(2150, 1, 5, 11)) == [4]
    assert left_at(drawn, "mortality", dt.datetime(2150, 1, 6, 11)) == [7]
    (early,) = cohort(drawn, "mortality", dt.datetime(2150, 1, 6, 12))
    (late,) = cohort(drawn, "mortality")
    assert (early["boolean_value"], late["boolean_value"]) == (False, True)


def story_of(subjects: range) -> str:
    text = (
        BORN
        + visit(1, "2150-01-01 10:00", "2150-01-05 12:00")
        + visit(2, "2150-01-20 12:00", "2150-01-25 12:00")
    )
    return HEADER + "".join(text.replace("1 |", f"{s} |", 1).replace("\n1 |", f"\n{s} |") for s in subjects)


def test_stage_writes_the_cohort_with_its_flow(settings: Settings, events: Draw, land_events: Land) -> None:
    ref = land_events(events(story_of(range(1, 6))), 3)
    params = labels.Params(dataset="test", source="mimic-iv", events=ref, task="readmission")
    result = labels.run(params, settings, "key-1")
    assert result.flow == {
        "visits": 10, "inpatient": 10, "stays": 10, "adults": 10, "ended": 10, "clear_about_death": 10,
        "at_risk": 10, "followed_up": 10,
    }  # fmt: skip
    assert result.outcomes == {
        "readmitted": 5, "planned_return": 0, "died_after_discharge": 0, "not_readmitted": 5,
    }  # fmt: skip
    assert (result.at_risk, result.positives) == (10, 5)
    rows = lake.read(settings, result.labels)
    assert rows.num_rows == 10
    assert set(rows["shard"].to_pylist()) == {0, 1, 2}
    assert labels.run(params, settings, "key-1").labels == result.labels, "a repeated call finds its commit"


@pytest.mark.parametrize("shards", [1, 4, 11])
def test_every_patient_is_labelled_whatever_number_of_shards_silver_wrote(
    settings: Settings, events: Draw, land_events: Land, shards: int
) -> None:
    """The number is read from the table: nobody can say another one."""
    ref = land_events(events(story_of(range(1, 9))), shards)
    assert "shards" not in labels.Params.model_fields
    result = labels.run(
        labels.Params(dataset="test", source="mimic-iv", events=ref, task="readmission"), settings, "key"
    )
    rows = lake.read(settings, result.labels)
    assert set(rows["subject_id"].to_pylist()) == set(range(1, 9))
    assert set(rows["shard"].to_pylist()) == {subject % shards for subject in range(1, 9)}


def test_source_that_can_not_support_the_task_is_refused_in_a_sentence(
    settings: Settings, events: Draw, land_events: Land
) -> None:
    drawn = events(HEADER + BORN + "1 | 2150-01-01 10:00 | HOSPITAL_ADMISSION//URGENT | 1")
    params = labels.Params(dataset="test", source="omop", events=land_events(drawn, 2), task="mortality")
    with pytest.raises(
        QualityError,
        match=r"omop can't support the mortality task .* it has no stays that have ended \(fewer than 10",
    ):
        labels.run(params, settings, "key-2")


def test_a_task_without_any_of_its_measurements_is_refused() -> None:
    params = labels.Params(
        dataset="d",
        source="mimic-iv",
        events=TableRef(dataset="d", table="events", table_id="x", version=0),
        task="mortality",
        absent=("hosp/labevents", "icu/chartevents", "note/discharge"),
    )
    with pytest.raises(
        QualityError, match=r"no laboratory and no vital signs \(hosp/labevents, icu/chartevents"
    ):
        labels.refuse_lacking(params)
    labels.refuse_lacking(params.model_copy(update={"task": "readmission"}))
    labels.refuse_lacking(params.model_copy(update={"absent": ("icu/chartevents",)}))
