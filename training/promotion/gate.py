"""The gate: whether evidence carries a version into production, floor by floor, with an objection to act on for each.

What is missing, not estimable or not a number fails: only evidence that is there can carry a model. Of subgroups, the
policy says whether those that are too small to judge refuse a version or are a limit of it that its promotion names.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from mediscale.core.policy import Policy
from mediscale.core.privacy import count
from mediscale.core.refs import ModelRef
from training.evaluation.evaluation_report import Evidence, SilentPeriod
from training.promotion.floor import Floor, at_least, text_of, within
from training.promotion.leak_floor import leak_floor
from training.promotion.operation_floors import (
    alert_burden_floors,
    data_quality_floors,
    file_floors,
    robustness_floors,
    silent_floors,
)
from training.promotion.subgroup_floors import subgroup_floors


@dataclass(frozen=True)
class DecisionContext:
    """What is known beside the evidence when a version is decided about."""

    incumbent: ModelRef | None = None
    """The version in production."""
    silent: SilentPeriod | None = None
    """What the version showed in shadow."""
    true_probabilities: bool = False
    """Whether the records are synthetic, so that their true probabilities are known."""


def floors(
    evidence: Evidence, policy: Policy, context: DecisionContext = DecisionContext()
) -> Iterator[Floor]:
    """Everything that the policy asks, the gravest first."""
    yield from _size(evidence, policy)
    yield leak_floor(evidence)
    yield from _leak(evidence, policy, context.true_probabilities)
    yield from _discrimination(evidence, policy)
    yield from _calibration(evidence, policy)
    yield from _benefit(evidence, policy)
    yield from _incumbent(evidence, policy, context.incumbent)
    yield from silent_floors(context.silent, policy)
    yield from subgroup_floors(evidence, policy)
    yield from alert_burden_floors(evidence, policy)
    yield from robustness_floors(evidence, policy)
    yield from data_quality_floors(evidence, policy)
    yield from file_floors(evidence, policy)


def objections(
    evidence: Evidence, policy: Policy, context: DecisionContext = DecisionContext()
) -> Iterator[str]:
    """Every floor that is not reached."""
    return (floor.objection for floor in floors(evidence, policy, context) if floor.objection)


def limits(evidence: Evidence, policy: Policy) -> Iterator[str]:
    """Every subgroup that could not be judged, where the policy lets the version pass without it."""
    return (floor.limit for floor in floors(evidence, policy) if floor.limit)


def sentence(problems: list[str]) -> str:
    """The objections in one sentence: at most three, and how many more there are."""
    observed, more = problems[:3], len(problems) - 3
    return "; ".join(observed) + (f"; and {more} more" if more > 0 else "")


def promoted(evidence: Evidence, policy: Policy) -> str:
    """The reason for a promotion of evidence that reaches every floor, with the limits that the policy lets pass."""
    auroc, counts, comparison = evidence.metrics.get("auroc"), evidence.counts, evidence.comparison
    beaten = f", and better than v{comparison.incumbent.version} on the same patients" if comparison else ""
    unjudged = ", ".join(limits(evidence, policy))
    return (
        f"Promoted: AUROC {text_of(auroc)} on {count(counts.subjects)} held-out patients with {count(counts.events)} "
        f"events, every floor of the policy passed{beaten}."
        + (f" It was not judged for {unjudged}." if unjudged else "")
    )


def _size(evidence: Evidence, policy: Policy) -> Iterator[Floor]:
    counts = evidence.counts
    for what, n, least in (
        ("held-out patients", counts.subjects, policy.min_subjects),
        ("held-out events", counts.independent_events, policy.min_events),
    ):
        observed = count(n)
        short = f"{observed} {what} where the policy needs {least:,}" if n < least else ""
        yield Floor(what, f"at least {least:,}", observed, short)


def _leak(evidence: Evidence, policy: Policy, true_probabilities: bool) -> Iterator[Floor]:
    auroc, oracle, most = evidence.metrics.get("auroc"), evidence.oracle, policy.suspicious_above
    if auroc is not None and auroc.value is not None:
        leaks = (
            f"suspected leak: AUROC {auroc.value:.3f} is above {most}, which no honest model of this outcome "
            "reaches"
        )
        suspected = auroc.value > most
        yield Floor("no leak: AUROC", f"at most {most:g}", f"{auroc.value:.3f}", leaks if suspected else "")
    what, required = "no leak: AUROC below the best possible", "its gap may be above 0"
    if oracle is None:
        if true_probabilities and not evidence.oracle_silent:
            problem = "it is not compared with the true probabilities of the records"
            yield Floor(what, required, "not compared", problem)
    else:
        problem = ""
        if oracle.gap.interval is None:
            problem = "AUROC below the best possible is not estimable"
        elif oracle.gap.interval[2] < 0:
            problem = (
                "suspected leak: the model does better than the probabilities that the records were made from"
            )
        yield Floor(what, required, oracle.gap.text(), problem)


def _discrimination(evidence: Evidence, policy: Policy) -> Iterator[Floor]:
    yield at_least("AUROC", evidence.metrics.get("auroc"), policy.auroc_low)
    bedside = [b for b in evidence.baselines if b.kind == "bedside rule"]
    gain = bedside[0].gain if bedside else None
    yield at_least(
        f"AUROC over {bedside[0].name if bedside else 'a bedside rule'}", gain, policy.gain_over_bedside_low
    )
    fullest = max(evidence.plain_inputs, key=lambda plain: len(plain.inputs), default=None)
    yield at_least(
        "AUROC with bedside inputs only", fullest.auroc if fullest else None, policy.plain_auroc_low
    )


def _calibration(evidence: Evidence, policy: Policy) -> Iterator[Floor]:
    for name, allowed in (
        ("calibration_slope", policy.calibration_slope),
        ("calibration_intercept", policy.calibration_intercept),
    ):
        yield within(name.replace("_", " "), evidence.metrics.get(name), *allowed)


def _benefit(evidence: Evidence, policy: Policy) -> Iterator[Floor]:
    at = [b for b in evidence.net_benefit if b.threshold == policy.clinical_threshold]
    label = f"net benefit at {policy.clinical_threshold:.0%} over treating all or none"
    yield at_least(
        label, at[0].over_best_alternative if at else None, policy.net_benefit_over_alternatives_low
    )


def _incumbent(evidence: Evidence, policy: Policy, incumbent: ModelRef | None) -> Iterator[Floor]:
    comparison = evidence.comparison
    if comparison is None:
        if incumbent is not None:
            what = f"better than v{incumbent.version} in production"
            yield Floor(
                what, "compared", "not compared", f"it is not compared with {incumbent} in production"
            )
        return
    version = f"v{comparison.incumbent.version}"
    what, required = (
        f"better than {version} in production",
        f"in {policy.probability_better:.0%} of resamples",
    )
    incomparable = (
        "" if not comparison.missing_inputs else f"{comparison.missing_inputs} of its inputs are gone"
    )
    if comparison.missing_notes:
        incomparable = (
            "it reads notes, and there are none in its tokenizer's numbers (run note_tokens with its encoder)"
        )
    if incomparable:
        yield Floor(
            what, required, "not comparable", f"{version} in production can't be compared: {incomparable}"
        )
        return
    better = comparison.probability_better
    observed = "not estimable" if better is None else f"{better:.0%}"
    enough = better is not None and math.isfinite(better) and better >= policy.probability_better
    gains = (comparison.auroc_gain, comparison.log_loss_gain)
    if better == 0 and all(gain is not None and gain.value == 0 for gain in gains):
        problem = f"it answers these patients as {version} in production does, so that nothing is gained"
    else:
        problem = (
            f"better than {version} in production in {observed} of resamples of the same patients where the policy "
            f"needs {policy.probability_better:.0%}"
        )
    yield Floor(what, required, observed, "" if enough else problem)
