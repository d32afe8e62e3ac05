"""A model's performance on held-out rows, each figure with its interval and what it rests on."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mediscale.core.errors import InputError
from mediscale.core.privacy import SMALL_COUNT, count
from training.evaluation.evaluation_report import (
    Alarms,
    Baseline,
    Benefit,
    Bin,
    Comparison,
    Counts,
    Curve,
    CurvePoint,
    Curves,
    Oracle,
    Together,
)
from training.statistics import curves, metrics
from training.statistics.bootstrap import Resamples, Weighted
from training.statistics.estimate import NOT_ESTIMABLE, Estimate
from training.statistics.metrics import Floats, Metric

if TYPE_CHECKING:
    from mediscale.core.refs import ModelRef
    from training.training_examples import Examples

METRICS: dict[str, Metric] = {
    "auroc": metrics.auroc,
    "auprc": metrics.auprc,
    "log_loss": metrics.log_loss,
    "brier": metrics.brier,
    "calibration_slope": metrics.calibration_slope,
    "calibration_intercept": metrics.calibration_intercept,
}
_BINS = 10
_BIN_ROWS = 30
"""Rows that a bin of the calibration curve holds at least; fewer say nothing."""
_TELL_THE_SHARE = frozenset({"auprc"})
"""Metrics from which the share with the outcome follows where risks are alike: withheld as the curves are."""
Rows = NDArray[np.bool_]


@dataclass(frozen=True)
class Performance:
    """Risks (n) given to held-out rows, and the resamples of their patients.

    Every figure of fewer than ``SMALL_COUNT`` patients is withheld, as not estimable: their outcomes would show.

    Raises:
        InputError: a risk is missing or no probability.
    """

    rows: "Examples"
    risk: Floats
    resamples: Resamples

    def __post_init__(self) -> None:
        wrong = int(np.count_nonzero(~((self.risk >= 0) & (self.risk <= 1))))
        if wrong:
            raise InputError(
                f"{count(wrong)} of {count(len(self.risk))} answers hold a risk that is missing or not between 0 and "
                "1; nothing is measured on them: restore the log or the model that they come from."
            )

    def estimate(self, metric: Metric) -> Estimate:
        """A metric of the risks, with its interval."""
        return self.of(metric, self.risk)

    def of(self, metric: Metric, risk: Floats) -> Estimate:
        """A metric of other risks for the same rows."""
        return self._estimate(lambda w: metric(self.rows.outcomes, risk, w))

    def gain(self, metric: Metric, other: Floats) -> Estimate:
        """This model's metric minus the other's, on the same resamples."""
        y = self.rows.outcomes
        return self._estimate(lambda w: metric(y, self.risk, w) - metric(y, other, w))

    def _estimate(self, figure: Weighted) -> Estimate:
        return self.estimates(lambda w: figure(w)[:, None])[0]

    def estimates(self, figures: Weighted) -> tuple[Estimate, ...]:
        """Several figures at once; ``figures`` takes weights (k, n) and returns (k, figures)."""
        if self.rows.patients >= SMALL_COUNT:
            return self.resamples.estimates(figures)
        n: int = figures(metrics.unweighted(self.rows.outcomes)).shape[1]
        return (NOT_ESTIMABLE,) * n

    def part(self, chosen: Rows) -> "Performance":
        """The performance on some of the rows, whose patients are resampled among themselves."""
        resamples = Resamples(self.rows.subjects[chosen], self.resamples.count, self.resamples.seed)
        return Performance(self.rows.where(chosen), self.risk[chosen], resamples)

    @property
    def counts(self) -> Counts:
        """Rows, outcomes and patients that the figures rest on."""
        stays = self.rows.stays_with_outcome
        return Counts(
            n=len(self.rows),
            events=self.rows.events,
            subjects=self.rows.patients,
            stays_with_outcome=stays if self.rows.repeated else None,
        )

    def all_metrics(self) -> dict[str, Estimate]:
        """Each of ``METRICS``, by name; without those that tell the share with the outcome where a class is few."""
        withheld = frozenset() if self.both_classes_are_many() else _TELL_THE_SHARE
        return {
            name: NOT_ESTIMABLE if name in withheld else self.estimate(metric)
            for name, metric in METRICS.items()
        }

    def all_curves(self) -> Curves:
        """The curves over all operating points; empty where a class has fewer than ``SMALL_COUNT`` patients."""
        if not self.both_classes_are_many():
            return Curves()
        return Curves(
            roc=self._curve(curves.roc, curves.SHARES, self.risk),
            precision_recall=self._curve(curves.precision_recall, curves.SHARES, self.risk),
            decision=self._curve(curves.decision, curves.THRESHOLDS, self.risk),
        )

    def alarms(self, thresholds: Sequence[float]) -> Iterator[Alarms]:
        """What acting at or above each threshold means; nothing where the curves are empty."""
        if self.both_classes_are_many():
            yield from map(self._alarms, thresholds)

    def _alarms(self, threshold: float) -> Alarms:
        rows = curves.alarms(self.rows.outcomes, self.risk, threshold)
        flag_rate, sensitivity, ppv = self.resamples.shares(*rows)
        return Alarms(threshold=threshold, flag_rate=flag_rate, sensitivity=sensitivity, ppv=ppv)

    def _curve(self, curve: curves.Curve, grid: Floats, risk: Floats) -> Curve:
        estimates = self.resamples.estimates(lambda w: curve(self.rows.outcomes, risk, w))
        return tuple(CurvePoint(x=float(x), y=y) for x, y in zip(grid, estimates, strict=True))

    def _line(self, score: Floats) -> tuple[float, ...]:
        if not self.both_classes_are_many():
            return ()
        outcomes = self.rows.outcomes
        return tuple(map(float, curves.roc(outcomes, score, metrics.unweighted(outcomes))[0]))

    def both_classes_are_many(self) -> bool:
        """Whether at least ``SMALL_COUNT`` patients have the outcome, and as many lack it."""
        outcomes = self.rows.outcomes
        return all(len(np.unique(self.rows.subjects[outcomes == k])) >= SMALL_COUNT for k in (0, 1))

    def calibration_curve(self) -> tuple[Bin, ...]:
        """Equal-sized bins of rising risk, as many as have rows enough and ``SMALL_COUNT`` patients each; none where
        that is one."""
        order = np.argsort(self.risk, kind="stable")
        for n in range(min(_BINS, len(self.rows) // _BIN_ROWS), 1, -1):
            bins = np.array_split(order, n)
            if all(len(np.unique(self.rows.subjects[members])) >= SMALL_COUNT for members in bins):
                return tuple(self._bin(np.sort(members)) for members in bins)
        return ()

    def _bin(self, members: NDArray[np.intp]) -> Bin:
        chosen = np.zeros(len(self.rows), dtype=np.bool_)
        chosen[members] = True
        part = self.part(chosen)
        outcomes = part.rows.outcomes[:, None]
        [rate] = part.resamples.shares(outcomes, np.ones_like(outcomes))
        return Bin(counts=part.counts, predicted=float(part.risk.mean()), observed=rate)

    def net_benefit(self, threshold: float) -> Benefit:
        """Net benefit per patient of acting at or above a threshold, beside acting on everybody and on nobody; not
        estimable where the curves are empty, for that of acting on everybody tells how many have the outcome."""
        if not self.both_classes_are_many():
            nothing = dict.fromkeys(("model", "treat_all", "over_best_alternative"), NOT_ESTIMABLE)
            return Benefit(threshold=threshold, **nothing)
        metric, everybody = metrics.net_benefit(threshold), np.ones(len(self.rows))
        y = self.rows.outcomes

        def over_alternatives(w: Floats) -> Floats:
            return metric(y, self.risk, w) - np.maximum(metric(y, everybody, w), 0)

        return Benefit(
            threshold=threshold,
            model=self.estimate(metric),
            treat_all=self.of(metric, everybody),
            over_best_alternative=self._estimate(over_alternatives),
        )

    def baseline(self, kind: str, name: str, source: str, risk: Floats) -> Baseline:
        """A simpler predictor by its risks or points (n) of the same rows."""
        return Baseline.model_validate(
            {
                "kind": kind,
                "name": name,
                "source": source,
                "auroc": self.of(metrics.auroc, risk),
                "gain": self.gain(metrics.auroc, risk),
                "roc": self._line(risk),
            }
        )

    def against_oracle(self, truth: Floats) -> Oracle:
        """The model beside the generator's probabilities ``truth`` (n), NaN where its file does not name the row."""
        part = self.part(np.isfinite(truth))
        oracle_risk = truth[np.isfinite(truth)]
        return Oracle(
            counts=part.counts,
            auroc=part.of(metrics.auroc, oracle_risk),
            model_auroc=part.estimate(metrics.auroc),
            gap=_negative(part.gain(metrics.auroc, oracle_risk)),
        )

    def together(self, table: Floats, notes: Floats, truth: Floats | None) -> Together:
        """The version, which reads table and notes, against each of them alone.

        ``table`` are the risks (n) by the table alone, ``notes`` the log-odds by the notes alone, NaN without any;
        ``truth`` are the generator's probabilities, NaN where unknown.
        """
        read = np.isfinite(notes)
        return Together(
            read=int(read.sum()),
            table_auroc=self.of(metrics.auroc, table),
            notes_auroc=self.part(read).of(metrics.auroc, notes[read]),
            auroc_gain=self.gain(metrics.auroc, table),
            log_loss_gain=_negative(self.gain(metrics.log_loss, table)),
            share_of_possible_gain=None if truth is None else self._share(table, truth),
        )

    def _share(self, table: Floats, truth: Floats) -> Estimate | None:
        """The share of the possible gain in AUROC that notes reach; None where the possible gain may be 0 or less."""
        part, finite = self.part(np.isfinite(truth)), np.isfinite(truth)
        y, table, truth = part.rows.outcomes, table[finite], truth[finite]

        def possible(w: Floats) -> Floats:
            return metrics.auroc(y, truth, w) - metrics.auroc(y, table, w)

        def share(w: Floats) -> Floats:
            with np.errstate(invalid="ignore", divide="ignore"):  # a resample without any possible gain
                return (metrics.auroc(y, part.risk, w) - metrics.auroc(y, table, w)) / possible(w)

        least = part.resamples.estimate(possible).low
        return part.resamples.estimate(share) if least is not None and least > 0 else None

    def comparison(self, incumbent: "ModelRef", risk: Floats) -> Comparison:
        """Against the production model's risks for the same rows."""
        y = self.rows.outcomes
        losses = self.resamples.values(
            lambda w: metrics.log_loss(y, risk, w) - metrics.log_loss(y, self.risk, w)
        )
        return Comparison(
            incumbent=incumbent,
            missing_inputs=0,
            auroc_gain=self.gain(metrics.auroc, risk),
            log_loss_gain=_negative(self.gain(metrics.log_loss, risk)),
            probability_better=None if self.rows.patients < SMALL_COUNT else float(np.mean(losses > 0)),
        )


def _negative(estimate: Estimate) -> Estimate:
    """The estimate of the opposite difference."""
    ends = (estimate.value, estimate.high, estimate.low)
    # a minus would make a nought less than nothing
    value, low, high = (None if x is None else 0.0 - x for x in ends)
    return Estimate(value=value, low=low, high=high)
