"""Staging requirements of the policy: evidence that is complete, whatever it says of the version."""

from collections.abc import Callable, Iterator, Mapping

from mediscale.core.policy import EvidencePart, Policy
from mediscale.core.privacy import count
from training.evaluation.evaluation_report import Evidence
from training.promotion.floor import text_of
from training.promotion.subgroup_floors import words
from training.training_examples import ATTRIBUTES


def lacking(evidence: Evidence, policy: Policy) -> Iterator[str]:
    """What incomplete evidence lacks of the parts that the policy needs; a version with it is not even staged."""
    for part in policy.staging_needs:
        yield from _LACKS[part](evidence, policy)


def _lacks_discrimination(evidence: Evidence, _: Policy) -> Iterator[str]:
    auroc = evidence.metrics.get("auroc")
    if auroc is None or auroc.interval is None:
        counts = evidence.counts
        yield (
            f"AUROC is not estimable on {count(counts.subjects)} held-out patients with {count(counts.events)} events"
        )


def _lacks_subgroups(evidence: Evidence, _: Policy) -> Iterator[str]:
    for attribute in ATTRIBUTES:
        if attribute not in {group.attribute for group in evidence.subgroups}:
            yield f"there are no subgroups by {words(attribute)}"


def _lacks_net_benefit(evidence: Evidence, policy: Policy) -> Iterator[str]:
    if policy.clinical_threshold not in {benefit.threshold for benefit in evidence.net_benefit}:
        yield f"there is no net benefit at {policy.clinical_threshold:.0%}"


def _lacks_bedside_rule(evidence: Evidence, _: Policy) -> Iterator[str]:
    if "bedside rule" not in {baseline.kind for baseline in evidence.baselines}:
        yield "it is not compared with a bedside rule"


def _lacks_bedside_inputs(evidence: Evidence, _: Policy) -> Iterator[str]:
    if not evidence.plain_inputs:
        yield "it is not tried with bedside inputs only"


def _lacks_alert_burden(evidence: Evidence, _: Policy) -> Iterator[str]:
    if evidence.alert_burden is None:
        yield "there is no alert burden"


def _lacks_robustness(evidence: Evidence, policy: Policy) -> Iterator[str]:
    tried = {(test.kind, test.share, test.group) for test in evidence.robustness}
    for stress in policy.stresses:
        if (stress.kind, stress.share, stress.group) not in tried:
            yield f"it is not tried with {stress.name}"


def _lacks_files(evidence: Evidence, _: Policy) -> Iterator[str]:
    if evidence.files is None:
        yield "size and speed of its files were not measured"


def _lacks_data_quality(evidence: Evidence, _: Policy) -> Iterator[str]:
    if evidence.data_quality is None:
        yield "no record says how the extract was validated"


_LACKS: Mapping[EvidencePart, Callable[[Evidence, Policy], Iterator[str]]] = {
    "discrimination": _lacks_discrimination,
    "subgroups": _lacks_subgroups,
    "net_benefit": _lacks_net_benefit,
    "bedside_rule": _lacks_bedside_rule,
    "bedside_inputs": _lacks_bedside_inputs,
    "alert_burden": _lacks_alert_burden,
    "robustness": _lacks_robustness,
    "files": _lacks_files,
    "data_quality": _lacks_data_quality,
}


def evidence_summary(evidence: Evidence, policy: Policy) -> str:
    """What complete evidence is about, as a sentence goes on after a colon: the parts that the policy needs for
    staging, and on whom; what is too few is said to be."""
    counts, groups = evidence.counts, evidence.subgroups
    judged = sum(group.status == "estimated" for group in groups)
    auroc = evidence.metrics.get("auroc")
    needed = ", ".join(part.replace("_", " ") for part in policy.staging_needs)
    return (
        f"AUROC {text_of(auroc)} on {count(counts.subjects)} held-out patients with {count(counts.events)} events; the "
        f"evidence that staging needs is complete ({needed}); {judged} of {len(groups)} subgroups could be judged"
    )
