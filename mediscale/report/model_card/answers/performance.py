"""Answers of a model card: how good it is on held-out patients."""

from mediscale.report import labels
from mediscale.report.charts import estimate_text, resting_on, share
from mediscale.report.model_card.answers.subject import Subject
from training.evaluation.evaluation_report import Baseline, Evidence


def discrimination(of: Subject) -> str:
    points = _points_score(of.evidence)
    beside = f" The points score's AUROC is {estimate_text(points.auroc)}." if points else ""
    return f"{_metrics(of.evidence, 'auroc', 'auprc')} {labels.capitalized(resting_on(of.evidence.counts))}.{beside}"


def calibration(of: Subject) -> str:
    points = _points_score(of.evidence)
    own = _metrics(of.evidence, "calibration_slope", "calibration_intercept", "brier")
    if points is None or points.calibration_slope is None or points.calibration_intercept is None:
        return own
    return (
        f"{own} The points score's calibration slope is {estimate_text(points.calibration_slope)}, its intercept "
        f"{estimate_text(points.calibration_intercept)}."
    )


def _points_score(evidence: Evidence) -> Baseline | None:
    return next((b for b in evidence.baselines if b.kind == "points score"), None)


def _metrics(evidence: Evidence, *names: str) -> str:
    parts = [
        f"{labels.METRICS[name][0]} {estimate_text(evidence.metrics[name])}"
        for name in names
        if name in evidence.metrics
    ]
    return f"{'; '.join(parts)}." if parts else ""


def net_benefit(of: Subject) -> str:
    return "\n".join(
        f"Net benefit over the better of treating all and none at {labels.percent(benefit.threshold)}: "
        f"{estimate_text(benefit.over_best_alternative)}."
        for benefit in of.evidence.net_benefit
    )


def thresholds(of: Subject) -> str:
    parts = [
        f"Acting at a risk of {labels.percent(alarm.threshold)}: sensitivity {share(alarm.sensitivity)}, positive "
        f"predictive value {share(alarm.ppv)}, {share(alarm.flag_rate)} of the stays flagged."
        for alarm in of.evidence.alarms
    ]
    return " ".join(parts)


def alert_burden(of: Subject) -> str:
    burden = of.evidence.alert_burden
    if burden is None:
        return ""
    lead = burden.lead_time
    hours = (
        f" Median lead time from a right alert to the outcome: {labels.hours(lead.median)}." if lead else ""
    )
    return (
        f"Acting at a risk of {labels.percent(burden.threshold)}, once per stay: alerts per 100 patient-days in "
        f"hospital {estimate_text(burden.alerts_per_100_patient_days)}; number needed to evaluate "
        f"{estimate_text(burden.number_needed_to_evaluate)}.{hours}"
    )


def robustness(of: Subject) -> str:
    return "\n".join(
        f"With {labels.stress(test)}: AUROC {estimate_text(test.auroc)}, lost {estimate_text(test.auroc_loss)}, "
        f"calibration intercept changed by {estimate_text(test.intercept_shift)}."
        for test in of.evidence.robustness
    )


def speed(of: Subject) -> str:
    files = of.evidence.files
    if files is None:
        return ""
    return (
        f"Its files are {files.bytes / 1e6:.3g} MB; one answer takes {1000 * files.median_seconds:.2g} ms, the "
        f"slowest of {files.answers:,} took {1000 * files.slowest_seconds:.2g} ms."
    )
