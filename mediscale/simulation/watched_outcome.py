"""Outcome of watching a hospital in which a change was planted: when it was noticed, by what, and the decision."""

from collections.abc import Iterator
from typing import Any

from data_pipeline.synthetic.analyser import READS_HIGH
from mediscale.core.refs import Frozen
from mediscale.simulation.planted_changes import PLANTED_DAY, Change
from monitoring.drift import drift

FOLLOW_UP = 7
"""Days from a prediction until its outcome is certain."""
WINDOW = 7
"""Days of a window of performance."""
DAYS = 35


class Outcome(Frozen):
    """What came of one change."""

    change: str
    planted: bool
    days_before: int
    """Days whose windows were judged before anything was planted; all of them where nothing is."""
    drifted_before: tuple[int, ...]
    """Those that were called drifted: false alarms."""
    alarms_before: int
    """Figures of measured windows from before that raised an alarm: false ones, too."""
    drifted_after: tuple[int, ...]
    columns: tuple[str, ...]
    """That drifted on the first of these days."""
    alarm_day: int | None
    """First day on which a figure of outcomes raised an alarm, once the change was there."""
    alarms: tuple[str, ...]
    """These figures, in words."""
    retrain_day: int | None
    """First day on which the verdict was to retrain."""
    right: bool

    @property
    def summary(self) -> str:
        """A sentence for each of: false alarms, drift, outcomes, the decision."""
        before = f"{len(self.drifted_before)} of {self.days_before} days without it were called drifted"
        lines = [f"false alarms: {before}, and {self.alarms_before} figures of outcomes raised one"]
        if self.drifted_after:
            delay, named = self.drifted_after[0] - PLANTED_DAY + 1, ", ".join(self.columns[:4])
            lines.append(f"drift on day {delay} ({named})")
        if self.alarm_day is not None:
            lines.append(
                f"by outcomes on day {self.alarm_day - PLANTED_DAY + 1} ({'; '.join(self.alarms[:2])})"
            )
        decided = "keep"
        if self.retrain_day is not None:
            decided = f"retrain on day {self.retrain_day - PLANTED_DAY + 1}" if self.planted else "retrain"
        return f"{'; '.join(lines)}. Decision: {decided}, which is {'right' if self.right else 'WRONG'}."


def judge(
    change: Change,
    windows: list[drift.Result],
    measured: list[tuple[int, tuple[Any, ...]]],
    retrain: list[int],
) -> Outcome:
    """The outcome of a change from what the stages said, day by day. What a measured window raises belongs to the
    change where the window began after it."""
    drifted = [day for day, window in enumerate(windows) if window.drifted]
    planted = PLANTED_DAY if change.signal else DAYS
    began = planted + WINDOW + FOLLOW_UP - 1
    before, after = [(d, a) for d, a in measured if d < began], [(d, a) for d, a in measured if d >= began]
    raised = next(((day, alarms) for day, alarms in after if alarms), None)
    first = next((windows[day] for day in drifted if day >= planted), None)
    decided = next((day for day in retrain if day >= planted or not change.signal), None)
    outcome = Outcome(
        change=change.name,
        planted=bool(change.signal),
        days_before=min(planted, len(windows)),
        drifted_before=tuple(day for day in drifted if day < planted),
        alarms_before=sum(len(alarms) for _, alarms in before),
        drifted_after=tuple(day for day in drifted if day >= planted),
        columns=tuple(_columns(first)) if first else (),
        alarm_day=raised[0] if raised else None,
        alarms=tuple(alarm.sentence for alarm in raised[1]) if raised else (),
        retrain_day=decided,
        right=False,
    )
    return outcome.model_copy(update={"right": _is_right(change, outcome, raised[1] if raised else ())})


def _columns(window: drift.Result) -> Iterator[str]:
    yield from (column.column for column in window.drifted_columns)
    yield from (f"{column.column} missing" for column in window.drifted_missing)
    if window.prediction is not None and window.prediction.drifted:
        yield window.prediction.column


def _is_right(change: Change, outcome: Outcome, alarms: tuple[Any, ...]) -> bool:
    """Whether what had to notice the change did, and the decision follows; where nothing happens, none does."""
    if not change.signal:
        return outcome.retrain_day is None
    noticed = {
        "inputs": any(column.startswith(tuple(READS_HIGH)) for column in outcome.columns),
        "performance": any(not alarm.attribute for alarm in alarms),
    }.get(change.signal, any(alarm.attribute == change.signal for alarm in alarms))
    return noticed and outcome.retrain_day is not None
