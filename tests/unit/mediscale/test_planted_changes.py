"""Planted changes: what each does to a day's patients, and what counts as the right decision."""

from datetime import timedelta

import numpy as np
import pytest

from data_pipeline.features import kernel
from data_pipeline.synthetic.analyser import READS_HIGH
from mediscale.core.refs import ModelRef
from mediscale.simulation import planted_changes, watched_outcome
from mediscale.simulation.planted_changes import CHANGES, PLANTED_DAY, Drawn
from mediscale.simulation.watched_hospital import OPENED
from mediscale.simulation.watched_outcome import DAYS, FOLLOW_UP, WINDOW
from monitoring.drift import drift
from monitoring.performance_figures import PerformanceAlarm

NAMES = kernel.names("mortality")
NOTHING, ANALYSER, OTHERS, WOMEN = CHANGES
MATURED = PLANTED_DAY + WINDOW + FOLLOW_UP - 1


@pytest.fixture
def day() -> Drawn:
    generator = np.random.default_rng(0)
    inputs = generator.uniform(1, 2, (4000, len(NAMES))).astype(np.float32)
    inputs[:, NAMES.index("sex_female")] = generator.integers(0, 2, 4000)
    inputs[:, NAMES.index("age_years")] = generator.uniform(20, 90, 4000)
    outcomes = (generator.random(4000) < inputs[:, NAMES.index("lactate_last_stay")] - 1).astype(np.float64)
    return Drawn(inputs, outcomes, NAMES, generator)


def test_an_analyser_s_readings_are_high_and_nothing_else_changes(day: Drawn) -> None:
    before = day.inputs.copy()
    planted_changes.analyser(day)
    changed = {name for i, name in enumerate(NAMES) if day.inputs[0, i] != before[0, i]}
    assert changed
    assert all(name.startswith(tuple(READS_HIGH)) and "_count_" not in name for name in changed)
    creatinine = NAMES.index("creatinine_last_stay")
    assert day.inputs[0, creatinine] == pytest.approx(before[0, creatinine] * READS_HIGH["creatinine"])


def test_other_patients_are_older_and_more_of_them_die(day: Drawn) -> None:
    age, died = day.inputs[:, NAMES.index("age_years")].mean(), day.outcomes.mean()
    planted_changes.other_patients(day)
    assert day.inputs[:, NAMES.index("age_years")].mean() > age + 10
    assert day.outcomes.mean() == pytest.approx(died + (1 - died) * 0.1, abs=0.02)


def test_as_many_women_die_whatever_is_measured(day: Drawn) -> None:
    women, lactate = (
        day.inputs[:, NAMES.index("sex_female")] == 1,
        day.inputs[:, NAMES.index("lactate_last_stay")],
    )
    outcomes, rate = day.outcomes.copy(), day.outcomes[women].mean()
    planted_changes.women_unlike(day)
    assert day.outcomes[women].mean() == rate
    assert (day.outcomes[~women] == outcomes[~women]).all()
    assert abs(np.corrcoef(lactate[women], day.outcomes[women])[0, 1]) < 0.1
    assert np.corrcoef(lactate[~women], day.outcomes[~women])[0, 1] > 0.3


def window(number: int, *columns: str) -> drift.Result:
    start = OPENED + timedelta(days=number)
    moved = tuple(
        drift.ColumnDrift(column=name, values=100, statistic=1, threshold=0.5, drifted=True)
        for name in columns
    )
    return drift.Result(
        dataset="d", task="mortality", model=ModelRef(name="m", version=1, uri="", digest=""), start=start,
        end=start + timedelta(days=1), n=120, judged=120, n_ad_hoc=0, drifted=bool(columns), summary="",
        drifted_columns=moved,
    )  # fmt: skip


def windows(**drifted: tuple[str, ...]) -> list[drift.Result]:
    return [window(number, *drifted.get(f"on_{number}", ())) for number in range(DAYS)]


def alarm(attribute: str = "", value: str = "") -> PerformanceAlarm:
    return PerformanceAlarm(metric="auroc", attribute=attribute, value=value, sentence=f"auroc {value} fell")


def test_where_nothing_happens_to_keep_is_right_and_false_alarms_are_counted() -> None:
    outcome = watched_outcome.judge(
        NOTHING, windows(on_3=("lactate_last_stay",)), [(13, ()), (MATURED, ())], []
    )
    assert (outcome.right, outcome.drifted_before, outcome.alarms_before) == (True, (3,), 0)
    assert outcome.summary.startswith(f"false alarms: 1 of {DAYS} days without it were called drifted")
    assert outcome.summary.endswith("Decision: keep, which is right.")
    assert not watched_outcome.judge(NOTHING, windows(), [], [20]).right


def test_the_analyser_must_be_named_and_the_decision_follow() -> None:
    named = windows(on_14=("creatinine_last_stay",))
    outcome = watched_outcome.judge(ANALYSER, named, [], [15])
    assert outcome.right
    assert "drift on day 1 (creatinine_last_stay)" in outcome.summary
    assert "retrain on day 2" in outcome.summary
    assert not watched_outcome.judge(ANALYSER, windows(on_14=("age_years",)), [], [15]).right
    assert not watched_outcome.judge(ANALYSER, named, [], []).right
    assert watched_outcome.judge(ANALYSER, named, [], []).summary.endswith("keep, which is WRONG.")


def test_outcomes_must_tell_a_shift_and_a_subgroup_apart() -> None:
    of_all, of_women = (MATURED, (alarm(),)), (MATURED, (alarm("sex", "female"),))
    assert watched_outcome.judge(OTHERS, windows(), [of_all], [MATURED]).right
    assert not watched_outcome.judge(OTHERS, windows(), [of_women], [MATURED]).right
    assert watched_outcome.judge(WOMEN, windows(), [of_women], [MATURED]).right
    assert not watched_outcome.judge(WOMEN, windows(), [of_all], [MATURED]).right
    early = watched_outcome.judge(WOMEN, windows(), [(13, (alarm("sex", "female"),)), of_women], [MATURED])
    assert (early.alarms_before, early.alarm_day) == (1, MATURED)
