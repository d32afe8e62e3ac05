"""Windows over a patient's record that end at a moment: which rows each prediction sees, and their statistics.

No prediction gets a row that was not known at its time. Everything is flat arrays: pairs (prediction, row), grouped by
what the row is about; nothing loops over patients.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from data_pipeline.cohort.bitemporal import Floats, Ints, microseconds

Bools = npt.NDArray[np.bool_]
Kinds = npt.NDArray[np.uint8]

HOUR = 3_600_000_000
DAY = 24 * HOUR


@dataclass(frozen=True)
class Rows:
    """Assertions of interest, ordered by subject and time; times in microseconds."""

    subject: Ints
    time: Ints
    available: Ints
    until: Ints
    """When a later assertion of the same event took this one's place."""
    value: Floats
    kind: Kinds
    about: Ints
    """A diagnosis's groups as bits; of any other row the visit, 0 where it has none."""

    def where(self, chosen: Bools | Ints) -> "Rows":
        return Rows(*(getattr(self, field)[chosen] for field in self.__dataclass_fields__))

    def ordered(self, ids: Ints) -> "Rows":
        """Sorted by subject and time and, among values of one kind, by known time and event: so that sums have the
        same bits whatever order the rows came in. Nearly free for silver's rows, which are sorted but for such ties."""
        subject, time = self.subject, self.time
        moved = (subject[1:] < subject[:-1]) | ((subject[1:] == subject[:-1]) & (time[1:] < time[:-1]))
        order = np.lexsort((time, subject)) if moved.any() else np.arange(len(subject))
        subject, time = subject[order], time[order]
        later = (subject[1:] != subject[:-1]) | (time[1:] != time[:-1])
        slot = np.cumsum(np.append(0, later))[: len(subject)] * 256 + self.kind[order]
        alike = np.sort(slot)
        alike = alike[1:][alike[1:] == alike[:-1]]
        if len(alike):
            tied = np.flatnonzero(np.isin(slot, alike))
            among = order[tied]
            order[tied] = among[np.lexsort((ids[among], self.available[among], slot[tied]))]
        return self.where(order) if len(alike) or moved.any() else self


@dataclass(frozen=True)
class Asked:
    """The predictions: whose, in a stay that began when, at what time; in microseconds."""

    subject: Ints
    admission: Ints
    at: Ints

    @classmethod
    def of(cls, predictions: pa.Table) -> "Asked":
        subject = np.asarray(predictions["subject_id"].to_numpy())
        return cls(
            subject, microseconds(predictions["admission_time"]), microseconds(predictions["prediction_time"])
        )

    def sees(self, rows: Rows, start: Ints | None = None) -> tuple[Ints, Ints]:
        """Index pairs (prediction, row): true after ``start`` (None: ever) and up to the prediction's time, and
        believed at that time. In order of prediction, then of row."""
        first = np.searchsorted(rows.subject, self.subject, "left")
        last = np.searchsorted(rows.subject, self.subject, "right")
        low = first if start is None else _bisect(rows.time, first, last, start)
        high = _bisect(rows.time, low, last, self.at)
        n = high - low
        prediction = np.repeat(np.arange(len(n)), n)
        row = np.arange(len(prediction)) + np.repeat(low - (np.cumsum(n) - n), n)
        at = self.at[prediction]
        believed = (rows.available[row] <= at) & (at < rows.until[row])
        return prediction[believed], row[believed]


def _bisect(time: Ints, low: Ints, high: Ints, limit: Ints) -> Ints:
    """First index in each [low, high) whose time is beyond the limit: searchsorted within each subject's rows."""
    low, high = low.copy(), high.copy()
    while (unsure := low < high).any():
        middle = (low + high) // 2
        within = unsure & (time[np.where(unsure, middle, 0)] <= limit)
        low = np.where(within, middle + 1, low)
        high = np.where(unsure & ~within, middle, high)
    return low


@dataclass(frozen=True)
class Groups:
    """Values grouped by what they are of and for which prediction, in time order within a group.

    ``hours`` are from the prediction's time, so zero or negative.
    """

    kind: Kinds
    prediction: Ints
    hours: Floats
    value: Floats
    starts: Ints
    n: Ints

    @classmethod
    def of(cls, kind: Kinds, prediction: Ints, hours: Floats, value: Floats) -> "Groups":
        changes = (kind[1:] != kind[:-1]) | (prediction[1:] != prediction[:-1])
        starts = np.flatnonzero(np.append(True, changes)[: len(kind)])
        return cls(kind, prediction, hours, value, starts, np.diff(np.append(starts, len(kind))))

    def where(self, chosen: Bools) -> "Groups":
        """Of the chosen values only."""
        return Groups.of(self.kind[chosen], self.prediction[chosen], self.hours[chosen], self.value[chosen])

    def write(self, stat: str, columns: Ints, found: Floats) -> None:
        """Puts a statistic into ``found[prediction, columns[kind]]``, where that column is not -1."""
        groups = self.where(columns[self.kind] >= 0) if stat == "trend" else self
        column = columns[groups.kind[groups.starts]]
        kept = column >= 0
        if kept.any():
            found[groups.prediction[groups.starts[kept]], column[kept]] = groups.statistic(stat)[kept]

    def statistic(self, stat: str) -> Floats:
        match stat:
            case "last":
                return np.asarray(self.value[self.starts + self.n - 1])
            case "min":
                return np.asarray(np.minimum.reduceat(self.value, self.starts))
            case "max":
                return np.asarray(np.maximum.reduceat(self.value, self.starts))
            case "sum":
                return self._total(self.value)
            case "mean":
                return self._total(self.value) / self.n
            case "count":
                return self.n.astype(np.float64)
            case "any":
                return np.ones(len(self.n))
            case "trend":
                return self._slope()
        raise ValueError(stat)

    def _total(self, of: Floats) -> Floats:
        return np.asarray(np.add.reduceat(of, self.starts))

    def _slope(self) -> Floats:
        """Least squares, per hour; NaN where all values have the same time."""
        hours = self.hours - np.repeat(self._total(self.hours) / self.n, self.n)
        spread = self._total(hours * hours)
        spread[self.hours[self.starts] == self.hours[self.starts + self.n - 1]] = np.nan
        return self._total(hours * self.value) / spread
