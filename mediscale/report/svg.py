"""Inline SVG of a chart: its colours follow the page, its words can be searched and read aloud."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape
from io import StringIO
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, FAINT, BLUE, ORANGE, GREEN, PURPLE = "#111111", "#8a8a8a", "#0072b2", "#d55e00", "#009e73", "#cc79a7"
"""Okabe and Ito's colours, told apart by colour-blind readers too; never the only thing that tells two lines apart."""
PAPER = "#fefefe"
_THEMED = {INK: "currentColor", FAINT: "var(--faint)", PAPER: "var(--paper)"} | {
    colour: f"var(--{name})"
    for name, colour in {"blue": BLUE, "orange": ORANGE, "green": GREEN, "purple": PURPLE}.items()
}
WIDTH = 4.8
"""Inches: drawn at the width of a telephone, so that its words stay readable there."""
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "grid.color": FAINT,
    "grid.alpha": 0.25,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "lines.linewidth": 1.8,
}


@dataclass(frozen=True)
class Chart:
    """A chart as inline SVG."""

    name: str
    svg: str
    caption: str
    """What it rests on, and how to read it."""


@contextmanager
def drawing(height: float) -> Iterator[tuple["Figure", "Axes"]]:
    """An empty figure in the report's style; the height is in inches."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        yield figure, figure.subplots()


def chart(figure: "Figure", name: str, title: str, description: str, caption: str) -> Chart:
    """The figure as inline SVG; ``name`` is unique on the page, ``title`` and ``description`` are read aloud."""
    import matplotlib as mpl

    text = StringIO()
    with mpl.rc_context(_STYLE | {"svg.hashsalt": name}):
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return Chart(name, _embedded(text.getvalue(), name, title, description), caption)


def standalone(svg: str) -> str:
    """The chart as an SVG file of its own, on a white ground."""
    for colour, themed in _THEMED.items():
        svg = svg.replace(themed, colour)
    namespaces = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    return svg.replace("<svg", f'<svg {namespaces} style="background: white; font-family: sans-serif"', 1)


def _embedded(svg: str, name: str, title: str, description: str) -> str:
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\s(?:width|height)="[\d.]+pt"', "", svg, count=2)
    svg = re.sub(r"\sxmlns(?::xlink)?=\"[^\"]*\"", "", svg)
    svg = _own_ids(svg, name)
    for colour, themed in _THEMED.items():
        svg = svg.replace(colour, themed)
    svg = re.sub(r"font: (?:bold )?([\d.]+)px [^;\"]*", _font, svg)
    labelled = f'<svg class="chart" role="img" aria-labelledby="{name}-title {name}-text"'
    description = (
        f'<title id="{name}-title">{escape(title)}</title><desc id="{name}-text">{escape(description)}</desc>'
    )
    head, _, rest = svg.partition(">")
    return head.replace("<svg", labelled, 1) + ">" + description + rest


def _own_ids(svg: str, name: str) -> str:
    """Keeps only the ids that something refers to, and makes them this chart's."""
    used = set(re.findall(r'(?:url\(#|href="#)([\w-]+)', svg))
    svg = re.sub(r'\sid="([\w.-]+)"', lambda m: f' id="{name}-{m[1]}"' if m[1] in used else "", svg)
    return re.sub(r'(url\(#|href="#)', rf"\g<1>{name}-", svg)


def _font(match: re.Match[str]) -> str:
    weight = "bold" if "bold" in match[0] else "normal"
    return f"font-size: {match[1]}px; font-weight: {weight}"
