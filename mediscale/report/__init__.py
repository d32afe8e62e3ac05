"""The report of a run: one HTML file that needs nothing but itself, made from manifests and evidence alone."""

from pathlib import Path

from mediscale import lineage
from mediscale.settings import Settings


def write(settings: Settings, asked: str = "", output: Path | None = None) -> Path:
    """Writes the report of the run that is meant (``lineage.find``); the same run gives the same bytes.

    Raises:
        NotFoundError: there is no such run.
        StorageError: an evidence file was changed since the decision.
    """
    from mediscale.report import contents, page

    run = lineage.find(settings, asked)
    path = output or settings.home / "reports" / f"{run.name}.html"
    text = page.render(contents.collect(settings, run))
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.name}.part")
    unfinished.write_text(text, encoding="utf-8")
    unfinished.replace(path)
    return path
