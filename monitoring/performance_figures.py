"""Figures of a version's performance over time, from answers and outcomes that are in memory: no table is read here.

Measured ones come from the code that judges a version on held-out patients, with what it must reach; those of subgroups
have intervals that hold for all subgroups of a window together (``training.evaluation.subgroups``).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow.compute as pc

from mediscale.core.policy import Policy
from mediscale.core.privacy import is_small
from mediscale.core.refs import Frozen
from mediscale.core.tables import PERFORMANCE
from monitoring import estimated_performance
from monitoring.drift import drift
from training.evaluation import matured_outcomes, subgroups
from training.evaluation.evaluation_report import Evidence
from training.evaluation.performance import Performance
from training.statistics.bootstrap import Resamples
from training.statistics.estimate import NOT_ESTIMABLE, Estimate
from training.training_examples import ATTRIBUTES, Examples

if TYPE_CHECKING:
    import pyarrow as pa

_RESAMPLES = 500
Basis = Literal["measured", "estimated", "inputs"]
Limits = tuple[float | None, float | None]
"""What an interval must reach: from above the first, from below the second."""


class PerformanceAlarm(Frozen):
    """A figure of the newest measured window whose whole interval lies beyond what was promised."""

    metric: str
    attribute: str
    value: str
    sentence: str


@dataclass(frozen=True)
class Figure:
    """One row of the table, but for the version and the clock."""

    start: datetime
    end: datetime
    basis: Basis
    metric: str
    n: int | None
    events: int | None = None
    estimate: Estimate = NOT_ESTIMABLE
    limits: Limits = (None, None)
    attribute: str = ""
    value: str = ""

    @property
    def alarm(self) -> bool:
        """Whether the whole interval lies beyond a limit; never of an estimate."""
        low, high = self.limits
        too_low = low is not None and self.estimate.high is not None and self.estimate.high < low
        too_high = high is not None and self.estimate.low is not None and self.estimate.low > high
        return self.basis != "estimated" and (too_low or too_high)

    @property
    def sentence(self) -> str:
        """A sentence on a figure with an interval and a limit: its value, its window, and what was promised."""
        whose = f" of {self.attribute.replace('_', ' ')} {self.value}" if self.attribute else ""
        low, high = self.limits
        promised = " to ".join(f"{bound:.3g}" for bound in (low, high) if bound is not None)
        e = self.estimate
        return (
            f"{self.metric.replace('_', ' ')}{whose} {e.value:.3f} ({e.low:.3f} to {e.high:.3f}) from "
            f"{self.start:%Y-%m-%d} to {self.end:%Y-%m-%d}, where {promised} was promised"
        )


@dataclass(frozen=True)
class Judge:
    """What windows are held against: the policy of the task, and what held-out patients promised."""

    policy: Policy
    evidence: Evidence | None

    def of_windows(
        self,
        windows: Sequence[tuple[datetime, datetime]],
        answered: "pa.Table",
        labelled: "pa.Table | None",
        as_of: datetime,
    ) -> Iterator[Figure]:
        """The figures of every window that holds an answer. ``answered`` has columns of ``matured_outcomes.answers``
        and the attributes, ``labelled`` are the labels that are certain at ``as_of``."""
        age = matured_outcomes.maturity_age(labelled) if labelled is not None else None
        at = pc.field("predicted_at")
        for start, end in windows:
            rows = answered.filter((at >= start) & (at < end))
            if not rows.num_rows:
                continue
            if labelled is not None and age is not None and end <= as_of - age:
                yield from self._measured(start, end, matured_outcomes.join_outcomes(rows, labelled, as_of))
            else:
                yield from _estimated(start, end, rows)

    def _measured(self, start: datetime, end: datetime, rows: "pa.Table") -> Iterator[Figure]:
        performance = _performance(rows)
        counts: dict[str, Any] = {"n": performance.counts.n, "events": performance.counts.events}
        judged = performance.both_classes_are_many()
        promised = self._promised()
        figures = performance.all_metrics() if judged else {}
        alarms = next(performance.alarms([self.policy.clinical_threshold]), None) if judged else None
        flagged = performance.rows.where(performance.risk >= self.policy.clinical_threshold).patients
        if alarms is not None and not is_small(flagged):
            figures["ppv"] = alarms.ppv
        for metric in (*promised, *(name for name in figures if name not in promised)):
            estimate, limits = figures.get(metric, NOT_ESTIMABLE), promised.get(metric, (None, None))
            yield Figure(start, end, "measured", metric, **counts, estimate=estimate, limits=limits)
        if judged:
            yield from self._subgroups(start, end, performance)

    def _promised(self) -> dict[str, Limits]:
        """What the interval of a metric must reach: what held-out patients promised, else what the policy asks."""
        policy = self.policy
        auroc = self.evidence.metrics["auroc"].low if self.evidence else None
        return {
            "auroc": (auroc, None),
            "calibration_slope": policy.calibration_slope,
            "calibration_intercept": policy.calibration_intercept,
            "ppv": (1 / policy.alert_burden.number_needed_to_evaluate_max, None),
        }

    def _subgroups(self, start: datetime, end: datetime, performance: Performance) -> Iterator[Figure]:
        groups, _ = subgroups.judge(performance, self.policy)
        for group in groups:
            if group.counts is None and group.status != "estimated":
                continue
            whose: dict[str, Any] = {
                "n": None if group.counts is None else group.counts.n,
                "events": None if group.counts is None else group.counts.events,
                "attribute": group.attribute,
                "value": group.value,
            }
            gap, intercept = group.auroc_gap or NOT_ESTIMABLE, group.calibration_intercept or NOT_ESTIMABLE
            yield Figure(start, end, "measured", "auroc", **whose, estimate=group.auroc or NOT_ESTIMABLE)
            least = (-self.policy.subgroup_gap_max, None)
            yield Figure(start, end, "measured", "auroc_gap", **whose, estimate=gap, limits=least)
            both = self.policy.calibration_intercept
            yield Figure(
                start, end, "measured", "calibration_intercept", **whose, estimate=intercept, limits=both
            )


def _performance(rows: "pa.Table") -> Performance:
    times = rows["prediction_time"].to_numpy().astype("datetime64[us]")
    examples = Examples(
        subjects=rows["subject_id"].to_numpy(),
        times=times,
        outcomes=rows["boolean_value"].to_numpy(zero_copy_only=False).astype(np.float64),
        inputs=np.empty((rows.num_rows, 0), dtype=np.float32),
        attributes={name: np.asarray(rows[name].to_pylist(), dtype=np.str_) for name in ATTRIBUTES},
        admissions=times,
        stays=rows["stay_id"].to_numpy(),
    )
    return Performance(examples, rows["risk"].to_numpy(), Resamples(examples.subjects, _RESAMPLES, seed=0))


def _estimated(start: datetime, end: datetime, rows: "pa.Table") -> Iterator[Figure]:
    n = rows.num_rows
    risk, subjects = rows["risk"].to_numpy(), rows["subject_id"].to_numpy()
    many = not is_small(len(np.unique(subjects)))
    expected = estimated_performance.estimate(risk, subjects, _RESAMPLES) if many else {}
    for metric in estimated_performance.METRICS:
        yield Figure(start, end, "estimated", metric, n, estimate=expected.get(metric, NOT_ESTIMABLE))


def of_drift(window: drift.Result | None) -> Iterator[Figure]:
    """How many columns of a judged window drifted."""
    if window is None or not window.judged:
        return
    moved = len(window.drifted_columns) + len(window.drifted_missing)
    moved += window.prediction is not None and window.prediction.drifted
    yield of_moved(window.start, window.end, "drifted_columns", window.judged, moved)


def of_moved(start: datetime, end: datetime, metric: str, n: int, moved: int | None) -> Figure:
    """How many of the watched inputs drifted, None where that can't be said; one is one too many."""
    exact = None if moved is None else float(moved)
    estimate = Estimate(value=exact, low=exact, high=exact)
    return Figure(start, end, "inputs", metric, n, estimate=estimate, limits=(None, 0.0))


