"""Acute kidney injury by creatinine, every six hours: KDIGO's two rises, first onset only, and who was measured again.

The brute force knows no arrays and no intervals of knowledge: it looks at each prediction by itself, with every fact
replayed from the assertions that were known at a time.
"""

import datetime as dt
from collections.abc import Callable
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import yaml

from data_pipeline.cohort import cohort_flow, prediction_times
from data_pipeline.features import gold, kernel
from mediscale.core import task_names, tasks
from mediscale.core.errors import UsageError
from mediscale.core.tables import EVENTS

Draw = Callable[[str], pa.Table]
TASK = "kidney_injury"
STEPS = [step.name for step in tasks.load(TASK).steps]
HEADER = "subject_id | time | available_time | code | numeric_value | visit_id\n"
STAY = (
    "1 | 1950-06-01 00:00 | 1950-06-01 00:00 | MEDS_BIRTH | |\n"
    "1 | 2150-01-01 10:00 | 2150-01-01 10:00 | HOSPITAL_ADMISSION//EMERGENCY | | 10\n"
    "1 | 2150-01-09 10:00 | 2150-01-09 10:00 | HOSPITAL_DISCHARGE//HOME | | 10\n"
)


def creatinine(*values: tuple[str, float]) -> str:
    return "".join(f"1 | 2150-{at} | 2150-{at} | LOINC//2160-0 | {value} | 10\n" for at, value in values)


def cohort(drawn: pa.Table, as_of: dt.datetime | None = None) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = cohort_flow.cohort(drawn, TASK, as_of, 0).to_pylist()
    return rows


def reached(drawn: pa.Table) -> tuple[str, str, dt.datetime | None]:
    """Of the prediction after 24 hours."""
    first = cohort(drawn)[0]
    return STEPS[first["steps"] - 1], first["outcome"], first["outcome_time"]


def test_nobody_is_at_risk_where_nobody_has_a_value(events: Draw) -> None:
    """As in a shard, an extract or a request without any creatinine."""
    drawn = events(HEADER + STAY)
    assert {row["steps"] for row in cohort(drawn)} == {STEPS.index("no_kidney_failure") + 1}
    period = (dt.datetime(2150, 1, 1), dt.datetime(2150, 2, 1))
    assert prediction_times.due_predictions(drawn, tasks.load(TASK), *period) == []


BEFORE = ("01-01 11:00", 1.0)
ONSET = dt.datetime(2150, 1, 3, 6)
LATER = dt.datetime(2150, 1, 4, 9)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ((BEFORE, ("01-03 06:00", 1.3)), ("measured_again", "kidney_injury", ONSET)),
        ((BEFORE, ("01-03 06:00", 1.29)), ("measured_again", "no_kidney_injury", None)),
        # After 48 hours a rise by 0.3 no longer counts, one to 1.5 times does.
        ((BEFORE, ("01-04 09:00", 1.4)), ("measured_again", "no_kidney_injury", None)),
        ((BEFORE, ("01-04 09:00", 1.5)), ("measured_again", "kidney_injury", LATER)),
        # The lowest of the days before counts, not the first.
        ((BEFORE, ("01-02 09:00", 0.8), ("01-03 06:00", 1.2)), ("measured_again", "kidney_injury", ONSET)),
        # Risen by the prediction time: no first onset. Beyond 48 hours after it: not this prediction's.
        ((BEFORE, ("01-02 10:00", 1.4), ("01-03 06:00", 2.8)), ("baseline_known", "", None)),
        ((BEFORE, ("01-03 06:00", 1.0), ("01-04 11:00", 3.0)), ("measured_again", "no_kidney_injury", None)),
        ((BEFORE, ("01-04 11:00", 3.0)), ("before_onset", "", None)),
        # Nothing to compare with, and with a value from before the stay.
        ((("01-03 06:00", 1.0),), ("no_kidney_failure", "", None)),
        ((("01-01 09:00", 0.6), ("01-03 06:00", 1.0)), ("measured_again", "kidney_injury", ONSET)),
    ],
)  # fmt: skip
def test_who_has_an_injury_of_the_kidney(
    events: Draw, values: tuple[tuple[str, float], ...], expected: tuple[str, str, dt.datetime | None]
) -> None:
    assert reached(events(HEADER + STAY + creatinine(*values))) == expected


