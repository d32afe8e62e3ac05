"""Whether the evidence carries a version into production, floor by floor, each objection a phrase a person can act on.

What is missing, not estimable or not a number fails: only evidence that is there can carry a model.
"""

import math
from collections.abc import Iterator

from training.evidence import Estimate, Evidence
from training.policy import Policy


def objections(evidence: Evidence, policy: Policy) -> Iterator[str]:
    """Every floor that the evidence does not reach, the gravest first."""
    yield from _size(evidence, policy)
    yield from _leak(evidence, policy)
    yield from _discrimination(evidence, policy)
    yield from _calibration(evidence, policy)
    yield from _benefit(evidence, policy)
    yield from _subgroups(evidence, policy)
    yield from _incumbent(evidence, policy)


def sentence(problems: list[str]) -> str:
    """At most three objections in one sentence, and how many more there are."""
    told, more = problems[:3], len(problems) - 3
    return "; ".join(told) + (f"; and {more} more" if more > 0 else "")


def _size(evidence: Evidence, policy: Policy) -> Iterator[str]:
    counts = evidence.counts
    if counts.subjects < policy.min_subjects:
        yield f"{counts.subjects} held-out patients where the policy needs {policy.min_subjects}"
    if counts.events < policy.min_events:
        yield f"{counts.events} held-out events where it needs {policy.min_events}"


def _leak(evidence: Evidence, policy: Policy) -> Iterator[str]:
    auroc, oracle = evidence.metrics.get("auroc"), evidence.oracle
    if auroc is not None and auroc.value is not None and auroc.value > policy.suspicious_above:
        yield (
            f"suspected leak: AUROC {auroc.value:.3f} is above {policy.suspicious_above}, which no honest model of "
            "this outcome reaches"
        )
    if oracle is not None and oracle.gap.high is not None and oracle.gap.high < 0:
        yield "suspected leak: the model does better than the probabilities that the records were made from"


def _discrimination(evidence: Evidence, policy: Policy) -> Iterator[str]:
    yield from _floor("AUROC", evidence.metrics.get("auroc"), policy.auroc_low)
    bedside = [b for b in evidence.baselines if b.kind == "bedside rule"]
    gain = bedside[0].gain if bedside else None
    yield from _floor(
        f"AUROC over {bedside[0].name if bedside else 'a bedside rule'}", gain, policy.gain_over_bedside_low
    )
    fullest = max(evidence.plain_inputs, key=lambda plain: len(plain.inputs), default=None)
    yield from _floor(
        "AUROC with bedside inputs only", fullest.auroc if fullest else None, policy.plain_auroc_low
    )


def _calibration(evidence: Evidence, policy: Policy) -> Iterator[str]:
    for name, allowed in (
        ("calibration_slope", policy.calibration_slope),
        ("calibration_intercept", policy.calibration_intercept),
    ):
        found, label = evidence.metrics.get(name), name.replace("_", " ")
        if found is None or not _complete(found):
            yield f"{label} is not estimable"
        elif found.high < allowed[0] or found.low > allowed[1]:  # type: ignore[operator]  # _complete saw numbers
            yield f"{label} {_shown(found)} lies outside {allowed[0]:g} to {allowed[1]:g}"


def _benefit(evidence: Evidence, policy: Policy) -> Iterator[str]:
    at = [b for b in evidence.net_benefit if b.threshold == policy.clinical_threshold]
    label = f"net benefit at {policy.clinical_threshold:.0%} over treating all or none"
    yield from _floor(
        label, at[0].over_best_alternative if at else None, policy.net_benefit_over_alternatives_low
    )


def _subgroups(evidence: Evidence, policy: Policy) -> Iterator[str]:
    overall = evidence.metrics.get("auroc")
    if overall is None or overall.value is None:
        return  # said by the floor on the AUROC itself
    for group in evidence.subgroups:
        if group.status != "estimated":
            continue
        if group.auroc is None or not _complete(group.auroc):
            yield f"AUROC of {group.attribute} {group.value} is not estimable"
        elif overall.value - group.auroc.high > policy.subgroup_gap_max:  # type: ignore[operator]  # _complete
            name = f"{group.attribute} {group.value}"
            yield f"AUROC of {name} {_shown(group.auroc)} falls behind {overall.value:.3f} overall"


def _incumbent(evidence: Evidence, policy: Policy) -> Iterator[str]:
    comparison = evidence.comparison
    if comparison is None:
        return
    version = f"v{comparison.incumbent.version}"
    if comparison.missing_inputs:
        yield f"{version} in production can't be compared: {comparison.missing_inputs} of its inputs are gone"
        return
    better = comparison.probability_better
    if better is None or not math.isfinite(better) or better < policy.probability_better:
        shown = "not estimable" if better is None else f"{better:.0%}"
        yield (
            f"better than {version} in production in {shown} of resamples of the same patients where the policy "
            f"needs {policy.probability_better:.0%}"
        )


def _floor(label: str, found: Estimate | None, floor: float) -> Iterator[str]:
    if found is None or not _complete(found):
        yield f"{label} is not estimable"
    elif found.low < floor:  # type: ignore[operator]  # _complete saw numbers
        yield f"{label} {_shown(found)} may lie below {floor:g}"


def _complete(estimate: Estimate) -> bool:
    return all(x is not None and math.isfinite(x) for x in (estimate.value, estimate.low, estimate.high))


def _shown(estimate: Estimate) -> str:
    return f"{estimate.value:.3f} ({estimate.low:.3f} to {estimate.high:.3f})"