def rows(figures: Sequence[Figure], version: int, as_of: datetime) -> "pa.Table":
    """The figures of a version as rows of the table, without small counts."""
    import pyarrow as pa

    def row(figure: Figure) -> dict[str, Any]:
        n, events = figure.n, figure.events
        few = n is None or events is None or is_small(events) or is_small(n - events)
        return {
            "model_version": version,
            "window_start": figure.start,
            "window_end": figure.end,
            "basis": figure.basis,
            "attribute": figure.attribute,
            "value": figure.value,
            "metric": figure.metric,
            "n": None if n is None or is_small(n) else n,
            "events": None if few else events,
            "estimate": figure.estimate.value,
            "low": figure.estimate.low,
            "high": figure.estimate.high,
            "limit_low": figure.limits[0],
            "limit_high": figure.limits[1],
            "alarm": figure.alarm,
            "as_of": as_of,
        }

    return pa.Table.from_pylist([row(figure) for figure in figures], PERFORMANCE.arrow_schema())


def newest_alarms(figures: Sequence[Figure]) -> Iterator[PerformanceAlarm]:
    """The alarms of the newest measured window."""
    measured = [figure for figure in figures if figure.basis == "measured"]
    newest = max((figure.start for figure in measured), default=None)
    for f in measured:
        if f.start == newest and f.alarm:
            yield PerformanceAlarm(metric=f.metric, attribute=f.attribute, value=f.value, sentence=f.sentence)