def test_predictions_come_every_six_hours_until_the_onset(events: Draw) -> None:
    drawn = events(HEADER + STAY + creatinine(BEFORE, ("01-02 12:00", 1.1), ("01-03 06:00", 1.5)))
    rows = [row for row in cohort(drawn) if row["steps"] == len(STEPS)]
    first = dt.datetime(2150, 1, 2, 10)
    expected = [first + i * dt.timedelta(hours=6) for i in range(4)]
    assert [row["prediction_time"] for row in rows] == expected, "the next would be after the onset"
    assert all(row["boolean_value"] and row["outcome_time"] == ONSET for row in rows)
    assert [row["further"] for row in rows] == [False, True, True, True], "one row is the stay's in the flow"


@pytest.mark.parametrize(
    ("fact", "step"),
    [
        ("1 | 2150-01-02 09:00 | 2150-01-02 09:00 | TREATMENT//renal_replacement | | 10\n", "at_risk"),
        ("1 | 2149-05-02 09:00 | 2149-05-09 09:00 | ICD10CM//N186 | | 9\n", "no_dialysis"),
        # Coded after this stay, or ordered after the prediction: not known then.
        ("1 | 2150-01-01 10:00 | 2150-01-20 09:00 | ICD10CM//N186 | | 10\n", "measured_again"),
        ("1 | 2150-01-02 10:01 | 2150-01-02 10:01 | TREATMENT//renal_replacement | | 10\n", "measured_again"),
        ("1 | 2149-05-02 09:00 | 2149-05-02 09:00 | TREATMENT//renal_replacement | | 9\n", "measured_again"),
    ],
)
def test_who_is_on_dialysis_is_not_at_risk(events: Draw, fact: str, step: str) -> None:
    drawn = events(HEADER + STAY + creatinine(BEFORE, ("01-03 06:00", 1.3)) + fact)
    assert reached(drawn)[0] == step


@pytest.mark.parametrize(
    ("destination", "end", "outcome"),
    [
        ("DIED", "01-04 09:00", "died_before"),
        ("HOME", "01-04 09:00", "left_before"),
        ("HOME", "01-04 11:00", "no_kidney_injury"),
    ],
)
def test_what_ends_the_follow_up_is_shown(events: Draw, destination: str, end: str, outcome: str) -> None:
    stay = STAY.replace("01-09 10:00", end).replace("HOME", destination)
    drawn = events(HEADER + stay + creatinine(BEFORE, ("01-03 06:00", 1.0)))
    assert reached(drawn) == ("measured_again", outcome, None)


def test_a_value_that_was_known_late_makes_the_label_certain_late(events: Draw) -> None:
    late = creatinine(BEFORE, ("01-03 06:00", 1.3)).replace(
        "2150-01-03 06:00 | LOINC", "2150-02-01 00:00 | LOINC"
    )
    drawn = events(HEADER + STAY + late)
    assert {row["known_time"] for row in cohort(drawn) if row["outcome"]} == {dt.datetime(2150, 2, 1)}
    then = cohort(drawn, dt.datetime(2150, 1, 20))
    assert {row["outcome"] for row in then} == {""}, "then nothing was known to have been measured again"


def test_the_flow_counts_stays_and_predictions(events: Draw) -> None:
    rows = cohort(events(HEADER + STAY + creatinine(BEFORE, ("01-03 06:00", 1.3))))
    alike = [cohort_flow.FlowCount(row["steps"], row["outcome"], row["further"], 1) for row in rows]
    flow, outcomes = cohort_flow.flow_of(tasks.load(TASK), alike)
    assert (flow["visits"], flow["at_risk"], flow["measured_again"]) == (1, 1, 1)
    assert (flow["predictions_at_risk"], flow["predictions_before_onset"]) == (25, 4)
    assert flow["predictions_measured_again"] == 4
    assert (outcomes["kidney_injury"], outcomes["no_kidney_injury"]) == (4, 0)


# --- against brute force ------------------------------------------------------------------------------------------


class Fact(NamedTuple):
    """An assertion."""

    event: int
    time: dt.datetime
    known: dt.datetime
    code: str
    value: float | None
    retracted: bool = False


class Drawn(NamedTuple):
    """One patient's stay at random."""

    subject: int
    admitted: dt.datetime
    discharged: dt.datetime
    died: bool
    facts: list[Fact]


HOURS = dt.timedelta(hours=1)


