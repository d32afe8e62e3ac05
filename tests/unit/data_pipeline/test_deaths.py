"""Four columns tell of one death (its time, the destination, a flag, a date) and may disagree; a time decides."""

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from data_pipeline.cohort import cohort_flow, labels
from mediscale.core import tasks

Draw = Callable[[str], pa.Table]

ADMITTED, DISCHARGED = dt.datetime(2150, 2, 1, 10), dt.datetime(2150, 2, 6, 12)
HOUR, DAY = dt.timedelta(hours=1), dt.timedelta(days=1)
LAST = len(tasks.load("mortality").steps)
UNCLEAR = [step.name for step in tasks.load("mortality").steps].index("clear_about_death")


@dataclass(frozen=True)
class Row:
    """What the columns of an extract say about one stay's patient."""

    deathtime: dt.datetime | None = None
    destination: str = "HOME"
    flag: int | None = 0
    dod: dt.datetime | None = None

    @property
    def date_tells_more(self) -> bool:
        """As the sources' files decide it: a date that agrees with the time of death is no event of its own."""
        return self.dod is not None and (
            self.deathtime is None or abs(self.dod.date() - self.deathtime.date()) > DAY
        )

    @property
    def says_died(self) -> bool:
        return self.destination == "DIED" or self.flag == 1

    def events(self) -> str:
        lines = [
            "subject_id | time | code | numeric_value | visit_id",
            "2 | 2080-06-01 00:00 | MEDS_BIRTH | |",
            f"2 | {ADMITTED} | HOSPITAL_ADMISSION//EMERGENCY | | 21",
            f"2 | {DISCHARGED} | HOSPITAL_DISCHARGE//{self.destination} | | 21",
        ]
        if self.flag is not None:
            lines.append(f"2 | {DISCHARGED} | HOSPITAL_EXPIRE_FLAG | {self.flag} | 21")
        if self.deathtime:
            lines.append(f"2 | {self.deathtime} | MEDS_DEATH | | 21")
        if self.dod and self.date_tells_more:
            lines.append(f"2 | {self.dod + DAY} | MEDS_DEATH | |")
        return "\n".join(lines)


def outcome(drawn: pa.Table, task: str) -> tuple[int, str, bool]:
    """How many steps the one stay passed, its outcome, and whether its columns contradict each other."""
    (row,) = cohort_flow.cohort(drawn, task, None, 0).to_pylist()
    return row["steps"], row["outcome"], row["contradiction"]


IN_STAY, CLERK, LATE = dt.datetime(2150, 2, 5, 8), dt.datetime(2150, 2, 7, 12), dt.datetime(2150, 2, 26, 8)
ON_DAY, BEFORE, AFTER = dt.datetime(2150, 2, 6), dt.datetime(2150, 2, 4), dt.datetime(2150, 2, 26)


