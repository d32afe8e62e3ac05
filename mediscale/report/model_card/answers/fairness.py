"""Answers of a model card: subgroups of patients, and what follows from their figures."""

from collections.abc import Callable

from mediscale.core.privacy import SUPPRESSED, WHY_SUPPRESSED, count
from mediscale.report import labels
from mediscale.report.charts import estimate_text
from mediscale.report.model_card.answers.subject import Subject
from training.evaluation.evaluation_report import Evidence, Subgroup
from training.evaluation.subgroups import outcomes_in_words
from training.promotion.subgroup_floors import subgroup_floors


def representation(of: Subject) -> str:
    return _listed(of.evidence)


def subgroups(of: Subject) -> str:
    def performance(group: Subgroup) -> str:
        if group.auroc is None or group.status != "estimated":
            return f" ({group.status})"
        calibrated = group.calibration_intercept
        return f" (AUROC {estimate_text(group.auroc)}" + (
            f", calibration intercept {estimate_text(calibrated)})" if calibrated else ")"
        )

    return _listed(of.evidence, performance)


def _listed(evidence: Evidence, beside: Callable[[Subgroup], str] = lambda _: "") -> str:
    groups = evidence.subgroups

    def in_words(group: Subgroup, outcomes: str) -> str:
        name = f"{labels.ATTRIBUTES[group.attribute]} {group.value}"
        if group.counts is None:
            return f"{name}: number of patients {SUPPRESSED}{beside(group)}"
        counts = group.counts
        return f"{name}: {count(counts.n)} {counts.unit}, {outcomes} with the outcome{beside(group)}"

    lines = [*map(in_words, groups, outcomes_in_words(evidence))]
    why = [WHY_SUPPRESSED] if any(SUPPRESSED in line for line in lines) else []
    return "\n".join([*lines, *why])


def fairness_approach(of: Subject) -> str:
    policy, attributes = of.decided.policy, ", ".join(labels.ATTRIBUTES.values()).lower()
    return (
        f"Discrimination and calibration are judged by {attributes}; a group with at least "
        f"{policy.subgroup_min_events:,} outcomes whose AUROC surely lies more than {policy.subgroup_gap_max:g} below "
        "the overall one, or whose calibration surely lies outside of the policy's range, keeps a version from "
        "production, and so does one whose figures are not estimable. Surely: by intervals that hold for all groups "
        f"together, so that chance refuses a version in {policy.subgroup_error_rate:.0%} of cases at most."
    )


def bias_management(of: Subject) -> str:
    floors = subgroup_floors(of.evidence, of.decided.policy)
    objections = [floor.objection for floor in floors if floor.objection]
    parts = (
        f"Objections of the gate to subgroups: {'; '.join(objections)}."
        if objections
        else "The gate had no objection to a subgroup."
    )
    return f"Ethnicity is no input. {parts} Nothing in the training corrects a bias that the records hold."


def fairness_monitoring(of: Subject) -> str:
    policy, attributes = of.decided.policy, ", ".join(labels.ATTRIBUTES.values()).lower()
    return (
        "Every night, for each window of answers whose outcomes have all matured: discrimination and calibration are "
        f"measured by {attributes}, with intervals that hold for all groups of the window together. A group whose "
        f"AUROC surely lies more than {policy.subgroup_gap_max:g} below the overall one, or whose calibration surely "
        "lies outside of the policy's range, raises an alarm and is a reason to retrain."
    )
