"""Point-in-time windows: the rows that are visible at each prediction time, and statistics over them.

A row is visible to a prediction only where it was known at the prediction time. All computation is on flat arrays of
pairs (prediction, row), grouped by the kind of value; nothing loops over patients.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from data_pipeline.cohort.bitemporal import HOUR, Bools, Floats, Ints, microseconds
from data_pipeline.cohort.stays import TRANSFER_GAP

Kinds = npt.NDArray[np.uint8]

STAY = "stay"
_BEFORE_ADMISSION = TRANSFER_GAP // timedelta(microseconds=1)
"""How long before admission the window ``stay`` begins, in microseconds."""
_WINDOW_HOURS = {"6h": 6, "24h": 24}


@dataclass(frozen=True)
class Rows:
    """Assertions that features are computed from, ordered by subject and time; times are microseconds since 1970."""

    subject: Ints
    time: Ints
    available: Ints
    latest_until: Ints
    """When a later assertion of the same event superseded this one (``bitemporal.latest_until``)."""
    value: Floats
    kind: Kinds
    """What the value is of: a concept, a treatment group or an administrative event, numbered in ``kinds``."""
    visit: Ints
    """The source's visit as ``visit_id``; 0 where the row has none."""
    diagnosis_bits: Ints
    """The comorbidity groups of a diagnosis as a bit set; 0 for other rows."""

    def where(self, chosen: Bools | Ints) -> "Rows":
        return Rows(*(getattr(self, field)[chosen] for field in self.__dataclass_fields__))

    @classmethod
    def concatenated(cls, parts: "Sequence[Rows]") -> "Rows":
        if len(parts) == 1:
            return parts[0]
        return cls(
            *(np.concatenate([getattr(p, field) for p in parts]) for field in cls.__dataclass_fields__)
        )

    def ordered(self, ids: Ints) -> "Rows":
        """The rows sorted by subject and time and, among values of one kind, by available time and event (``ids``).

        The order makes sums bit-equal whatever order the rows came in. It costs little for silver's rows, which are
        already sorted except for such ties.
        """
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
            tied_rows = order[tied]
            order[tied] = tied_rows[np.lexsort((ids[tied_rows], self.available[tied_rows], slot[tied]))]
        return self.where(order) if len(alike) or moved.any() else self


