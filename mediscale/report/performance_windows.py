"""Performance since the decision, as monitoring has written it down (``monitoring.performance_series``): a chart and
its figures, window by window. What was estimated never looks as if it had been measured."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from mediscale.core.privacy import SMALL_COUNT
from mediscale.core.refs import ModelRef
from mediscale.core.settings import Settings
from mediscale.core.tables import PERFORMANCE
from mediscale.core.tasks import TaskName
from mediscale.report import labels
from mediscale.report.svg import BLUE, FAINT, ORANGE, Chart, chart, drawing
from mediscale.storage import lake
from training.statistics.estimate import NOT_ESTIMABLE, Estimate

METRICS = ("auroc", "log_loss", "calibration_slope", "calibration_intercept", "ppv")
_HEIGHT = 3.2


@dataclass(frozen=True)
class Window:
    """One window of answers, by outcomes or by their risks alone."""

    start: datetime
    end: datetime
    measured: bool
    n: int | None
    """Predictions; None where they are few."""
    events: int | None
    figures: Mapping[str, Estimate]
    """Of all patients, by metric."""
    promised: float | None
    """Lower limit of the AUROC."""
    alarms: tuple[str, ...]
    """What lies beyond its limit, in words, with the subgroup."""

    @property
    def basis(self) -> str:
        return "measured" if self.measured else "estimated (CBPE), outcomes not matured"

    @property
    def counted(self) -> str:
        n = f"fewer than {SMALL_COUNT}" if self.n is None else f"{self.n:,}"
        if not self.measured:
            return n
        return f"{n} / {'few' if self.events is None else f'{self.events:,}'}"


def collect(settings: Settings, dataset: str, task: TaskName, model: ModelRef) -> tuple[Window, ...]:
    """The windows of a version, oldest first; none where nobody has followed it."""
    import pyarrow.compute as pc

    newest = lake.find_latest(settings, dataset, f"{PERFORMANCE.name}_{task}")
    if newest is None:
        return ()
    shown = (pc.field("model_version") == model.version) & (pc.field("basis") != "inputs")
    windows: dict[tuple[datetime, str], list[dict[str, Any]]] = {}
    for row in lake.dataset(settings, newest).to_table(filter=shown).to_pylist():
        windows.setdefault((row["window_start"], row["basis"]), []).append(row)
    return tuple(_window(windows[key]) for key in sorted(windows))


def _window(rows: Sequence[Mapping[str, Any]]) -> Window:
    of_all = {row["metric"]: row for row in rows if not row["attribute"]}
    any_row = next(iter(of_all.values()), rows[0])
    figures = {
        name: Estimate(value=row["estimate"], low=row["low"], high=row["high"])
        for name, row in of_all.items()
    }
    return Window(
        start=any_row["window_start"],
        end=any_row["window_end"],
        measured=any_row["basis"] == "measured",
        n=any_row["n"],
        events=any_row["events"],
        figures=figures,
        promised=of_all["auroc"]["limit_low"] if "auroc" in of_all else None,
        alarms=tuple(_alarms(rows)),
    )


def _alarms(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for row in rows:
        if row["alarm"]:
            whose = f" of {labels.plain(row['attribute'])} {row['value']}" if row["attribute"] else ""
            yield f"{labels.plain(row['metric'])}{whose}"


def over_time(name: str, windows: Sequence[Window]) -> Chart | None:
    """The AUROC window by window: measured ones filled, with what was promised, estimated ones hollow."""
    if all(window.figures.get("auroc", NOT_ESTIMABLE).value is None for window in windows):
        return None
    with drawing(_HEIGHT) as (figure, axes):
        for measured, colour, face in ((True, BLUE, BLUE), (False, ORANGE, "none")):
            _points(axes, [window for window in windows if window.measured is measured], colour, face)
        promised = next((w.promised for w in reversed(windows) if w.promised is not None), None)
        if promised is not None:
            axes.axhline(promised, color=FAINT, linewidth=1, linestyle="--", label="promised at least")
        axes.set(ylabel="AUROC", xlabel="window of answers (middle)")
        axes.grid(axis="y")
        figure.autofmt_xdate(rotation=30)
        axes.legend(loc="best")
        described = "; ".join(
            f"{w.start:%Y-%m-%d} {w.basis}: {w.figures['auroc'].value:.3f}"
            for w in windows
            if w.figures.get("auroc", NOT_ESTIMABLE).value is not None
        )
        caption = (
            "Discrimination since the decision. Filled: measured, by windows whose outcomes have all matured. Hollow: "
            "expected by the risks alone, if they mean what they say (confidence-based performance estimation), until "
            "the window's outcomes are known. Bars: 95 % interval. Dashed: what held-out patients promised at least."
        )
        return chart(figure, f"{name}-over-time", "Performance over time", described, caption)


def _points(axes: Any, windows: Sequence[Window], colour: str, face: str) -> None:
    estimated = [w for w in windows if w.figures.get("auroc", NOT_ESTIMABLE).value is not None]
    if not estimated:
        return
    middles = [w.start + (w.end - w.start) / 2 for w in estimated]
    estimates = [w.figures["auroc"] for w in estimated]
    ends = [(e.value if e.low is None else e.low, e.value if e.high is None else e.high) for e in estimates]
    axes.vlines(middles, [low for low, _ in ends], [high for _, high in ends], color=colour, linewidth=1.4)
    label = "measured" if estimated[0].measured else "estimated, not measured"
    axes.plot(middles, [e.value for e in estimates], "o", color=colour, markerfacecolor=face, label=label)
