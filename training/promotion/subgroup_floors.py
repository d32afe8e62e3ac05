"""The policy's floors for subgroups: that one of each attribute is judged, and how good each that is judged is.

The intervals hold for the whole family of floors together, so the more groups there are, the wider each interval is:
without that the luck of the draw would refuse nearly every version. A group whose figures can't be estimated refuses;
of groups that are too small, the policy says whether they refuse or are a limit that is named.
"""

from collections.abc import Iterator

from mediscale.core.policy import Policy
from training.evaluation.evaluation_report import Evidence, Subgroup
from training.promotion.floor import Floor, on_interval, reaches
from training.statistics.estimate import Estimate
from training.training_examples import ATTRIBUTES

UNKNOWN = "unknown"
"""The value of an attribute that a patient's record does not tell."""


def subgroup_floors(evidence: Evidence, policy: Policy) -> Iterator[Floor]:
    """What the policy asks of subgroups by each attribute."""
    if any(group.status == "estimated" for group in evidence.subgroups):
        yield _family(evidence, policy)
    for attribute in ATTRIBUTES:
        groups = [group for group in evidence.subgroups if group.attribute == attribute]
        judged = [group for group in groups if group.status == "estimated"]
        by = f"subgroups by {words(attribute)}"
        if not judged:
            observed = "too few in each" if groups else "none"
            yield Floor(by, "one is judged", observed, objection=f"no {by} could be judged ({observed})")
        elif all(group.value == UNKNOWN for group in judged):
            yield _unjudged(f"any {by} but {UNKNOWN}", "not known", policy)
        for group in groups:
            yield from _group(group, policy)


def words(attribute: str) -> str:
    """An attribute's name as words."""
    return attribute.replace("_", " ")


def _family(evidence: Evidence, policy: Policy) -> Floor:
    """Intervals of another error rate are another family's: at a rate of nothing they would reach anything."""
    family, rate = evidence.subgroup_family, policy.subgroup_error_rate
    what = "error rate of all subgroup floors together"
    if family is None:
        return Floor(
            what, f"{rate:g}", "none", "the intervals of subgroups are not those of a family of floors"
        )
    figures = 2 * sum(group.status == "estimated" for group in evidence.subgroups)
    problem = ""
    if (family.error_rate, family.size) != (rate, figures):
        problem = (
            f"the intervals of subgroups hold for {family.size} figures at an error rate of {family.error_rate:g}, not "
            f"for {figures} at the policy's {rate:g}; evaluate the version again"
        )
    return Floor(what, f"{rate:g}", f"{family.error_rate:g}, over {family.size} figures", problem)


def _group(group: Subgroup, policy: Policy) -> Iterator[Floor]:
    name = f"{words(group.attribute)} {group.value}"
    if group.status == "too few":
        yield _unjudged(name, "too few", policy)
        return
    yield _not_behind(name, group.auroc_gap, policy.subgroup_gap_max)
    yield reaches(
        f"calibration intercept of {name}", group.calibration_intercept, *policy.calibration_intercept
    )


def _not_behind(name: str, gap: Estimate | None, most: float) -> Floor:
    return on_interval(
        f"AUROC of {name} over all patients",
        gap,
        f"not surely below {-most:g}",
        lambda _value, _low, high: high >= -most,
        f"falls behind by more than {most:g}",
    )


def _unjudged(name: str, why: str, policy: Policy) -> Floor:
    label = f"{name} ({why})"
    if policy.subgroup_unjudged == "refuse":
        return Floor(name, "judged", why, objection=f"{label} could not be judged")
    return Floor(name, "judged, where there are enough", why, limit=label)
