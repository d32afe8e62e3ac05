"""Charts of a task beside those of its curves: the model beside others, its subgroups, and what it relies on."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from mediscale.core.privacy import SUPPRESSED, WHY_SUPPRESSED, count
from mediscale.report import charts, labels
from mediscale.report.charts import Row, estimate_text
from mediscale.report.data import DecidedVersion, Task
from mediscale.report.svg import Chart

if TYPE_CHECKING:
    from training.evaluation.evaluation_report import Baseline, Evidence

_MOST_INPUTS = 15


def contenders(task: Task) -> Chart | None:
    """The model beside simpler ones, beside itself with fewer inputs, and beside the best possible."""
    if task.decided is None:
        return None
    rows, evidence = list(_contenders(task.decided)), task.decided.evidence
    sources = " ".join(map(_source, evidence.baselines))
    caption = f"{_same_stays(evidence)} Bars: 95 % interval. Line: the model. {sources}"
    auroc = evidence.metrics["auroc"].value
    return charts.forest(f"{task.name}-contenders", "The model beside others", rows, auroc, caption)


def _contenders(decided: DecidedVersion) -> Iterator[Row]:
    evidence = decided.evidence
    for name, auroc in (("the model", evidence.metrics["auroc"]), *labels.predictors(evidence)):
        yield Row(name, auroc, estimate_text(auroc))


def _source(baseline: "Baseline") -> str:
    """Where a simpler predictor comes from, and how its risks are calibrated where it gives some."""
    slope, intercept = baseline.calibration_slope, baseline.calibration_intercept
    calibrated = (
        f"; calibration slope {estimate_text(slope)}, intercept {estimate_text(intercept)}"
        if slope and intercept
        else ""
    )
    return f"{baseline.name[0].upper()}{baseline.name[1:]}: {baseline.source}{calibrated}."


def _same_stays(evidence: "Evidence") -> str:
    """What the contenders rest on, and which of them on fewer stays than the model."""
    n = evidence.counts.n
    fewer = {
        "the notes alone": n if evidence.notes is None else evidence.notes.read,
        "the best possible": n if evidence.oracle is None else evidence.oracle.counts.n,
    }
    label = " and ".join(f"{who} on {count(m)} of them" for who, m in fewer.items() if m < n)
    return f"The same {count(n)} held-out {evidence.counts.unit} for all{f', but {label}' if label else ''}."


def subgroups(task: Task) -> Chart | None:
    """The discrimination within each group of patients."""
    if task.decided is None:
        return None
    evidence = task.decided.evidence
    rows = list(_subgroups(evidence))
    caption = (
        "Discrimination within each group. Right: stays and outcomes; groups that are too small to judge are named "
        f"and not measured. {WHY_SUPPRESSED} Bars: 95 % interval. Line: all patients."
    )
    auroc = evidence.metrics["auroc"].value
    return charts.forest(f"{task.name}-subgroups", "Subgroups", rows, auroc, caption)


def _subgroups(evidence: "Evidence") -> Iterator[Row]:
    from training.evaluation.subgroups import outcomes_in_words

    attribute = ""
    for group, with_outcome in zip(evidence.subgroups, outcomes_in_words(evidence), strict=True):
        if group.attribute != attribute:
            attribute = group.attribute
            yield Row(labels.ATTRIBUTES[attribute].upper(), None, "")
        if group.counts is None:
            yield Row(group.value, group.auroc, SUPPRESSED)
            continue
        label = f"{group.counts.n:,} / {with_outcome}"
        beside = label if group.status == "estimated" else f"{label}: {group.status}"
        yield Row(group.value, group.auroc, beside)


def importance(task: Task) -> Chart | None:
    """How far each input moves the risk on average."""
    if task.decided is None or task.decided.spec is None:
        return None
    from serving.risk.explainer import describe_feature

    ranked = sorted(task.decided.spec.importance.items(), key=lambda item: (-item[1], item[0]))
    values = [(describe_feature(name), value) for name, value in ranked[:_MOST_INPUTS] if value > 0]
    if not values:
        return None
    caption = (
        "Mean absolute SHAP value over a sample of the training patients: how far each input moves the risk on "
        "average, in log-odds, up or down. It says what the model relies on, not what causes the outcome."
    )
    label = "mean absolute SHAP value (log-odds)"
    return charts.bars(f"{task.name}-importance", "What the model relies on", values, label, caption)


def words(task: Task) -> Chart | None:
    """The words that moved the note model most; None where it read none."""
    if task.notes is None or not task.notes.words:
        return None
    ranked = sorted(task.notes.words.items(), key=lambda item: (-abs(item[1]), item[0]))[:_MOST_INPUTS]
    most = abs(ranked[0][1]) or 1.0
    values = [(word, score / most) for word, score in sorted(ranked, key=lambda item: -item[1])]
    caption = (
        "Words that moved the note model most, on average over the stays whose notes hold them: to the right towards "
        "the outcome, to the left away from it, as a share of the strongest. Only ordinary and clinical words that "
        "many patients' notes share. It says what the model relies on, not what causes the outcome."
    )
    label = "share of the strongest word's effect on the log-odds"
    return charts.bars(f"{task.name}-words", "Words of the notes", values, label, caption)
