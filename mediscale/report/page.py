"""The HTML page: report data and charts rendered by the template."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mediscale.core.privacy import SMALL_COUNT, SUPPRESSED, WHY_SUPPRESSED, count
from mediscale.inference.model_spec import NOTICE
from mediscale.inference.points import PointsScore
from mediscale.pipeline import call
from mediscale.report import charts, labels, performance_windows, points_table
from mediscale.report.charts import Row, estimate_text, share
from mediscale.report.data import Contents, DecidedVersion, Task
from mediscale.report.monitored_version import MonitoredVersion
from mediscale.report.svg import Chart
from mediscale.storage import registry

if TYPE_CHECKING:
    import jinja2

    from training.evaluation.evaluation_report import Alarms, Baseline, Evidence
    from training.promotion.floor import Floor

_FOLDER = Path(__file__).parent
_MOST_INPUTS = 15
_MOST_COLUMNS = 12
_MOST_WINDOWS = 4


@dataclass(frozen=True)
class Part:
    """The part of the page about one task."""

    task: Task

    @property
    def decided(self) -> DecidedVersion | None:
        return self.task.decided

    @property
    def verdict(self) -> tuple[str, str]:
        """What was decided, in words for everybody; and its kind."""
        return labels.VERDICTS[self.task.decided.status] if self.task.decided else ("No model", "bad")

    @property
    def figures(self) -> list[tuple[str, str, str]]:
        """The figures of the decision: what is measured, the figure with its interval, and what it means."""
        return list(_figures(self.task.decided)) if self.task.decided else []

    @cached_property
    def charts(self) -> list[Chart]:
        if self.task.decided is None:
            return []
        evidence, policy = self.task.decided.evidence, self.task.decided.policy
        drawn = (
            charts.roc(evidence),
            charts.precision_recall(evidence),
            charts.calibration(evidence),
            charts.decision(evidence, policy.clinical_threshold),
        )
        return [chart for chart in drawn if chart is not None]

    @property
    def floors(self) -> "list[Floor]":
        return self.task.decided.floors if self.task.decided else []

    @cached_property
    def contenders(self) -> Chart | None:
        """The model beside simpler ones, beside itself with fewer inputs, and beside the best possible."""
        if self.task.decided is None:
            return None
        rows, evidence = list(_contenders(self.task.decided)), self.task.decided.evidence
        sources = " ".join(map(_source, evidence.baselines))
        caption = f"{_same_stays(evidence)} Bars: 95 % interval. Line: the model. {sources}"
        auroc = evidence.metrics["auroc"].value
        return charts.forest(
            f"{self.task.name}-contenders", "The model beside others", rows, "AUROC", auroc, caption
        )

    @cached_property
    def subgroups(self) -> Chart | None:
        if self.task.decided is None:
            return None
        evidence = self.task.decided.evidence
        rows = list(_subgroups(evidence))
        caption = (
            "Discrimination within each group. Right: stays and outcomes; groups that are too small to judge are named "
            f"and not measured. {WHY_SUPPRESSED} Bars: 95 % interval. Line: all patients."
        )
        auroc = evidence.metrics["auroc"].value
        return charts.forest(f"{self.task.name}-subgroups", "Subgroups", rows, "AUROC", auroc, caption)

    @cached_property
    def over_time(self) -> Chart | None:
        return performance_windows.over_time(self.task.name, self.task.windows)

    @cached_property
    def words(self) -> Chart | None:
        return _words(self.task)

    @property
    def points(self) -> PointsScore | None:
        """The version's points score, where it has one that reads anything."""
        spec = self.task.decided.spec if self.task.decided else None
        return spec.points if spec and spec.points and spec.points.items else None

    @cached_property
    def importance(self) -> Chart | None:
        if self.task.decided is None or self.task.decided.spec is None:
            return None
        from serving.risk.explainer import describe_feature

        ranked = sorted(self.task.decided.spec.importance.items(), key=lambda item: (-item[1], item[0]))
        values = [(describe_feature(name), value) for name, value in ranked[:_MOST_INPUTS] if value > 0]
        if not values:
            return None
        caption = (
            "Mean absolute SHAP value over a sample of the training patients: how far each input moves the risk on "
            "average, in log-odds, up or down. It says what the model goes by, not what causes the outcome."
        )
        label = "mean absolute SHAP value (log-odds)"
        return charts.bars(f"{self.task.name}-importance", "What the model goes by", values, label, caption)


