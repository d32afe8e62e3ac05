"""Whether the evidence carries a version into production, floor by floor, each objection a phrase a person can act on.

What is missing, not estimable or not a number fails: only evidence that is there can carry a model. Of subgroups, the
policy says whether those that are too small to judge refuse a version or are a limit of it that its promotion names.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from mediscale.core.privacy import count
from mediscale.core.tasks import Policy
from training.evaluation.evaluation_report import Estimate, Evidence, Subgroup
from training.training_examples import ATTRIBUTES

UNKNOWN = "unknown"
"""The value of an attribute that a patient's record does not tell."""


@dataclass(frozen=True)
class Floor:
    """One thing that the policy asks."""

    what: str
    asked: str
    found: str
    objection: str = ""
    """Why it is not reached; empty where it is."""
    limit: str = ""
    """What could not be judged, where the policy lets a version pass without it."""


def floors(evidence: Evidence, policy: Policy) -> Iterator[Floor]:
    """Everything that the policy asks, the gravest first."""
    yield from _size(evidence, policy)
    yield from _leak(evidence, policy)
    yield from _discrimination(evidence, policy)
    yield from _calibration(evidence, policy)
    yield from _benefit(evidence, policy)
    yield from subgroup_floors(evidence, policy)
    yield from _incumbent(evidence, policy)


def objections(evidence: Evidence, policy: Policy) -> Iterator[str]:
    """Every floor that the evidence does not reach."""
    return (floor.objection for floor in floors(evidence, policy) if floor.objection)


def limits(evidence: Evidence, policy: Policy) -> Iterator[str]:
    """Every subgroup that could not be judged, where the policy lets the version pass without it."""
    return (floor.limit for floor in floors(evidence, policy) if floor.limit)


def lacking(evidence: Evidence, policy: Policy) -> Iterator[str]:
    """What incomplete evidence lacks altogether; a version with it is not even staged."""
    auroc = evidence.metrics.get("auroc")
    if auroc is None or not _complete(auroc):
        counts = evidence.counts
        yield (
            f"AUROC is not estimable on {count(counts.subjects)} held-out patients with {count(counts.events)} events"
        )
    for attribute in ATTRIBUTES:
        if attribute not in {group.attribute for group in evidence.subgroups}:
            yield f"there are no subgroups by {_words(attribute)}"
    if policy.clinical_threshold not in {benefit.threshold for benefit in evidence.net_benefit}:
        yield f"there is no net benefit at {policy.clinical_threshold:.0%}"
    if "bedside rule" not in {baseline.kind for baseline in evidence.baselines}:
        yield "it is not compared with a bedside rule"
    if not evidence.plain_inputs:
        yield "it is not tried with bedside inputs only"


def looked_at(evidence: Evidence) -> str:
    """What complete evidence is about, as a sentence goes on after a colon; what is too few is said to be."""
    counts, groups = evidence.counts, evidence.subgroups
    judged = sum(group.status == "estimated" for group in groups)
    auroc = evidence.metrics["auroc"]
    return (
        f"AUROC {_shown(auroc)}, calibration, net benefit, a bedside rule and {judged} of {len(groups)} subgroups "
        f"({len(groups) - judged} could not be judged) were looked at on {count(counts.subjects)} held-out patients "
        f"with {count(counts.events)} events"
    )


def sentence(problems: list[str]) -> str:
    """At most three objections in one sentence, and how many more there are."""
    told, more = problems[:3], len(problems) - 3
    return "; ".join(told) + (f"; and {more} more" if more > 0 else "")


def _size(evidence: Evidence, policy: Policy) -> Iterator[Floor]:
    counts = evidence.counts
    for what, found, least in (
        ("held-out patients", counts.subjects, policy.min_subjects),
        ("held-out events", counts.events, policy.min_events),
    ):
        told = count(found)
        short = f"{told} {what} where the policy needs {least}" if found < least else ""
        yield Floor(what, f"at least {least}", told, short)


def _leak(evidence: Evidence, policy: Policy) -> Iterator[Floor]:
    auroc, oracle, most = evidence.metrics.get("auroc"), evidence.oracle, policy.suspicious_above
    if auroc is not None and auroc.value is not None:
        leaks = (
            f"suspected leak: AUROC {auroc.value:.3f} is above {most}, which no honest model of this outcome "
            "reaches"
        )
        suspected = auroc.value > most
        yield Floor("no leak: AUROC", f"at most {most:g}", f"{auroc.value:.3f}", leaks if suspected else "")
    if oracle is not None:
        problem = ""
        if not _complete(oracle.gap):
            problem = "AUROC below the best possible is not estimable"
        elif oracle.gap.high < 0:  # type: ignore[operator]  # _complete saw numbers
            problem = (
                "suspected leak: the model does better than the probabilities that the records were made from"
            )
        what, asked = "no leak: AUROC below the best possible", "its gap may be above 0"
        yield Floor(what, asked, _told(oracle.gap), problem)


def _discrimination(evidence: Evidence, policy: Policy) -> Iterator[Floor]:
    yield _floor("AUROC", evidence.metrics.get("auroc"), policy.auroc_low)
    bedside = [b for b in evidence.baselines if b.kind == "bedside rule"]
    gain = bedside[0].gain if bedside else None
    yield _floor(
        f"AUROC over {bedside[0].name if bedside else 'a bedside rule'}", gain, policy.gain_over_bedside_low
    )
    fullest = max(evidence.plain_inputs, key=lambda plain: len(plain.inputs), default=None)
    yield _floor("AUROC with bedside inputs only", fullest.auroc if fullest else None, policy.plain_auroc_low)


