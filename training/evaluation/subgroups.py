"""Discrimination and calibration per subgroup, with intervals that hold for the whole family of subgroups at once.

With a dozen groups and two figures each, some interval of 95 % lies beside the truth by chance nearly every time. So
the intervals that the policy's floors look at are simultaneous: all of them contain their true values together, but for
the policy's family-wise error rate. They are studentised by the bootstrap's standard error, and as wide as the quantile
of the largest deviation in the family over the same resamples (single-step max-T: Westfall & Young 1993,
"Resampling-Based Multiple Testing"; Hothorn et al. 2008, doi:10.1002/bimj.200810425). That is narrower than
Bonferroni's, because groups share patients.

Calibration is that in the large, the intercept: a slope of ten outcomes can't be judged.
"""

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mediscale.core.policy import Policy
from mediscale.core.privacy import group_outcomes_in_words, suppress_small_counts, suppressed_parts
from training.evaluation.evaluation_report import Evidence, Subgroup, SubgroupFamily
from training.statistics import metrics
from training.statistics.bootstrap import percentile_estimate, simultaneous_estimates
from training.statistics.estimate import Estimate
from training.statistics.metrics import Floats
from training.training_examples import ATTRIBUTES

if TYPE_CHECKING:
    from training.evaluation.performance import Performance

Rows = NDArray[np.bool_]
_PER_GROUP = 3
"""Of each group: AUROC, its gap to all patients, calibration intercept."""


def judge(held_out: "Performance", policy: Policy) -> tuple[tuple[Subgroup, ...], SubgroupFamily | None]:
    """Every value of every attribute, and the family of floors of those that can be judged; None where none can."""
    groups = list(_groups(held_out))
    counted = _without_small_counts([_counted(held_out, *group, policy) for group in groups])
    judged = [i for i, group in enumerate(counted) if group.status == "estimated"]
    if not judged:
        return tuple(counted), None
    figures, family = _figures(held_out, [groups[i][2] for i in judged], policy.subgroup_error_rate)
    for i, changed in zip(judged, figures, strict=True):
        counted[i] = counted[i].model_copy(update=changed)
    return tuple(counted), family


def _groups(held_out: "Performance") -> Iterator[tuple[str, str, Rows]]:
    for attribute in ATTRIBUTES:
        values = held_out.rows.attributes[attribute]
        for value in np.unique(values):
            yield attribute, str(value), values == value


def _counted(held_out: "Performance", attribute: str, value: str, rows: Rows, policy: Policy) -> Subgroup:
    counts = held_out.part(rows).counts
    few = (
        counts.subjects < policy.subgroup_min_subjects
        or counts.independent_events < policy.subgroup_min_events
    )
    one_class = counts.events in (0, counts.n)
    return Subgroup.model_validate(
        {
            "attribute": attribute,
            "value": value,
            "counts": counts,
            "status": "too few" if few else "not estimable" if one_class else "estimated",
        }
    )


def _without_small_counts(groups: Sequence[Subgroup]) -> list[Subgroup]:
    """The subgroups without small counts. The groups of an attribute make up all held-out patients, so that a single
    count that is left out would follow from the rest."""
    released: list[Subgroup] = []
    for _, of_attribute in groupby(groups, key=lambda group: group.attribute):
        own = list(of_attribute)
        hidden = suppressed_parts([group.counts.subjects if group.counts else 0 for group in own])
        released += [
            group.model_copy(update={"counts": None}) if is_hidden else group
            for group, is_hidden in zip(own, hidden, strict=True)
        ]
    return released


def outcomes_in_words(evidence: Evidence) -> list[str]:
    """How many of each subgroup have the outcome, in words, in the order of the evidence."""
    total = evidence.counts.n, evidence.counts.events
    words: list[str] = []
    for _, groups in groupby(evidence.subgroups, key=lambda group: group.attribute):
        parts = [(group.counts.n, group.counts.events) if group.counts else None for group in groups]
        words += group_outcomes_in_words(parts, total)
    return words


def released(evidence: Evidence) -> dict[str, Any]:
    """The evidence as JSON for those who may not see the lake: without small counts, and without those outcomes of
    subgroups from which a small number of another one's would follow."""
    plain = suppress_small_counts(evidence)
    for group, words in zip(plain["subgroups"], outcomes_in_words(evidence), strict=True):
        if group["counts"] and not words[0].isdigit():
            group["counts"] = {"n": group["counts"]["n"], "subjects": group["counts"]["subjects"]}
    return plain


def _figures(
    held_out: "Performance", groups: list[Rows], error_rate: float
) -> tuple[list[dict[str, Estimate]], SubgroupFamily]:
    """Fields of each group's ``Subgroup``, all from the same resamples of all patients."""
    y, p = held_out.rows.outcomes, held_out.risk

    def values_of(w: Floats) -> Floats:
        whole = metrics.auroc(y, p, w)
        columns = []
        for rows in groups:
            part = y[rows], p[rows], w[:, rows]
            auroc = metrics.auroc(*part)
            columns += [auroc, auroc - whole, metrics.calibration_intercept(*part)]
        return np.stack(columns, axis=1)

    values, drawn = values_of(metrics.unweighted(y))[0], held_out.resamples.values(values_of)
    in_family = np.arange(len(values)) % _PER_GROUP > 0
    together, critical = simultaneous_estimates(values[in_family], drawn[:, in_family], error_rate)
    figures = [
        {
            "auroc": percentile_estimate(float(values[_PER_GROUP * i]), drawn[:, _PER_GROUP * i]),
            "auroc_gap": together[2 * i],
            "calibration_intercept": together[2 * i + 1],
        }
        for i in range(len(groups))
    ]
    return figures, SubgroupFamily(error_rate=error_rate, size=len(together), critical_value=critical)
