"""The HTML page: report data and charts rendered by the template."""

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from mediscale.core.privacy import SMALL_COUNT
from mediscale.inference.model_spec import NOTICE
from mediscale.inference.points import PointsScore
from mediscale.report import charts, key_figures, labels, performance_windows, task_charts, templates
from mediscale.report.data import Contents, DecidedVersion, Task
from mediscale.report.monitored_version import MonitoredVersion
from mediscale.report.svg import Chart

if TYPE_CHECKING:
    from training.promotion.floor import Floor

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
    def figures(self) -> list[key_figures.Figure]:
        return list(key_figures.of_version(self.task.decided)) if self.task.decided else []

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
        return task_charts.contenders(self.task)

    @cached_property
    def subgroups(self) -> Chart | None:
        return task_charts.subgroups(self.task)

    @cached_property
    def over_time(self) -> Chart | None:
        return performance_windows.over_time(self.task.name, self.task.windows)

    @cached_property
    def words(self) -> Chart | None:
        return task_charts.words(self.task)

    @property
    def points(self) -> PointsScore | None:
        """The version's points score, where it has one that reads anything."""
        spec = self.task.decided.spec if self.task.decided else None
        return spec.points if spec and spec.points and spec.points.items else None

    @cached_property
    def importance(self) -> Chart | None:
        return task_charts.importance(self.task)


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
        }
        return templates.render("report.html.j2", **values)


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