@dataclass(frozen=True)
class Page:
    """The HTML document."""

    contents: Contents

    @property
    def name(self) -> str:
        return self.contents.run.run_id

    @cached_property
    def parts(self) -> list[Part]:
        return [Part(task) for task in self.contents.tasks]

    def render(self) -> str:
        contents = self.contents
        values: dict[str, Any] = {
            "contents": contents,
            "landed": contents.landed,
            "run": contents.run,
            "parts": self.parts,
            "watched": contents.watched,
            "drift": _drift(contents.watched) if contents.watched else None,
            "timings": _timings(contents),
            "metrics": labels.METRICS,
            "followed": performance_windows.METRICS,
            "few": SMALL_COUNT,
            "notice": NOTICE,
            "style": style(),
        }
        return str(environment().get_template("report.html.j2").render(values))


def style() -> str:
    """The style sheet, which every page holds in itself."""
    return (_FOLDER / "style.css").read_text(encoding="utf-8")


def environment() -> "jinja2.Environment":
    """Templates of the report's folder, with the filters that they use."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "points_rows": points_table.rows,
        "strata": points_table.strata,
        "estimate": estimate_text,
        "share": share,
        "percent": labels.percent,
        "count": count,
        "plain": labels.plain,
        "metric": lambda name: labels.METRICS[name][0] if name in labels.METRICS else labels.PPV,
        "typeset": labels.typeset,
        "card_file": lambda model: registry.card_file(model.name, model.version),
        "stress": labels.stress,
        "duration": labels.duration,
        "stage": lambda name: call.load(name).display_name,
    }
    return environment


def _words(task: Task) -> Chart | None:
    if task.notes is None or not task.notes.words:
        return None
    ranked = sorted(task.notes.words.items(), key=lambda item: (-abs(item[1]), item[0]))[:_MOST_INPUTS]
    most = abs(ranked[0][1]) or 1.0
    values = [(word, score / most) for word, score in sorted(ranked, key=lambda item: -item[1])]
    caption = (
        "Words that moved the note model most, on average over the stays whose notes hold them: to the right towards "
        "the outcome, to the left away from it, as a share of the strongest. Only ordinary and clinical words that "
        "many patients' notes share. It says what the model goes by, not what causes the outcome."
    )
    label = "share of the strongest word's effect on the log-odds"
    return charts.bars(f"{task.name}-words", "Words of the notes", values, label, caption)


def _source(baseline: "Baseline") -> str:
    """Where a simpler predictor comes from, and how its risks are calibrated where it gives some."""
    slope, intercept = baseline.calibration_slope, baseline.calibration_intercept
    calibrated = (
        f"; calibration slope {estimate_text(slope)}, intercept {estimate_text(intercept)}"
        if slope and intercept
        else ""
    )
    return f"{baseline.name[0].upper()}{baseline.name[1:]}: {baseline.source}{calibrated}."


def _figures(decided: DecidedVersion) -> Iterator[tuple[str, str, str]]:
    evidence = decided.evidence
    auroc = evidence.metrics["auroc"]
    if auroc.value is not None:
        yield (
            "Tells patients apart",
            estimate_text(auroc),
            f"AUROC: of one patient with the outcome and one without, the first gets the higher risk in "
            f"{100 * auroc.value:.0f} of 100 such pairs.",
        )
    bedside = next((b for b in evidence.baselines if b.kind == "bedside rule"), None)
    if bedside is not None:
        yield (f"Better than {bedside.name} by", estimate_text(bedside.gain), "AUROC, on the same patients.")
    if evidence.calibration_curve:
        expected = sum(b.predicted * b.counts.n for b in evidence.calibration_curve)
        yield (
            "Right on the whole",
            f"{expected:.0f} expected, {count(evidence.counts.events)} came",
            f"outcomes among the held-out {evidence.counts.unit}.",
        )
    alarms = next((a for a in evidence.alarms if a.threshold == decided.policy.clinical_threshold), None)
    if alarms is not None:
        yield _at_the_threshold(alarms)


def _at_the_threshold(alarms: "Alarms") -> tuple[str, str, str]:
    return (
        f"Acting at a risk of {labels.percent(alarms.threshold)} finds",
        share(alarms.sensitivity),
        f"of the outcomes; {share(alarms.flag_rate)} of all stays are flagged, and {share(alarms.ppv)} of the flagged "
        "have the outcome.",
    )


def _contenders(decided: DecidedVersion) -> Iterator[Row]:
    evidence = decided.evidence
    yield Row("the model", evidence.metrics["auroc"], estimate_text(evidence.metrics["auroc"]))
    for baseline in evidence.baselines:
        yield Row(baseline.name, baseline.auroc, estimate_text(baseline.auroc))
    if evidence.notes is not None:
        yield Row(
            "the table alone, without notes",
            evidence.notes.table_auroc,
            estimate_text(evidence.notes.table_auroc),
        )
        yield Row(
            "the notes alone, where there are any",
            evidence.notes.notes_auroc,
            estimate_text(evidence.notes.notes_auroc),
        )
    for plain in evidence.plain_inputs:
        names = (
            ", ".join(map(labels.plain, plain.inputs))
            if len(plain.inputs) < 4
            else f"{len(plain.inputs)} bedside values"
        )
        yield Row(f"the model, told only {names}", plain.auroc, estimate_text(plain.auroc))
    if evidence.oracle is not None:
        yield Row(
            "best possible (synthetic patients)", evidence.oracle.auroc, estimate_text(evidence.oracle.auroc)
        )


def _same_stays(evidence: "Evidence") -> str:
    """What the contenders rest on, and which of them on fewer stays than the model."""
    n = evidence.counts.n
    fewer = {
        "the notes alone": n if evidence.notes is None else evidence.notes.read,
        "the best possible": n if evidence.oracle is None else evidence.oracle.counts.n,
    }
    label = " and ".join(f"{who} on {count(m)} of them" for who, m in fewer.items() if m < n)
    return f"The same {count(n)} held-out {evidence.counts.unit} for all{f', but {label}' if label else ''}."


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


def _drift(watched: MonitoredVersion) -> Chart | None:
    from serving.risk.explainer import describe_feature

    worst: dict[str, float] = {}
    newest = watched.windows[-_MOST_WINDOWS:]
    for window in newest:
        for column, ratio in window.ratios.items():
            worst[column] = max(worst.get(column, 0.0), ratio)
    columns = sorted(worst, key=lambda column: (-worst[column], column))[:_MOST_COLUMNS]
    if not columns:
        return None
    series = [(window.name, [window.ratios.get(column) for column in columns]) for window in newest]
    names = [
        f"{describe_feature(column.removesuffix(' missing'))}{' missing' * column.endswith(' missing')}"
        for column in columns
    ]
    caption = (
        f"The {len(columns)} watched columns that moved most in the newest windows, by Evidently's Wasserstein "
        "distance (or the change of the share that is missing), as a multiple of what an undrifted window of the same "
        "size reaches. Beyond the line: drifted."
    )
    return charts.dots("drift", "Drift", names, series, "multiple of the alarm threshold", caption)


def _timings(contents: Contents) -> Chart:
    values = [
        (f"{call.stage} {call.params.get('task') or ''}".strip(), call.seconds) for call in contents.run.calls
    ]
    caption = f"Seconds of each stage, in the order of the run; {labels.duration(contents.seconds)} in all."
    return charts.bars("timings", "Time of each stage", values, "seconds", caption, labels.duration)
