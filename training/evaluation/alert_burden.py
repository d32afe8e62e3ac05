"""Alert burden: what acting above the clinical threshold costs the ward, and what it brings in time.

A stay that is predicted once gives at most one alert. One that is predicted every few hours gives a new alert whenever
its risk reaches the threshold and did not at its prediction before; while it stays there, nobody is called again. The
sensitivity is then that of stays with the outcome, found by any prediction within the horizon of it; the yield is that
of new alerts; and the time to the outcome counts from the first prediction that found it.

Alerts are counted per 100 patient-days of the held-out stays: the days that their patients spend in hospital, from
admission to discharge or death, as a ward counts its occupied beds. Stays that end before the prediction time have days
and no alert and are not among them, and a server that is asked about a patient at other times may alert again: the
first makes a ward's own rate lower, the second higher.
Kipnis et al. 2016 (doi:10.1016/j.jbi.2016.09.013) set the threshold of such a model by this rate.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mediscale.core.errors import InputError
from mediscale.core.privacy import SMALL_COUNT
from mediscale.core.refs import TableRef
from mediscale.core.settings import Settings
from mediscale.storage import lake
from training import training_examples
from training.evaluation.evaluation_report import AlertBurden, LeadTime
from training.statistics.estimate import NOT_ESTIMABLE, Estimate
from training.statistics.metrics import Floats

if TYPE_CHECKING:
    from training.evaluation.performance import Performance

_HOUR, _DAY = np.timedelta64(1, "h"), np.timedelta64(1, "D")
_COLUMNS = ("admission_time", "discharge_time", "prediction_time", "outcome_time")
Rows = NDArray[np.bool_]
_QUARTILES = (0.25, 0.5, 0.75)


@dataclass(frozen=True)
class Course:
    """How long stays were, and how soon after the prediction time their outcomes came."""

    patient_days: Floats
    """(n): from admission to discharge or death, of the stay that each row is of."""
    lead_hours: Floats
    """(n): from the prediction time to the outcome, NaN where it did not happen."""


def load(settings: Settings, training_set: TableRef) -> Course:
    """The course of the held-out stays, in the order of ``training_examples.load``.

    Raises:
        InputError: an older version of MediScale made the table.
    """
    import pyarrow.compute as pc

    rows = lake.dataset(settings, training_set)
    if lacking := sorted(set(_COLUMNS) - set(rows.schema.names)):
        raise InputError(
            f"{training_set} lacks {' and '.join(lacking)}: an older version of MediScale made it; run again from "
            "labels on, in a home of this version."
        )
    table = rows.to_table(
        columns=["subject_id", "stay_id", *_COLUMNS], filter=pc.field("split") == "held_out"
    ).sort_by(training_examples.ORDER)
    admitted, discharged, predicted, happened = (
        np.asarray(table[name].to_numpy()).astype("datetime64[us]") for name in _COLUMNS
    )
    return Course((discharged - admitted) / _DAY, _hours(happened - predicted))


def _hours(spans: NDArray[np.timedelta64]) -> Floats:
    return np.where(np.isnat(spans), np.nan, spans / _HOUR)


def measure(held_out: "Performance", course: Course, threshold: float) -> AlertBurden | None:
    """The burden of alerts at ``threshold``; None where fewer than ten patients had, or had not, the outcome."""
    if not held_out.both_classes_are_many():
        return None
    y, resamples = held_out.rows.outcomes, held_out.resamples
    first = held_out.rows.first_of_stay
    alert = _new_alerts(held_out.risk >= threshold, first).astype(np.float64)
    detected = _first_of_each(first, (held_out.risk >= threshold) & (y == 1)).astype(np.float64)
    had = _first_of_each(first, y == 1).astype(np.float64)
    # Beside the stay's first row with the outcome, that of which the share is taken.
    found_of_had = had * np.isin(first, first[detected > 0])
    right = alert * y
    sensitivity, ppv = resamples.shares(
        np.stack([found_of_had, right], axis=1), np.stack([had, alert], axis=1)
    )
    days = course.patient_days * (first == np.arange(len(first)))
    return AlertBurden(
        threshold=threshold,
        alerts=int(alert.sum()),
        right_alerts=int(right.sum()),
        patient_days=float(days.sum()),
        alerts_per_100_patient_days=resamples.estimate(lambda w: 100 * (w @ alert) / (w @ days)),
        sensitivity=sensitivity,
        ppv=ppv,
        number_needed_to_evaluate=_reciprocal(ppv),
        lead_time=_lead_time(held_out, course.lead_hours, detected > 0),
    )


def _new_alerts(above: Rows, first_of_stay: NDArray[np.intp]) -> Rows:
    """New alerts: rows above the threshold whose stay was not above it at the row before (rows by stay and time)."""
    again = np.zeros(len(above), dtype=np.bool_)
    again[1:] = above[:-1] & (first_of_stay[1:] == first_of_stay[:-1])
    return above & ~again


def _first_of_each(first_of_stay: NDArray[np.intp], chosen: Rows) -> Rows:
    """The first chosen row of each stay."""
    rows = np.flatnonzero(chosen)
    _, at = np.unique(first_of_stay[rows], return_index=True)
    first = np.zeros(len(chosen), dtype=np.bool_)
    first[rows[at]] = True
    return first


def _reciprocal(share: Estimate) -> Estimate:
    """1/PPV (Romero-Brufau et al. 2015, doi:10.1186/s13054-015-0999-1), its ends those of the PPV turned round; without
    an upper end where the PPV may be 0."""
    if not share.value:
        return NOT_ESTIMABLE
    low, high = (1 / end if end else None for end in (share.high, share.low))
    return Estimate(value=1 / share.value, low=low, high=high)


def _lead_time(held_out: "Performance", hours: Floats, right: NDArray[np.bool_]) -> LeadTime | None:
    """Lead time from right alerts to outcomes; None where there were right alerts about fewer than ten patients."""
    part = held_out.part(right & np.isfinite(hours))
    if part.rows.patients < SMALL_COUNT:
        return None
    values = hours[right & np.isfinite(hours)]
    lower, median, upper = part.resamples.estimates(lambda w: weighted_quantiles(values, w, _QUARTILES))
    return LeadTime(counts=part.counts, lower_quartile=lower, median=median, upper_quartile=upper)


def weighted_quantiles(values: Floats, w: Floats, levels: tuple[float, ...]) -> Floats:
    """Quantiles (k, levels) of ``values`` (n) under whole weights ``w`` (k, n): the smallest value at or below which at
    least that share of the weight lies (definition 1 of Hyndman & Fan 1996, doi:10.1080/00031305.1996.10473566)."""
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(w[:, order], axis=1)
    shares = reached / np.maximum(reached[:, -1:], 1)
    at = [np.argmax(shares >= level - 1e-12, axis=1) for level in levels]
    quantiles = values[order][np.stack(at, axis=1)]
    return np.where(reached[:, -1:] > 0, quantiles, np.nan)