def draw(rng: np.random.Generator, subject: int) -> Drawn:
    """A stay with a course of creatinine around it, reported late, corrected and withdrawn.

    Of every other subject all of it happens at a full hour, and so at the very time of a prediction, too.
    """

    def hours(low: int, high: int) -> dt.timedelta:
        return float(rng.integers(low, high) if subject % 2 else rng.uniform(low, high)) * HOURS

    admitted = dt.datetime(2150, 1, 10) + int(rng.integers(0, 48)) * HOURS
    discharged = admitted + hours(6, 260)
    facts, level = [], float(rng.uniform(0.6, 1.6))
    at = admitted - hours(0, 300)
    event = subject * 1000
    while at < discharged:
        level = max(0.3, level * float(np.exp(rng.normal(0.0, 0.08))))
        known = at + float(rng.choice([0, 1, 30], p=[0.2, 0.7, 0.1])) * HOURS
        facts.append(Fact(event, at, known, "LOINC//2160-0", round(level, 1)))
        turn = rng.random()
        if turn < 0.15:  # corrected, at the latest after the stay
            changed = round(level * float(rng.choice([0.5, 1.6])), 1)
            facts.append(facts[-1]._replace(known=known + hours(1, 300), value=changed))
        elif turn < 0.2:
            facts.append(facts[-1]._replace(known=known + hours(1, 300), retracted=True))
        event += 1
        at += float(rng.choice([6, 24, 60])) * HOURS
    if rng.random() < 0.2:
        at = admitted + hours(-40, 100)
        facts.append(Fact(event, at, at + 2 * HOURS, "TREATMENT//renal_replacement", None))
    if rng.random() < 0.1:
        facts.append(Fact(event + 1, admitted - 900 * HOURS, admitted - 700 * HOURS, "ICD9CM//5856", None))
    return Drawn(subject, admitted, discharged, bool(rng.random() < 0.5), facts)


def as_events(stays: list[Drawn]) -> pa.Table:
    rows: list[dict[str, Any]] = []
    for stay in stays:
        end = "DIED" if stay.died else "HOME"
        story = [
            Fact(stay.subject * 1000 + 900, dt.datetime(2090, 1, 1), dt.datetime(2090, 1, 1), "MEDS_BIRTH", None),
            Fact(stay.subject * 1000 + 901, stay.admitted, stay.admitted, "HOSPITAL_ADMISSION//URGENT", None),
            Fact(stay.subject * 1000 + 902, stay.discharged, stay.discharged, f"HOSPITAL_DISCHARGE//{end}", None),
        ]  # fmt: skip
        for fact in (*story, *stay.facts):
            visit = None if fact.code == "MEDS_BIRTH" else stay.subject * 10
            rows.append({
                "subject_id": stay.subject, "time": fact.time, "code": fact.code, "numeric_value": fact.value,
                "available_time": fact.known, "visit_id": visit, "event_id": fact.event, "retracted": fact.retracted,
            })  # fmt: skip
    return pa.Table.from_pylist(rows, schema=EVENTS.arrow_schema()).select(list(prediction_times.COLUMNS))


def replayed(facts: list[Fact], known_by: dt.datetime) -> list[Fact]:
    """What stood at a time, by the newest assertion of each event."""
    standing: dict[int, Fact] = {}
    for fact in sorted(facts, key=lambda fact: fact.known):
        if fact.known <= known_by:
            standing[fact.event] = fact
    return [fact for fact in standing.values() if not fact.retracted]


def first_rise(facts: list[Fact], stay: Drawn, until: dt.datetime) -> dt.datetime | None:
    values = sorted((f.time, f.value) for f in facts if f.code == "LOINC//2160-0" and f.value is not None)
    for time, value in values:
        if not stay.admitted - 24 * HOURS < time <= until:
            continue
        for earlier, base in values:
            age = (time - earlier) / HOURS
            if (0 < age <= 48 and value - base > 0.3 - 1e-6) or (
                0 < age <= 168 and value / base > 1.5 - 1e-6
            ):
                return time
    return None


def by_hand(stay: Drawn) -> list[tuple[dt.datetime, str, dt.datetime | None]]:
    """(prediction time, outcome, onset) of each prediction in the cohort."""
    finally_known, rows = replayed(stay.facts, dt.datetime.max), []
    for hours in range(24, 169, 6):
        at = stay.admitted + hours * HOURS
        if at >= stay.discharged:
            break
        then = [fact for fact in replayed(stay.facts, at) if fact.time <= at]
        dialysis = any(f.code.startswith("TREATMENT") and f.time > stay.admitted - 24 * HOURS for f in then)
        if dialysis or any(f.code.startswith("ICD") for f in then):
            continue
        baseline = any(f.code.startswith("LOINC") and (at - f.time) / HOURS < 168 for f in then)
        if not baseline or first_rise(then, stay, at) or first_rise(finally_known, stay, at):
            continue
        end = min(at + 48 * HOURS, stay.discharged)
        if not any(f.code.startswith("LOINC") and at < f.time <= end for f in finally_known):
            continue
        onset = first_rise(finally_known, stay, end)
        left = stay.discharged <= at + 48 * HOURS
        otherwise = "no_kidney_injury" if not left else "died_before" if stay.died else "left_before"
        rows.append((at, "kidney_injury" if onset else otherwise, onset))
    return rows