@pytest.mark.parametrize(
    ("row", "mortality", "readmission", "contradiction"),
    [
        pytest.param(Row(), "left_alive", "not_readmitted", False, id="alive by all columns"),
        pytest.param(Row(IN_STAY, "DIED", 1), "died_in_hospital", "", False, id="dead by all columns"),
        pytest.param(Row(CLERK, "DIED", 1), "died_in_hospital", "", False, id="the clerk wrote it down a day later"),
        pytest.param(
            Row(dt.datetime(2150, 3, 15, 8)), "left_alive", "not_readmitted", True, id="37 days after discharge"
        ),
        pytest.param(Row(LATE), "left_alive", "died_after_discharge", True, id="20 days after discharge"),
        pytest.param(Row(IN_STAY), "died_in_hospital", "", True, id="a time within the stay, and home by all words"),
        pytest.param(Row(IN_STAY, flag=1), "died_in_hospital", "", True, id="a time and a flag, but home"),
        pytest.param(Row(IN_STAY, "DIED", 0), "died_in_hospital", "", True, id="a time and a destination, but no flag"),
        pytest.param(Row(IN_STAY, "OTHER", 1), "died_in_hospital", "", False, id="no destination"),
        pytest.param(Row(LATE, "DIED", 1), None, None, True, id="died here by the words, but 20 days after discharge"),
        pytest.param(Row(flag=1), None, None, True, id="a flag alone"),
        pytest.param(Row(None, "OTHER", 1), None, None, False, id="a flag alone, and no destination"),
        pytest.param(Row(None, "DIED", 1), "died_in_hospital", "", False, id="left dead, when discharged"),
        pytest.param(Row(None, "DIED", None), "died_in_hospital", "", False, id="left dead, and no flag in the row"),
        pytest.param(Row(None, "DIED", 0), None, None, True, id="left dead, and flagged alive"),
        pytest.param(Row(None, "HOME", 0, ON_DAY), "left_alive", "died_after_discharge", False, id="died that day"),
        pytest.param(Row(None, "HOME", 0, BEFORE), "died_in_hospital", "", True, id="home two days after the date"),
        pytest.param(Row(None, "HOME", 0, AFTER), "left_alive", "died_after_discharge", False, id="home, then died"),
        pytest.param(Row(None, "HOME", 1, ON_DAY), "died_in_hospital", "", True, id="a flag with a date that fits"),
        pytest.param(Row(None, "HOME", 1, AFTER), None, None, True, id="a flag with a later date"),
        pytest.param(Row(None, "DIED", 1, AFTER), None, None, True, id="left dead, with a later date"),
        pytest.param(Row(IN_STAY, "DIED", 1, AFTER), "died_in_hospital", "", True, id="a time, and a later date"),
    ],
)  # fmt: skip
def test_what_the_columns_say_together(
    events: Draw, row: Row, mortality: str | None, readmission: str | None, contradiction: bool
) -> None:
    """None: no label, at the step that says why. An empty outcome of readmission: not at risk, for the patient died."""
    drawn = events(row.events())
    for task, right in (("mortality", mortality), ("readmission", readmission)):
        steps = UNCLEAR if right is None else LAST if right else UNCLEAR + 1
        assert outcome(drawn, task) == (steps, right or "", contradiction)


@pytest.mark.parametrize(
    ("after", "right"),
    [
        (30 * DAY, "died_after_discharge"),
        (30 * DAY + dt.timedelta(minutes=1), "not_readmitted"),
        (dt.timedelta(days=36, hours=20), "not_readmitted"),
    ],
)
def test_a_death_competes_with_readmission_within_the_follow_up_only(
    events: Draw, after: dt.timedelta, right: str
) -> None:
    """Whoever lived through the whole follow-up without coming back was not readmitted, whatever came later.

    The case ``death-after-discharge`` of 37 days asks for ``died_after_discharge``; the task's file counts 30 days, as
    measures of readmission do, and its words for the flow are "died within 30 days". The label is False either way.
    """
    drawn = events(Row(DISCHARGED + after).events())
    assert outcome(drawn, "readmission") == (LAST, right, True)
    [row] = cohort_flow.cohort(drawn, "readmission", None, 0).to_pylist()
    assert (row["boolean_value"], row["outcome_time"]) == (False, None)


