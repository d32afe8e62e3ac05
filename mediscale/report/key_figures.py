"""Key figures of a decided version: the four that a report and a model card begin with."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from mediscale.core.privacy import count
from mediscale.report import labels
from mediscale.report.charts import estimate_text, share

if TYPE_CHECKING:
    from mediscale.report.data import DecidedVersion
    from training.evaluation.evaluation_report import Alarms, Baseline


class Figure(NamedTuple):
    """What is measured, the figure with its interval, and what it means."""

    name: str
    value: str
    means: str


def of_version(decided: "DecidedVersion") -> Iterator[Figure]:
    """Discrimination, the gain over the bedside rule, calibration, and what acting on it finds."""
    evidence = decided.evidence
    auroc = evidence.metrics["auroc"]
    if auroc.value is not None:
        yield Figure(
            "Tells patients apart",
            estimate_text(auroc),
            f"AUROC: of one patient with the outcome and one without, the first gets the higher risk in "
            f"{100 * auroc.value:.0f} of 100 such pairs.",
        )
    bedside = next((b for b in evidence.baselines if b.kind == "bedside rule"), None)
    if bedside is not None:
        yield _beside(bedside)
    if evidence.calibration_curve:
        expected = sum(b.predicted * b.counts.n for b in evidence.calibration_curve)
        yield Figure(
            "Right on the whole",
            f"{expected:.0f} expected, {count(evidence.counts.events)} came",
            f"outcomes among the held-out {evidence.counts.unit}.",
        )
    alarms = next((a for a in evidence.alarms if a.threshold == decided.policy.clinical_threshold), None)
    if alarms is not None:
        yield _at_the_threshold(alarms, evidence.counts.unit)


def _beside(bedside: "Baseline") -> Figure:
    """The model beside the rule that a ward uses: better only where the whole interval says so."""
    gain = bedside.gain
    if gain.low is not None and gain.low > 0:
        return Figure(f"Better than {bedside.name} by", estimate_text(gain), "AUROC, on the same patients.")
    return Figure(
        f"Not shown to be better than {bedside.name}",
        estimate_text(gain),
        "AUROC above it on the same patients; the interval does not lie above 0.",
    )


def _at_the_threshold(alarms: "Alarms", unit: str) -> Figure:
    return Figure(
        f"Acting at a risk of {labels.percent(alarms.threshold)} finds",
        share(alarms.sensitivity),
        f"of the outcomes; {share(alarms.flag_rate)} of all {unit} are flagged, and {share(alarms.ppv)} of the flagged "
        "have the outcome.",
    )