@pytest.mark.parametrize("seed", range(4))
def test_the_cohort_is_that_of_brute_force(seed: int) -> None:
    rng = np.random.default_rng(seed)
    stays = [draw(rng, subject) for subject in range(1, 61)]
    drawn = as_events(stays)
    drawn = drawn.take(rng.permutation(drawn.num_rows))
    rows: dict[int, list[Any]] = {stay.subject: [] for stay in stays}
    for row in cohort(drawn):
        if row["steps"] == len(STEPS):
            rows[row["subject_id"]].append((row["prediction_time"], row["outcome"], row["outcome_time"]))
    assert rows == {stay.subject: by_hand(stay) for stay in stays}
    outcomes = [outcome for own in rows.values() for _, outcome, _ in own]
    assert min(outcomes.count(c.name) for c in tasks.load(TASK).outcome.categories) > 0, "all of them occur"


def test_features_of_every_prediction_are_as_known_then_and_as_if_it_were_alone() -> None:
    rng = np.random.default_rng(4)
    drawn = as_events([draw(rng, subject) for subject in range(1, 31)])
    rows = cohort_flow.cohort(drawn, TASK, None, 0)
    predictions = rows.filter(pc.equal(rows["steps"], len(STEPS)))
    values = kernel.compute(drawn, predictions, TASK)
    assert gold.count_leaks(drawn, predictions, values, TASK) == 0
    assert predictions.num_rows > 2 * pc.count_distinct(predictions["stay_id"]).as_py()


def test_features_do_not_depend_on_how_predictions_are_put_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(5)
    drawn = as_events([draw(rng, subject) for subject in range(1, 31)])
    rows = cohort_flow.cohort(drawn, TASK, None, 0)
    predictions = rows.filter(pc.equal(rows["steps"], len(STEPS)))
    whole = kernel.compute(drawn, predictions, TASK)
    monkeypatch.setattr(kernel, "_MAX_PAIRS", 100)
    assert np.array_equal(kernel.compute(drawn, predictions, TASK), whole, equal_nan=True)


def test_a_round_asks_about_those_who_are_at_risk_by_what_is_known_then() -> None:
    """Rows of the cohort are asked about, and so is who turns out later to have been ill already, or is not measured
    again."""
    rng = np.random.default_rng(6)
    stays = [draw(rng, subject) for subject in range(1, 31)]
    drawn, task = as_events(stays), tasks.load(TASK)
    since = dt.datetime(2150, 1, 1)
    asked = set(prediction_times.due_predictions(drawn, task, since, dt.datetime(2150, 2, 28)))
    cohort_rows = {(stay.subject, at) for stay in stays for at, _, _ in by_hand(stay)}
    assert cohort_rows < asked
    nights = [since + i * dt.timedelta(days=1) for i in range(58)]
    each = [prediction_times.due_predictions(drawn, task, a, b) for a, b in pairwise(nights)]
    assert {one for night in each for one in night} >= cohort_rows, (
        "a night knows as much as each prediction did"
    )


@pytest.mark.parametrize(
    ("rise", "sentence"),
    [
        ({"within_hours": 48}, "give one of by and times"),
        ({"by": 0.3, "times": 1.5, "within_hours": 48}, "give one of by and times"),
        ({"times": 1, "within_hours": 48}, "must be above 1"),
    ],
)
def test_a_rise_that_is_none_is_refused(rise: dict[str, float], sentence: str) -> None:
    declared = yaml.safe_load((task_names.FOLDER / "optional" / "kidney_injury.yaml").read_text())
    changed = {**declared, "outcome": {**declared["outcome"], "rises": [rise]}}
    with pytest.raises(UsageError, match=sentence):
        tasks.parse("mine", yaml.safe_dump(changed))


@pytest.mark.parametrize(
    ("moment", "sentence"),
    [
        ({"every_hours": 6}, "every_hours and until_hours belong together"),
        ({"every_hours": 6, "until_hours": 24}, r"until_hours \(24\) must be later than hours_after \(24\)"),
        ({"every_hours": 6, "until_hours": 240}, "may_be_asked leaves out the prediction_time"),
    ],
)
def test_a_prediction_time_that_can_not_be_repeated_is_refused(moment: dict[str, int], sentence: str) -> None:
    declared = yaml.safe_load((task_names.FOLDER / "optional" / "kidney_injury.yaml").read_text())
    changed = {**declared, "prediction_time": {"anchor": "admission", "hours_after": 24, **moment}}
    with pytest.raises(UsageError, match=sentence):
        tasks.parse("mine", yaml.safe_dump(changed))