moments = st.integers(26, 40 * 24).map(lambda hours: ADMITTED + hours * HOUR)
rows = st.builds(
    Row,
    st.none() | moments,
    st.sampled_from(("HOME", "DIED", "OTHER", "FACILITY")),
    st.sampled_from((None, 0, 1)),
    st.none() | moments.map(lambda moment: dt.datetime.combine(moment.date(), dt.time())),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@example(Row(LATE))
@example(Row(flag=1))
@given(rows)
def test_a_time_decides_and_a_word_without_one_gives_no_label(events: Draw, row: Row) -> None:
    drawn = events(row.events())
    steps, died, contradiction = outcome(drawn, "mortality")
    home_steps, home, _ = outcome(drawn, "readmission")
    if row.deathtime and row.deathtime <= DISCHARGED + DAY:
        assert died == "died_in_hospital", "whatever the words say"
    if row.deathtime and row.deathtime > DISCHARGED + DAY and not row.says_died and row.dod is None:
        assert (died, contradiction) == ("left_alive", True)
        within = row.deathtime <= DISCHARGED + 30 * DAY
        assert home == ("died_after_discharge" if within else "not_readmitted")
    if row.deathtime is None and row.dod is None:
        assert (steps == UNCLEAR) == (row.says_died and (row.destination, row.flag) not in AGREE)
    if died == "died_in_hospital":
        latest = [time for time in (row.deathtime, row.dod) if time] or [DISCHARGED]
        assert min(latest) <= DISCHARGED + DAY, "never a death that every time puts after the stay"
    assert (steps == UNCLEAR) == (home_steps == UNCLEAR), "both tasks leave out the same stays"
    assert not (died == "died_in_hospital" and home), "who died in hospital can't be readmitted"
    if steps == UNCLEAR:
        assert row.says_died
        assert died == home == ""


AGREE = {("DIED", 1), ("DIED", None)}
"""Destinations and flags that are a death at the discharge, which is its time."""


def test_a_contradiction_is_counted_and_said() -> None:
    ref = {"dataset": "d", "table": "labels_mortality", "table_id": "x", "version": 0}
    counted = labels.Result.model_validate(
        {"labels": ref, "flow": {}, "outcomes": {}, "at_risk": 120, "positives": 30, "contradictions": 12}
    )
    assert labels.STAGE.summary(counted).endswith("; columns disagree about the death of 12")
    assert "disagree" not in labels.STAGE.summary(counted.model_copy(update={"contradictions": 0}))


ANOTHER = """
subject_id | time | code | numeric_value | visit_id
2 | 2080-06-01 00:00 | MEDS_BIRTH | |
2 | 2150-02-01 10:00 | HOSPITAL_ADMISSION//EMERGENCY | | 21
2 | 2150-02-06 12:00 | HOSPITAL_DISCHARGE//HOME | | 21
2 | 2150-02-20 10:00 | HOSPITAL_ADMISSION//EMERGENCY | | 22
2 | 2150-03-01 12:00 | HOSPITAL_DISCHARGE//OTHER | | 22
2 | 2150-02-27 08:00 | MEDS_DEATH | | 21
"""


def test_a_death_written_into_another_visit_s_row_belongs_to_the_stay_in_which_it_lies(events: Draw) -> None:
    flow = cohort_flow.cohort(events(ANOTHER), "mortality", None, 0).to_pylist()
    assert [(row["outcome"], row["contradiction"]) for row in flow] == [
        ("left_alive", True), ("died_in_hospital", False)
    ]  # fmt: skip


def _around(admission: str, end: str, last: str = "HOME") -> str:
    """A visit of nine days, and one of two days inside it; ``end`` are lines about the inner one's end."""
    return f"""
        subject_id | time | code | numeric_value | visit_id
        2 | 2080-06-01 00:00 | MEDS_BIRTH | |
        2 | 2150-02-01 10:00 | HOSPITAL_ADMISSION//EMERGENCY | | 21
        2 | 2150-02-10 12:00 | HOSPITAL_DISCHARGE//{last} | | 21
        2 | 2150-02-03 10:00 | HOSPITAL_ADMISSION//{admission} | | 22
        {end}"""


LEFT_DEAD = "2 | 2150-02-05 12:00 | HOSPITAL_DISCHARGE//DIED | | 22"
DIED = "2 | 2150-02-05 11:00 | MEDS_DEATH | | 22"


@pytest.mark.parametrize(
    ("drawn", "mortality", "contradiction"),
    [
        pytest.param(_around("URGENT", f"{LEFT_DEAD}\n{DIED}"), "died_in_hospital", True, id="a time decides"),
        pytest.param(_around("URGENT", LEFT_DEAD), "", True, id="a word against a word"),
        pytest.param(_around("URGENT", LEFT_DEAD, "DIED"), "died_in_hospital", False, id="two words agree"),
        pytest.param(_around("OBSERVATION", LEFT_DEAD), "died_in_hospital", True, id="left dead from observation"),
    ],
)  # fmt: skip
def test_a_death_in_a_visit_that_lies_inside_another_is_decided_by_its_time(
    events: Draw, drawn: str, mortality: str, contradiction: bool
) -> None:
    flow = cohort_flow.cohort(events(drawn), "mortality", None, 0).to_pylist()
    assert [
        (row["outcome"], row["contradiction"]) for row in flow if row["steps"] > 2 or row["contradiction"]
    ] == [(mortality, contradiction)]


def test_a_stay_ends_with_a_death_and_not_with_the_visit_around_it(events: Draw) -> None:
    drawn = events(_around("URGENT", f"{LEFT_DEAD}\n{DIED}"))
    flow = cohort_flow.cohort(drawn, "long_stay", None, 0).to_pylist()
    assert [row["boolean_value"] for row in flow if row["outcome"]] == [False]