@dataclass(frozen=True)
class Predictions:
    """The predictions to compute features for; times are microseconds since 1970."""

    subject: Ints
    admission: Ints
    """When the stay began."""
    time: Ints
    """The prediction time."""

    @classmethod
    def of(cls, predictions: pa.Table) -> "Predictions":
        subject = np.asarray(predictions["subject_id"].to_numpy())
        return cls(
            subject, microseconds(predictions["admission_time"]), microseconds(predictions["prediction_time"])
        )

    def where(self, chosen: slice) -> "Predictions":
        return Predictions(self.subject[chosen], self.admission[chosen], self.time[chosen])

    def start(self, window: str) -> Ints:
        """When a window begins, for each prediction. It excludes its beginning and includes the prediction time."""
        if window == STAY:
            return self.admission - _BEFORE_ADMISSION
        return self.time - _WINDOW_HOURS[window] * HOUR

    def blocks(self, rows: Rows, max_pairs: int) -> Iterator[slice]:
        """Consecutive predictions of which each block has about ``max_pairs`` pairs with rows of its subjects."""
        n = np.searchsorted(rows.subject, self.subject, "right") - np.searchsorted(
            rows.subject, self.subject, "left"
        )
        ends = np.flatnonzero(np.diff(np.cumsum(n) // max_pairs, append=-1)) + 1
        begin = 0
        for end in ends.tolist():
            yield slice(begin, end)
            begin = end

    def visible_rows(self, rows: Rows, start: Ints | None = None) -> tuple[Ints, Ints]:
        """The rows visible to each prediction, as pairs of indices (prediction, row) in two arrays of one length.

        A visible row has ``start < time <= prediction time`` (``start`` None: no lower limit) and is the latest
        assertion of its event as of the prediction time. The pairs are ordered by prediction, then by row.

        A value of 1 h is known at 2 h and corrected at 4 h: the prediction at 3 h sees the first assertion (row 0), the
        one at 5 h the second (row 1).

        >>> from data_pipeline.cohort.bitemporal import HOUR
        >>> times, known, until = np.array([1, 1]) * HOUR, np.array([2, 4]) * HOUR, np.array([4, 9]) * HOUR
        >>> same = np.array([7, 7])
        >>> rows = Rows(same, times, known, until, *([np.zeros(2)] * (len(Rows.__dataclass_fields__) - 4)))
        >>> predictions = Predictions(same, np.zeros(2, dtype=np.int64), np.array([3, 5]) * HOUR)
        >>> [indices.tolist() for indices in predictions.visible_rows(rows)]
        [[0, 1], [0, 1]]
        """
        first = np.searchsorted(rows.subject, self.subject, "left")
        last = np.searchsorted(rows.subject, self.subject, "right")
        low = first if start is None else _bisect(rows.time, first, last, start)
        high = _bisect(rows.time, low, last, self.time)
        n = high - low
        prediction = np.repeat(np.arange(len(n)), n)
        row = np.arange(len(prediction)) + np.repeat(low - (np.cumsum(n) - n), n)
        at = self.time[prediction]
        latest = (rows.available[row] <= at) & (at < rows.latest_until[row])
        return prediction[latest], row[latest]


def _bisect(time: Ints, low: Ints, high: Ints, limit: Ints) -> Ints:
    """The first index in each [low, high) whose time is after the limit: ``searchsorted`` within a subject's rows."""
    low, high = low.copy(), high.copy()
    while (unfinished := low < high).any():
        middle = (low + high) // 2
        within = unfinished & (time[np.where(unfinished, middle, 0)] <= limit)
        low = np.where(within, middle + 1, low)
        high = np.where(unfinished & ~within, middle, high)
    return low


@dataclass(frozen=True)
class GroupedValues:
    """Values grouped by kind and prediction, in order of time within a group.

    ``hours`` are relative to the prediction time, so zero or negative. ``starts`` and ``n`` have one element for each
    group: the index of its first value, and its number of values.
    """

    kind: Kinds
    prediction: Ints
    hours: Floats
    value: Floats
    starts: Ints
    n: Ints

    @classmethod
    def of(cls, kind: Kinds, prediction: Ints, hours: Floats, value: Floats) -> "GroupedValues":
        changes = (kind[1:] != kind[:-1]) | (prediction[1:] != prediction[:-1])
        starts = np.flatnonzero(np.append(True, changes)[: len(kind)])
        return cls(kind, prediction, hours, value, starts, np.diff(np.append(starts, len(kind))))

    def where(self, chosen: Bools) -> "GroupedValues":
        """The chosen values, grouped in the same way."""
        return GroupedValues.of(
            self.kind[chosen], self.prediction[chosen], self.hours[chosen], self.value[chosen]
        )

    def write(self, stat: str, columns: Ints, features: Floats) -> None:
        """Writes a statistic into ``features[prediction, columns[kind]]`` where that column is not -1."""
        groups = self.where(columns[self.kind] >= 0) if stat == "trend" else self
        column = columns[groups.kind[groups.starts]]
        kept = column >= 0
        if kept.any():
            features[groups.prediction[groups.starts[kept]], column[kept]] = groups.statistic(stat)[kept]

    def statistic(self, stat: str) -> Floats:
        """The statistic of each group, shape ``[len(n)]``; ``trend`` is per hour, those of charting are in hours.

        Raises:
            ValueError: there is no such statistic.
        """
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
        return self._charting(stat)

    def _charting(self, stat: str) -> Floats:
        """Hours that tell how values were charted: since the newest, from one to the next, and the spread of these."""
        match stat:
            case "recency":
                return np.asarray(-self.hours[self.starts + self.n - 1])
            case "interval":
                return self._interval()
            case "irregularity":
                return self._irregularity()
        raise ValueError(stat)

    def _total(self, values: Floats) -> Floats:
        return np.asarray(np.add.reduceat(values, self.starts))

    def _interval(self) -> Floats:
        """The mean hours from one value to the next; NaN of a single value."""
        span = self.hours[self.starts + self.n - 1] - self.hours[self.starts]
        mean: Floats = np.divide(span, self.n - 1, out=np.full(len(span), np.nan), where=self.n > 1)
        return mean

    def _irregularity(self) -> Floats:
        """The standard deviation of the hours from one value to the next; NaN of fewer than three values."""
        gaps = np.diff(self.hours, prepend=0) - np.repeat(self._interval(), self.n)
        gaps[self.starts] = 0
        squares = self._total(gaps * gaps)
        variance = np.divide(squares, self.n - 1, out=np.full(len(squares), np.nan), where=self.n > 2)
        return np.asarray(np.sqrt(variance))

    def _slope(self) -> Floats:
        """The least-squares slope per hour; NaN where all values of a group have the same time."""
        hours = self.hours - np.repeat(self._total(self.hours) / self.n, self.n)
        spread = self._total(hours * hours)
        spread[self.hours[self.starts] == self.hours[self.starts + self.n - 1]] = np.nan
        return self._total(hours * self.value) / spread
