"""Evaluation report, on which a promotion rests: one file per version, canonical JSON, aggregates only."""

from typing import Any, Literal

from pydantic import SerializerFunctionWrapHandler, model_serializer

from mediscale.core.annotations import PatientCount
from mediscale.core.refs import Frozen, ModelRef, TableRef
from mediscale.core.settings import Settings
from mediscale.core.tasks import TaskName
from training.evidence_files import VersionEvidence, read_evidence
from training.leakage.certificate import LeakCertificate
from training.statistics.estimate import Estimate


class Counts(Frozen):
    """What an estimate rests on."""

    n: PatientCount
    """Rows: stays at a prediction time."""
    events: PatientCount
    """Rows with the outcome."""
    subjects: PatientCount
    stays_with_outcome: PatientCount | None = None
    """Where stays are predicted more than once: one outcome is that of several rows, and the evidence of one."""

    @model_serializer(mode="wrap")
    def _without_nothing(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        written: dict[str, Any] = serialize(self)
        return {name: value for name, value in written.items() if value is not None}

    @property
    def unit(self) -> str:
        """What the rows are called in sentences."""
        return "stays" if self.stays_with_outcome is None else "predictions"

    @property
    def independent_events(self) -> int:
        """Outcomes that came by themselves: what floors of events count."""
        return self.events if self.stays_with_outcome is None else self.stays_with_outcome


class Subgroup(Frozen):
    """One value of one attribute."""

    attribute: Literal["sex", "age_band", "ethnicity"]
    value: str
    counts: Counts | None
    """Null below ten patients: the outcome of one person may show through. Null, too, where those of so small a group
    would follow from it."""
    status: Literal["estimated", "too few", "not estimable"]
    auroc: Estimate | None = None
    auroc_gap: Estimate | None = None
    """AUROC of the group minus that of all patients, with an interval that holds for the whole family at once."""
    calibration_intercept: Estimate | None = None
    """With an interval of the same kind."""


class SubgroupFamily(Frozen):
    """What the simultaneous intervals of subgroups hold for (``training/evaluation/subgroups.py``)."""

    error_rate: float
    """How often, at most, one of the family's true values lies outside of its interval."""
    size: int
    """Figures in the family: two of each subgroup that can be judged."""
    critical_value: float | None
    """Half width of the intervals in standard errors; null where no figure has one."""


class Bin(Frozen):
    """One bin of the calibration curve: rows of similar predicted risk."""

    counts: Counts
    predicted: float
    observed: Estimate


class Benefit(Frozen):
    """Net benefit per patient at one threshold, beside acting on everybody; acting on nobody is 0."""

    threshold: float
    model: Estimate
    treat_all: Estimate
    over_best_alternative: Estimate
    """Model minus the better of treating all and treating none."""


class Alarms(Frozen):
    """What acting above one threshold means on the ward."""

    threshold: float
    flag_rate: Estimate
    """Share of all stays that are flagged."""
    sensitivity: Estimate
    """Share of the stays with the outcome that are flagged."""
    ppv: Estimate
    """Positive predictive value: share of the flagged that have the outcome."""


class LeadTime(Frozen):
    """Hours from a right alert to the outcome: quartiles over stays."""

    counts: Counts
    lower_quartile: Estimate
    median: Estimate
    upper_quartile: Estimate


class AlertBurden(Frozen):
    """What alerts at the clinical threshold cost and bring (``training/evaluation/alert_burden.py``)."""

    threshold: float
    alerts: PatientCount
    right_alerts: PatientCount
    """Alerts about stays with the outcome."""
    patient_days: float
    """In hospital, from admission to discharge or death, of the held-out stays."""
    alerts_per_100_patient_days: Estimate
    sensitivity: Estimate
    ppv: Estimate
    number_needed_to_evaluate: Estimate
    """1 / PPV: alerts that are looked at for each one that is right."""
    lead_time: LeadTime | None
    """Null where fewer than ten patients were alerted about rightly."""


class StressTest(Frozen):
    """What one stress of the inputs does to the answers, on the same held-out patients
    (``training/evaluation/robustness.py``)."""

    kind: Literal["missing", "unavailable", "noise"]
    share: float | None
    group: str | None
    auroc: Estimate
    """Under the stress."""
    auroc_loss: Estimate
    """AUROC as it is minus that under the stress, paired by patient."""
    intercept_shift: Estimate
    """Calibration intercept under the stress minus as it is, paired by patient."""
    unchanged: bool = False
    """No held-out answer changed, as without a laboratory where the version reads nothing of one: then changes have no
    interval, and there is none to judge."""


class DataQuality(Frozen):
    """What bronze and validation said of the extract (``training/evaluation/data_quality.py``)."""

    validated_by: str
    """Key of the call of ``validate``."""
    judged: int
    """Facts that were checked."""
    quarantined: PatientCount
    broken: dict[str, PatientCount]
    """Facts that break each rule which a sound extract seldom breaks."""
    unlisted: dict[str, PatientCount]
    """By ``table.column``, records whose word no list of the source has."""
    records: dict[str, int]
    """By the same names, records of the table."""


class Files(Frozen):
    """Size and speed of the version, by the code that serves (``training/evaluation/files.py``).

    Times are the only figures of the evidence that differ when it is made again.
    """

    bytes: int
    """Of the files that answer, together."""
    answers: int
    """How many were timed."""
    median_seconds: float
    """Per answer."""
    slowest_seconds: float


class SilentPeriod(Frozen):
    """A version's answers in shadow beside their outcomes (``training/promotion/silent_period.py``)."""

    outcomes: PatientCount
    """Answers about stays that are not of the training set, and whose outcome has matured."""
    events: PatientCount
    """Of these stays, those with the outcome."""
    auroc: Estimate | None = None
    calibration_intercept: Estimate | None = None


class CurvePoint(Frozen):
    """One place of a curve, with its pointwise interval."""

    x: float
    y: Estimate


Curve = tuple[CurvePoint, ...]


class Curves(Frozen):
    """The model at every operating point; empty where fewer than ten patients had, or had not, the outcome."""

    roc: Curve = ()
    """x: share of stays without the outcome that are flagged. y: share of those with it that are found."""
    precision_recall: Curve = ()
    """x: share of stays with the outcome that are found. y: share of the flagged that have it."""
    decision: Curve = ()
    """x: risk above which one acts. y: net benefit per patient."""


class Baseline(Frozen):
    """A simpler predictor on the same rows. ``gain`` is the model's AUROC minus its own, paired by patient."""

    kind: Literal["bedside rule", "points score", "logistic regression"]
    name: str
    source: str
    auroc: Estimate
    gain: Estimate
    roc: tuple[float, ...] = ()
    """Share of stays with the outcome that are found, at each x of the model's own curve."""
    calibration_slope: Estimate | None = None
    """Of the points score, whose risk a person may act on."""
    calibration_intercept: Estimate | None = None


class PlainInputs(Frozen):
    """The model on the same rows when only these inputs are said, as a short request does."""

    inputs: tuple[str, ...]
    auroc: Estimate
    log_loss: Estimate


class Oracle(Frozen):
    """The generator's own probability, on synthetic data: what the best possible model reaches on these rows."""

    counts: Counts
    """Held-out rows that the generator's file names."""
    auroc: Estimate
    model_auroc: Estimate
    """The model on those rows."""
    gap: Estimate
    """Oracle's AUROC minus the model's."""


class Together(Frozen):
    """Notes and table together against each alone, on the same rows; gains are paired by patient."""

    read: PatientCount
    """Rows for which a note could be read; the others are answered by the table alone."""
    table_auroc: Estimate
    notes_auroc: Estimate
    """On the rows with a note."""
    auroc_gain: Estimate
    """Together minus table."""
    log_loss_gain: Estimate
    """Table's log loss minus that of both together."""
    share_of_possible_gain: Estimate | None = None
    """Gain over the oracle's gain, both over the table, on synthetic data; null where the oracle's may be none."""


class Comparison(Frozen):
    """Against the version in production, on the same patients; positive is better than it."""

    incumbent: ModelRef
    missing_inputs: int
    """Inputs of the incumbent that the training set no longer has; above 0 nothing is compared."""
    missing_notes: bool = False
    """The incumbent reads notes, and there are none in its tokenizer's numbers; then nothing is compared either."""
    auroc_gain: Estimate | None = None
    log_loss_gain: Estimate | None = None
    """Incumbent's log loss minus the model's."""
    probability_better: float | None = None
    """Share of resamples in which the model's log loss is the lower one."""


class Evidence(VersionEvidence):
    """Everything that was measured on one version's held-out patients."""

    task: TaskName
    training_set: TableRef
    rows_digest: str
    """SHA-256 over the held-out rows: outcomes, inputs and patients."""
    bootstrap: int
    seed: int
    assumptions: tuple[str, ...]
    counts: Counts
    metrics: dict[str, Estimate]
    calibration_curve: tuple[Bin, ...]
    curves: Curves = Curves()
    alarms: tuple[Alarms, ...] = ()
    """At the thresholds of the policy; none where the curves are empty."""
    net_benefit: tuple[Benefit, ...]
    subgroups: tuple[Subgroup, ...]
    subgroup_family: SubgroupFamily | None = None
    baselines: tuple[Baseline, ...]
    plain_inputs: tuple[PlainInputs, ...]
    oracle: Oracle | None
    oracle_silent: bool = False
    """The generator's file gives no probabilities of this task."""
    comparison: Comparison | None
    notes: Together | None = None
    """Where the version reads notes."""
    alert_burden: AlertBurden | None = None
    """Null where fewer than ten patients had, or had not, the outcome."""
    robustness: tuple[StressTest, ...] = ()
    """One for each stress of the policy."""
    data_quality: DataQuality | None = None
    """Null where nothing says how the extract was validated."""
    files: Files | None = None
    leakage: LeakCertificate | None = None
    """Null where the training set was not checked for leaks."""


def read(settings: Settings, path: str, digest: str) -> Evidence:
    """The evidence of a risk model, from a file of this digest."""
    return read_evidence(Evidence, settings, path, digest)
