"""Promotion policy: what the model of one task must show, as the task's file declares it.

Every bound is declared before a version is evaluated. ``…_low`` is a bound on the lower end of a 95 % interval,
``…_max`` one on the upper end, unless it says otherwise.
"""

from typing import Literal, Self

from pydantic import Field, model_validator

from mediscale.core.concepts import FeatureGroup
from mediscale.core.refs import Frozen

EvidencePart = Literal[
    "discrimination",
    "net_benefit",
    "subgroups",
    "bedside_rule",
    "bedside_inputs",
    "alert_burden",
    "robustness",
    "files",
    "data_quality",
]
"""A part of the evidence that the policy may need for ``staging``."""


class AlertBurden(Frozen):
    """What acting above the clinical threshold may cost the ward, and what it must bring."""

    alerts_per_100_patient_days_max: float = Field(gt=0)
    number_needed_to_evaluate_max: float = Field(ge=1)
    """Alerts that are looked at for each one that is right."""
    sensitivity_low: float = Field(ge=0, le=1)
    lead_time_hours_low: float | None = Field(ge=0)
    """Of the median time from a right alert to the outcome; null for a declared outcome, of which no time is known."""


class Stress(Frozen):
    """One thing that is done to the inputs of held-out patients, and how much the answers may suffer from it."""

    kind: Literal["missing", "unavailable", "noise"]
    """``missing``: a share of what was measured or given is not there, at random. ``unavailable``: a whole group is not
    there. ``noise``: normal errors are added to measurements."""
    share: float | None = Field(None, gt=0, le=1)
    """Of the values that are missing; or the noise's standard deviation as a share of the measurement's own."""
    group: FeatureGroup | None = None
    auroc_loss_max: float | None = Field(None, ge=0)
    """Of the upper end of the paired interval of the loss, where values are missing or noisy."""
    auroc_low: float | None = Field(None, ge=0.5, le=1)
    """Of the AUROC without a group. Not of the loss: a model that makes good use of a laboratory has more to lose than
    one that ignores it, and would be refused for that."""
    intercept_shift_max: float = Field(ge=0)
    """Of the change of the calibration intercept either way, in log-odds; as for calibration itself the estimate
    has to lie within, and to have an interval."""

    @property
    def name(self) -> str:
        """The stress in a few words, such as "20% of values missing"."""
        if self.kind == "unavailable":
            return f"no {str(self.group).replace('_', ' ')}"
        kind = "of values missing" if self.kind == "missing" else "of a standard deviation as noise"
        return f"{self.share:.0%} {kind}"

    @property
    def is_outage(self) -> bool:
        return self.kind == "unavailable"

    @model_validator(mode="after")
    def _complete(self) -> Self:
        stated = [
            value is not None for value in (self.group, self.auroc_low, self.share, self.auroc_loss_max)
        ]
        if stated != [self.is_outage, self.is_outage, not self.is_outage, not self.is_outage]:
            raise ValueError(
                "give group and auroc_low with the kind unavailable, and share and auroc_loss_max with the others"
            )
        return self


class DataQuality(Frozen):
    """What validation may have said of the extract that the version was trained and judged on."""

    rule_share_max: float = Field(ge=0, le=1)
    """Share of all facts that break one rule; not of rules that a sound extract breaks any number of times."""
    unlisted_share_max: float = Field(ge=0, le=1)
    """Share of the records of a table whose word no list of the source has."""


class FileLimits(Frozen):
    """How large and how slow a version may be."""

    bytes_max: int = Field(gt=0)
    """Of the files that answer, together."""
    seconds_per_answer_max: float = Field(gt=0)
    """Of the slowest of the answers that were timed."""


_PERFECT_SLOPE, _PERFECT_INTERCEPT = 1.0, 0.0
"""Of a model whose risks are right."""


def _check_range(name: str, bounds: tuple[float, float], perfect: float) -> None:
    """Refuses a range of calibration that ends before it begins, or that a model whose risks are right is not in."""
    low, high = bounds
    if low > high:
        raise ValueError(f"{name} ends below its beginning")
    if not low <= perfect <= high:
        raise ValueError(f"{name} leaves out {perfect:g}, that of a model whose risks are right")


class SilentPeriod(Frozen):
    """What a version must have shown while it answered in shadow, before it may serve in production."""

    min_outcomes: int = Field(ge=1)
    """Predictions of this version whose outcome has matured."""
    min_events: int = Field(ge=1)
    auroc_low: float = Field(ge=0.5, lt=1)
    calibration_intercept: tuple[float, float]
    """Which the interval must reach."""

    @model_validator(mode="after")
    def _can_be_reached(self) -> Self:
        if self.min_events >= self.min_outcomes:
            raise ValueError("min_events is not below min_outcomes, of which events are a part")
        _check_range("calibration_intercept", self.calibration_intercept, _PERFECT_INTERCEPT)
        return self


class Policy(Frozen):
    """What one task's model must show on held-out patients, of its data, of its files and in silence."""

    clinical_threshold: float = Field(gt=0, lt=1)
    thresholds: tuple[float, ...]
    """Of the decision curve, in order; the clinical one is among them."""
    min_events: int = Field(ge=1)
    min_subjects: int = Field(ge=1)
    auroc_low: float = Field(ge=0.5, lt=1)
    suspicious_above: float = Field(gt=0.5, lt=1)
    """An AUROC above this is taken for a leak."""
    calibration_slope: tuple[float, float]
    calibration_intercept: tuple[float, float]
    net_benefit_over_alternatives_low: float
    subgroup_error_rate: float = Field(gt=0, lt=1)
    """Family-wise error rate of all subgroup floors together: how often at most they refuse a version by chance."""
    subgroup_gap_max: float = Field(ge=0, le=1)
    subgroup_min_events: int = Field(ge=1)
    subgroup_min_subjects: int = Field(ge=1)
    subgroup_unjudged: Literal["refuse", "limit"]
    """What a subgroup with too few patients or events does: it refuses the version, or is a limit that is named."""
    gain_over_bedside_low: float
    plain_auroc_low: float = Field(ge=0.5, lt=1)
    probability_better: float = Field(ge=0, le=1)
    alert_burden: AlertBurden
    stresses: tuple[Stress, ...]
    data_quality: DataQuality
    files: FileLimits
    silent_period: SilentPeriod | None = None
    """None: a version may serve without having answered in shadow."""
    staging_needs: tuple[EvidencePart, ...] = (
        "discrimination",
        "net_benefit",
        "subgroups",
        "bedside_rule",
        "bedside_inputs",
        "robustness",
        "files",
    )
    """Parts of the evidence without which a version may not even answer in shadow."""

    @model_validator(mode="after")
    def _judged_at_the_clinical_threshold(self) -> Self:
        if self.clinical_threshold not in self.thresholds:
            raise ValueError(f"thresholds lacks the clinical_threshold {self.clinical_threshold:g}")
        if sorted(set(self.thresholds)) != list(self.thresholds) or not all(
            0 < risk < 1 for risk in self.thresholds
        ):
            raise ValueError("thresholds are risks between 0 and 1, each once and in order")
        return self

    @model_validator(mode="after")
    def _bounds_leave_room(self) -> Self:
        if self.auroc_low >= self.suspicious_above:
            raise ValueError("auroc_low is not below suspicious_above, so every version would be refused")
        _check_range("calibration_slope", self.calibration_slope, _PERFECT_SLOPE)
        _check_range("calibration_intercept", self.calibration_intercept, _PERFECT_INTERCEPT)
        return self
