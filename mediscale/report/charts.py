"""Charts of a model's performance: each figure with its 95 % interval, and what it rests on in its caption."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mediscale.core.privacy import count, count_of
from mediscale.report.labels import percent, typeset
from mediscale.report.svg import BLUE, FAINT, GREEN, INK, ORANGE, PAPER, PURPLE, Chart, chart, drawing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from training.evaluation.evaluation_report import Counts, Curve, Evidence
    from training.statistics.estimate import Estimate

_SQUARE, _FLAT = 4.4, 3.6
_ROW = 0.27
_BASELINES = ((ORANGE, "--"), (GREEN, "-."), (PURPLE, ":"))


def resting_on(counts: "Counts") -> str:
    return (
        f"{count(counts.n)} {counts.unit} of {count(counts.subjects)} held-out patients, "
        f"{count_of(counts.events, counts.n)} with the outcome"
    )


def roc(evidence: "Evidence") -> Chart | None:
    curve = evidence.curves.roc
    if not curve:
        return None
    with drawing(_SQUARE) as (figure, axes):
        axes.plot([0, 1], [0, 1], color=FAINT, linewidth=1, label="chance")
        for baseline, (colour, line) in zip(evidence.baselines, _BASELINES, strict=False):
            xs = [point.x for point in curve][: len(baseline.roc)]
            label = f"{baseline.name}: {estimate_text(baseline.auroc)}"
            axes.plot(xs, baseline.roc, color=colour, linestyle=line, linewidth=1.4, label=label)
        _band(axes, curve, f"model: {estimate_text(evidence.metrics['auroc'])}")
        axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
        axes.set(
            xlabel="1 − specificity (false alarms among stays without it)",
            ylabel="sensitivity (found among stays with the outcome)",
        )
        _percent(axes)
        axes.legend(loc="lower right", title="area under the curve (95 % interval)", title_fontsize=8)
        caption = (
            f"How many of those with the outcome are found, for how many false alarms. {resting_on(evidence.counts)}. "
            "Shaded: pointwise 95 % interval."
        )
        return chart(figure, f"{evidence.task}-roc", "ROC curve", _read_roc(evidence), caption)


def _read_roc(evidence: "Evidence") -> str:
    at = min(evidence.curves.roc, key=lambda point: abs(point.x - 0.2))
    return (
        f"Area under the curve {estimate_text(evidence.metrics['auroc'])}. With {percent(at.x)} false alarms the model "
        f"finds {share(at.y)} of the stays with the outcome."
    )


def precision_recall(evidence: "Evidence") -> Chart | None:
    curve, counts = evidence.curves.precision_recall, evidence.counts
    if not curve:
        return None
    rate = counts.events / counts.n
    with drawing(_SQUARE) as (figure, axes):
        axes.axhline(rate, color=FAINT, linewidth=1, label=f"flagging everybody: {percent(rate)}")
        _band(axes, curve, f"model: average precision {estimate_text(evidence.metrics['auprc'])}")
        axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
        axes.set(
            xlabel="sensitivity (found among stays with the outcome)",
            ylabel="positive predictive value (flagged that are right)",
        )
        _percent(axes)
        axes.legend(loc="upper right")
        caption = (
            f"How many of the flagged stays turn out right, the more are to be found. {resting_on(counts)}. "
            "Shaded: pointwise 95 % interval."
        )
        half = min(curve, key=lambda point: abs(point.x - 0.5))
        description = f"To find half of the outcomes, {share(half.y)} of the flagged are right."
        name = f"{evidence.task}-precision-recall"
        return chart(figure, name, "Precision-recall curve", description, caption)


def calibration(evidence: "Evidence") -> Chart | None:
    bins = evidence.calibration_curve
    if not bins:
        return None
    highs = [b.observed.high for b in bins if b.observed.high is not None]
    most = min(1.0, 1.08 * max([*highs, *(b.predicted for b in bins)]))
    with drawing(_SQUARE) as (figure, axes):
        axes.plot([0, 1], [0, 1], color=FAINT, linewidth=1, label="as predicted")
        xs = [b.predicted for b in bins]
        _errors(axes, xs, [b.observed for b in bins], vertical=True)
        axes.set(xlim=(0, most), ylim=(0, most), aspect="equal")
        axes.set(xlabel="predicted risk (mean of the group)", ylabel="observed share with the outcome")
        _percent(axes)
        axes.legend(loc="upper left")
        least = min(b.counts.n for b in bins)
        caption = (
            f"Stays in {len(bins)} groups of rising risk, at least {least} in each: did what was predicted come true? "
            f"{resting_on(evidence.counts)}. Bars: 95 % interval."
        )
        description = "; ".join(
            f"predicted {percent(b.predicted)}, observed {share(b.observed)}" for b in bins
        )
        return chart(figure, f"{evidence.task}-calibration", "Calibration", description, caption)


def decision(evidence: "Evidence", threshold: float) -> Chart | None:
    curve, counts = evidence.curves.decision, evidence.counts
    if not curve:
        return None
    rate = counts.events / counts.n
    everybody = [rate - (1 - rate) * p.x / (1 - p.x) for p in curve]
    with drawing(_FLAT) as (figure, axes):
        axes.axhline(0, color=INK, linewidth=1, linestyle=":", label="act on nobody")
        xs = [p.x for p in curve]
        axes.plot(xs, everybody, color=ORANGE, linestyle="--", linewidth=1.4, label="act on everybody")
        _band(axes, curve, "act on the model's risk")
        axes.axvline(threshold, color=FAINT, linewidth=1)
        tops = [p.y.high for p in curve if p.y.high is not None] or [rate]
        most = 1.1 * max(*tops, rate)
        axes.set(xlim=(0, max(xs)), ylim=(-most / 3, most))
        axes.annotate(
            f"policy: {percent(threshold)}",
            (threshold, most),
            (3, -8),
            textcoords="offset points",
            fontsize=8,
            color=INK,
        )
        axes.set(xlabel="threshold probability (risk above which one acts)", ylabel="net benefit per stay")
        axes.xaxis.set_major_formatter(lambda x, _: percent(x))
        axes.legend(loc="upper right")
        caption = (
            "Net benefit: stays with the outcome that are acted on, less the others, weighed by the odds of the risk "
            f"at which one acts (Vickers and Elkin 2006). {resting_on(counts)}. Shaded: pointwise 95 % interval."
        )
        at = min(curve, key=lambda p: abs(p.x - threshold))
        description = f"At {percent(at.x)} the net benefit per stay is {estimate_text(at.y)}."
        return chart(figure, f"{evidence.task}-decision", "Decision curve", description, caption)


@dataclass(frozen=True)
class Row:
    """One line of a forest plot: a figure, and what it rests on."""

    name: str
    estimate: "Estimate | None"
    beside: str


def forest(name: str, title: str, rows: Sequence[Row], line: float | None, caption: str) -> Chart:
    """Forest plot of AUROCs with their intervals; ``line`` is the reference value."""
    with _rows([row.name for row in rows], [row.beside for row in rows]) as (figure, axes, places):
        if line is not None:
            axes.axvline(line, color=FAINT, linewidth=1)
        points = [(p, r.estimate) for p, r in zip(places, rows, strict=True) if r.estimate is not None]
        drawn = [(p, e) for p, e in points if e.value is not None]
        _errors(axes, [p for p, _ in drawn], [e for _, e in drawn], vertical=False)
        axes.set(xlabel="AUROC")
        if not drawn:
            axes.set(xlim=(0, 1))  # nothing gives the axis its range
        axes.grid(axis="x")
        description = "; ".join(f"{row.name}: {row.beside}" for row in rows if row.beside)
        return chart(figure, name, title, description, caption)


def bars(
    name: str,
    title: str,
    values: Sequence[tuple[str, float]],
    label: str,
    caption: str,
    written: Callable[[float], str] = "{:.2g}".format,
) -> Chart:
    """Bar chart, the first bar on top; negative ones in the second colour."""
    texts = [typeset(written(value)) for _, value in values]
    with _rows([text for text, _ in values], texts) as (figure, axes, places):
        amounts = [value for _, value in values]
        axes.barh(places, amounts, height=0.5, color=[BLUE if v >= 0 else ORANGE for v in amounts])
        if min(amounts, default=0) < 0:
            axes.axvline(0, color=FAINT, linewidth=1)
        axes.set(xlabel=label)
        description = "; ".join(f"{name}: {text}" for (name, _), text in zip(values, texts, strict=True))
        return chart(figure, name, title, description, caption)


_LONG_NAME = 26
"""Letters beside an axis; longer names stand above what they name, or a telephone would show names only."""


@contextmanager
def _rows(names: Sequence[str], beside: Sequence[str]) -> Iterator[tuple["Figure", "Axes", list[int]]]:
    """A chart with named rows, the first on top, and a text at the right of each."""
    above = max(map(len, names), default=0) > _LONG_NAME
    with drawing(0.8 + (0.43 if above else _ROW) * len(names)) as (figure, axes):
        places = list(range(len(names)))[::-1]
        axes.set_yticks(places, [""] * len(names) if above else names)
        axes.tick_params(axis="y", length=0)
        axes.set(ylim=(-0.6, len(names) - (0.3 if above else 0.4)))
        for place, name, text in zip(places, names, beside, strict=True):
            if above:
                _write(axes, name, (0.01, place + 0.45), "left", 8.5)
                _write(axes, text, (1, place + 0.45), "right", 8)
            else:
                _write(axes, text, (1.02, place), "left", 8)
        yield figure, axes, places


def _write(axes: "Axes", text: str, at: tuple[float, float], side: Any, size: float) -> None:
    where = ("axes fraction", "data")
    behind = {"facecolor": PAPER, "edgecolor": "none", "pad": 0.8}  # or a line would strike the text through
    axes.annotate(
        text, at, xycoords=where, ha=side, va="center", fontsize=size, color=INK, zorder=3, bbox=behind
    )


def estimate_text(estimate: "Estimate") -> str:
    """An estimate with its interval, as print has it.

    >>> from training.statistics.estimate import Estimate
    >>> estimate_text(Estimate(value=0.8123, low=0.79, high=0.83))
    '0.812 (0.790\xa0to\xa00.830)'
    """
    return typeset(estimate.text())


_NARROW = 0.01
"""Below it whole percents would show an interval as none."""


def share(estimate: "Estimate") -> str:
    """A proportion with its interval, as text in percent.

    >>> from training.statistics.estimate import Estimate
    >>> share(Estimate(value=1.0, low=0.735, high=1.0)).replace("\u00a0", " ")
    '100 % (74 to 100 %)'
    >>> share(Estimate(value=0.003, low=0.001, high=0.004)).replace("\u00a0", " ")
    '0.3 % (0.1 to 0.4 %)'
    """
    if estimate.value is None:
        return "not estimable"
    if estimate.low is None or estimate.high is None:
        return f"{percent(estimate.value)} (no interval)"
    digits = 0 if estimate.high - estimate.low >= _NARROW else 1
    value, low, high = (f"{100 * x:.{digits}f}" for x in (estimate.value, estimate.low, estimate.high))
    return typeset(f"{value} % ({low} to {high} %)")


def _band(axes: "Axes", curve: "Curve", label: str) -> None:
    points = [point for point in curve if point.y.value is not None]
    axes.plot([p.x for p in points], [p.y.value or 0.0 for p in points], color=BLUE, label=label)
    lows, highs = (
        [_drawn(end) for end in ends] for ends in ([p.y.low for p in points], [p.y.high for p in points])
    )
    axes.fill_between([p.x for p in points], lows, highs, color=BLUE, alpha=0.2, linewidth=0)


def _drawn(end: float | None) -> float:
    """An end of an interval as matplotlib takes it: where there is none nothing is drawn."""
    return math.nan if end is None else end


def _errors(axes: "Axes", at: Sequence[float], estimates: Sequence["Estimate"], vertical: bool) -> None:
    values = [e.value or 0.0 for e in estimates]
    below = np.maximum(0.0, [v - _drawn(e.low) for v, e in zip(values, estimates, strict=True)])
    above = np.maximum(0.0, [_drawn(e.high) - v for v, e in zip(values, estimates, strict=True)])
    spread = (below, above)
    style: dict[str, Any] = {"fmt": "o", "color": BLUE, "markersize": 4.5, "capsize": 2.5, "elinewidth": 1.4}
    if vertical:
        axes.errorbar(at, values, yerr=spread, label="observed", **style)
    else:
        axes.errorbar(values, at, xerr=spread, **style)


def _percent(axes: "Axes") -> None:
    axes.xaxis.set_major_formatter(lambda x, _: percent(x))
    axes.yaxis.set_major_formatter(lambda x, _: percent(x))
    axes.grid(visible=True)


_MARKERS = ((BLUE, "o"), (ORANGE, "s"), (GREEN, "^"), (PURPLE, "D"))


def dots(
    name: str,
    title: str,
    rows: Sequence[str],
    series: Sequence[tuple[str, Sequence[float | None]]],
    label: str,
    caption: str,
) -> Chart:
    """Dot plot of several values per row, one marker for each series; the line is at 1."""
    with _rows(rows, [""] * len(rows)) as (figure, axes, places):
        axes.axvline(1, color=FAINT, linewidth=1)
        for i, (series_name, values) in enumerate(series):
            colour, marker = _MARKERS[i % len(_MARKERS)]
            points = [(v, p) for v, p in zip(values, places, strict=True) if v is not None]
            axes.plot(
                [v for v, _ in points],
                [p for _, p in points],
                marker,
                color=colour,
                markersize=5,
                label=series_name,
            )
        axes.set(xlim=(0, None), xlabel=label)
        axes.grid(axis="x")
        figure.legend(loc="outside upper left", ncols=min(4, len(series)))
        description = "; ".join(
            f"{row}: " + ", ".join(f"{n} {v[i]:.2g}" for n, v in series if v[i] is not None)
            for i, row in enumerate(rows)
        )
        return chart(figure, name, title, description, caption)
