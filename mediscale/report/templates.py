"""Templates of the report's pages, with their filters and the style sheet that every page holds in itself."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from mediscale.core.privacy import count
from mediscale.pipeline import call
from mediscale.report import labels, points_table
from mediscale.report.charts import estimate_text, share
from mediscale.storage import registry

if TYPE_CHECKING:
    import jinja2

_FOLDER = Path(__file__).parent


def render(template: str, **values: Any) -> str:
    """A page from its template, in the style of all pages."""
    style = (_FOLDER / "style.css").read_text(encoding="utf-8")
    return environment().get_template(template).render(**values, style=style)


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
        "hours": labels.hours,
        "stage": lambda name: call.load(name).display_name,
    }
    return environment
