"""Risk set: who is at risk at a prediction time, by what was known then. These are the steps of a task's flow between
being there and having a label.

Labels, a hospital's daily predictions and the server ask the same function, so that a model is asked about whom it was
trained on.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial

import numpy as np
import pyarrow as pa

from data_pipeline.cohort.bitemporal import (
    FOREVER,
    HOUR,
    Bools,
    Floats,
    Ints,
    latest_until,
    map_codes,
    microseconds,
)
from data_pipeline.cohort.stays import TRANSFER_GAP, Stay
from data_pipeline.cohort.value_rises import risen
from mediscale.core.concepts import by_name
from mediscale.core.outcomes import FlowStep, ValueRise
from mediscale.core.task_features import code_pattern
from mediscale.core.tasks import Task

_VALUE = 0
"""The kind of the outcome's values; the task's exclusions follow."""


@dataclass(frozen=True)
class Assertions:
    """What one subject's record asserts of the values of an outcome and of a task's exclusions, in order of time.

    Times are microseconds since 1970; retracted assertions are not among them.
    """

    time: Ints
    available: Ints
    latest_until: Ints
    """When a later assertion of the same event superseded this one (``bitemporal.latest_until``)."""
    value: Floats
    kind: Ints

    def where(self, chosen: Bools | Ints) -> "Assertions":
        return Assertions(*(getattr(self, field)[chosen] for field in self.__dataclass_fields__))

    def as_of(self, at: int) -> "Assertions":
        """The assertions about what had happened by that moment, as they were known then.

        A value of 1.0 of 6 o'clock, known at once, is corrected to 1.4 at 8; each is seen from when it is known:

        >>> hours = [np.array(column) for column in ([6, 6], [6, 8], [8, FOREVER])]
        >>> corrected = Assertions(*hours, np.array([1.0, 1.4]), np.zeros(2, dtype=np.int64))
        >>> [corrected.as_of(hour).value.tolist() for hour in (5, 6, 7, 8)]
        [[], [1.0], [1.0], [1.4]]
        """
        return self.where((self.available <= at) & (at < self.latest_until) & (self.time <= at))

    def final(self) -> "Assertions":
        """The assertions that no later one superseded, whenever they were known."""
        return self.where(self.latest_until == FOREVER)

    def values(self, after: int) -> "Assertions":
        """The values of the outcome after a time."""
        return self.where((self.kind == _VALUE) & (self.time > after))


_NONE = np.empty(0, np.int64)
NOTHING = Assertions(_NONE, _NONE, _NONE, np.empty(0), _NONE)
"""Of a subject without any."""


def assertions(events: pa.Table, task: Task) -> Mapping[int, Assertions]:
    """The assertions that decide who is at risk, by subject; empty for a task without exclusions or baseline values.

    ``events`` has ``prediction_times.COLUMNS`` of all assertions.
    """
    kinds = _kinds(task)
    if not kinds:
        return {}
    until, parts = latest_until(events), []
    value = np.asarray(events["numeric_value"].to_numpy(), dtype=np.float64)
    retracted = np.asarray(events["retracted"].to_numpy(zero_copy_only=False), dtype=np.bool_)
    for kind, matches in kinds.items():
        chosen = map_codes(events["code"], matches, np.bool_) & ~retracted
        rows = np.flatnonzero(chosen & ~np.isnan(value) if kind == _VALUE else chosen)
        parts.append(np.stack([rows, np.full(len(rows), kind)]))
    row, kind_of = np.concatenate(parts, axis=1)
    subject = np.asarray(events["subject_id"].to_numpy())[row]
    time, available = (microseconds(events[name])[row] for name in ("time", "available_time"))
    order = np.lexsort((available, value[row], time, subject))
    every = Assertions(time, available, until[row], value[row], kind_of).where(order)
    subjects, first, rows = np.unique(subject[order], return_index=True, return_counts=True)
    return {
        int(one): every.where(np.arange(begin, begin + count))
        for one, begin, count in zip(subjects, first.tolist(), rows.tolist(), strict=True)
    }


def _kinds(task: Task) -> dict[int, Callable[[str], bool]]:
    kinds: dict[int, Callable[[str], bool]] = {}
    if isinstance(task.outcome, ValueRise):
        kinds[_VALUE] = by_name()[task.outcome.concept].code.__eq__
    for kind, exclusion in enumerate(task.at_risk.excluded, start=_VALUE + 1):
        kinds[kind] = partial(_is_one_of, tuple(code_pattern(code) for code in exclusion.codes))
    return kinds


def _is_one_of(patterns: tuple[re.Pattern[str], ...], code: str) -> bool:
    return any(pattern.fullmatch(code) for pattern in patterns)


def failed_step(own: Assertions, stay: Stay, task: Task, at: datetime) -> FlowStep | None:
    """The first step of the flow that a prediction at that time (naive UTC) does not pass, by what was known then; None
    where the patient is at risk."""
    visible, began = own.as_of(in_microseconds(at)), beginning(stay)
    for kind, exclusion in enumerate(task.at_risk.excluded, start=_VALUE + 1):
        present = visible.kind == kind
        if exclusion.window == "stay":
            present &= visible.time > began
        if present.any():
            return exclusion
    if not isinstance(task.outcome, ValueRise):
        return None
    values = visible.values(in_microseconds(at) - task.outcome.lookback_hours * HOUR)
    if not len(values.time):
        return task.outcome.baseline
    return task.outcome.first_onset if onsets(visible, stay, task.outcome).size else None


def onsets(own: Assertions, stay: Stay, outcome: ValueRise) -> Ints:
    """The times of the stay's values that had risen, in microseconds. Values from before it are baselines only."""
    began = beginning(stay)
    values = own.values(began - outcome.lookback_hours * HOUR)
    return values.time[risen(values.time, values.value, outcome) & (values.time > began)]


def beginning(stay: Stay) -> int:
    """When measurements of the stay begin (microseconds since 1970): already in the emergency department."""
    return in_microseconds(stay.admitted.time - TRANSFER_GAP)


def in_microseconds(time: datetime) -> int:
    """Microseconds since 1970 of a time in UTC without a zone."""
    return int(np.datetime64(time, "us").astype(np.int64))