def _calibration(evidence: Evidence, policy: Policy) -> Iterator[Floor]:
    for name, allowed in (
        ("calibration_slope", policy.calibration_slope),
        ("calibration_intercept", policy.calibration_intercept),
    ):
        found, label = evidence.metrics.get(name), name.replace("_", " ")
        within, problem = f"{allowed[0]:g} to {allowed[1]:g}", ""
        if found is None or not _complete(found):
            problem = f"{label} is not estimable"
        elif not allowed[0] <= found.value <= allowed[1]:  # type: ignore[operator]  # _complete saw numbers
            problem = f"{label} {_shown(found)} lies outside {within}"
        yield Floor(label, within, _told(found), problem)


def _benefit(evidence: Evidence, policy: Policy) -> Iterator[Floor]:
    at = [b for b in evidence.net_benefit if b.threshold == policy.clinical_threshold]
    label = f"net benefit at {policy.clinical_threshold:.0%} over treating all or none"
    yield _floor(label, at[0].over_best_alternative if at else None, policy.net_benefit_over_alternatives_low)


def subgroup_floors(evidence: Evidence, policy: Policy) -> Iterator[Floor]:
    """What the policy asks of subgroups by each attribute: that one is judged, and how good each that is judged is."""
    for attribute in ATTRIBUTES:
        groups = [group for group in evidence.subgroups if group.attribute == attribute]
        judged = [group for group in groups if group.status == "estimated"]
        by = f"subgroups by {_words(attribute)}"
        if not judged:
            found = "too few in each" if groups else "none"
            yield Floor(by, "one is judged", found, objection=f"no {by} could be judged ({found})")
        elif all(group.value == UNKNOWN for group in judged):
            yield _unjudged(f"any {by} but {UNKNOWN}", "not known", policy)
        for group in groups:
            name = f"{_words(attribute)} {group.value}"
            if group.status == "too few":
                yield _unjudged(name, "too few", policy)
            else:
                yield _subgroup_discrimination(name, group, evidence.metrics.get("auroc"), policy)
                yield _subgroup_calibration(name, group, policy)


def _unjudged(name: str, why: str, policy: Policy) -> Floor:
    said = f"{name} ({why})"
    if policy.subgroup_unjudged == "refuse":
        return Floor(name, "judged", why, objection=f"{said} could not be judged")
    return Floor(name, "judged, or a limit", why, limit=said)


def _subgroup_discrimination(name: str, group: Subgroup, overall: Estimate | None, policy: Policy) -> Floor:
    what, problem = f"AUROC of {name}", ""
    if overall is None or overall.value is None or group.auroc is None or not _complete(group.auroc):
        return Floor(what, "estimable", _told(group.auroc), objection=f"{what} is not estimable")
    least = overall.value - policy.subgroup_gap_max
    if group.auroc.high < least:  # type: ignore[operator]  # _complete saw numbers
        problem = f"{what} {_shown(group.auroc)} falls behind {overall.value:.3f} overall"
    return Floor(what, f"interval reaches {least:.3f}", _told(group.auroc), problem)


def _subgroup_calibration(name: str, group: Subgroup, policy: Policy) -> Floor:
    what, problem, found = f"calibration intercept of {name}", "", group.calibration_intercept
    low, high = policy.calibration_intercept
    if found is None or not _complete(found):
        problem = f"{what} is not estimable"
    elif found.high < low or found.low > high:  # type: ignore[operator]  # _complete saw numbers
        problem = f"{what} {_shown(found)} lies outside {low:g} to {high:g}"
    return Floor(what, f"interval reaches {low:g} to {high:g}", _told(found), problem)


def _words(attribute: str) -> str:
    return attribute.replace("_", " ")


def _incumbent(evidence: Evidence, policy: Policy) -> Iterator[Floor]:
    comparison = evidence.comparison
    if comparison is None:
        return
    version = f"v{comparison.incumbent.version}"
    what, asked = f"better than {version} in production", f"in {policy.probability_better:.0%} of resamples"
    gone = "" if not comparison.missing_inputs else f"{comparison.missing_inputs} of its inputs are gone"
    if comparison.missing_notes:
        gone = (
            "it reads notes, and there are none in its tokenizer's numbers (run note_tokens with its encoder)"
        )
    if gone:
        yield Floor(what, asked, "not comparable", f"{version} in production can't be compared: {gone}")
        return
    better = comparison.probability_better
    shown = "not estimable" if better is None else f"{better:.0%}"
    enough = better is not None and math.isfinite(better) and better >= policy.probability_better
    problem = (
        f"better than {version} in production in {shown} of resamples of the same patients where the policy "
        f"needs {policy.probability_better:.0%}"
    )
    yield Floor(what, asked, shown, "" if enough else problem)


def _floor(label: str, found: Estimate | None, floor: float) -> Floor:
    problem = ""
    if found is None or not _complete(found):
        problem = f"{label} is not estimable"
    elif found.low < floor:  # type: ignore[operator]  # _complete saw numbers
        problem = f"{label} {_shown(found)} may lie below {floor:g}"
    return Floor(label, f"interval above {floor:g}", _told(found), problem)


def _told(estimate: Estimate | None) -> str:
    if estimate is None or estimate.value is None:
        return "not estimable"
    return _shown(estimate) if _complete(estimate) else f"{estimate.value:z.3f} (no interval)"


def _complete(estimate: Estimate) -> bool:
    return all(x is not None and math.isfinite(x) for x in (estimate.value, estimate.low, estimate.high))


def _shown(estimate: Estimate) -> str:
    return f"{estimate.value:z.3f} ({estimate.low:z.3f} to {estimate.high:z.3f})"
