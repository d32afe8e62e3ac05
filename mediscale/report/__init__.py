"""The report of a run: one HTML file that needs nothing but itself, made from call records and evidence alone."""

from pathlib import Path
from typing import TYPE_CHECKING

from mediscale.core import atomic_files
from mediscale.core.settings import Settings
from mediscale.storage import lineage

if TYPE_CHECKING:
    from mediscale.report.page import Page


def write(settings: Settings, run: str = "", output: Path | None = None) -> Path:
    """Writes the report of the run that is meant (``lineage.find``), and beside it the model card of each version that
    the run decided about; the same run gives the same bytes until monitoring has measured more of what it decided.

    Raises:
        NotFoundError: there is no such run.
        StorageError: an evidence file was changed since the decision.
    """
    from mediscale.report import language

    record = lineage.find(settings, run)
    if language.of_language(record):
        return _write_language(settings, record, output)
    page = _page(settings, record)
    return _write(settings, page, output or settings.home / "reports" / f"{page.name}.html")


def publish(settings: Settings, run: str = "") -> tuple[Path, str]:
    """``write``, and the run in MLflow with the report beside it; returns the file, and why MLflow does not have it.

    The decisions stand without MLflow: what fails there fails nothing here.
    """
    from mediscale.report import mlflow_export

    page = _page(settings, lineage.find(settings, run))
    path = _write(settings, page, settings.home / "reports" / f"{page.name}.html")
    try:
        mlflow_export.publish(settings, page, path)
    except Exception as error:  # whatever a tracking server can raise
        return path, f"MLflow was not told of the run ({type(error).__name__}); run again to tell it."
    return path, ""


def _page(settings: Settings, run: lineage.Run) -> "Page":
    from mediscale.report.data import collect
    from mediscale.report.page import Page

    return Page(collect(settings, run))


def _write_language(settings: Settings, run: lineage.Run, output: Path | None) -> Path:
    from mediscale.report import language, model_card
    from mediscale.storage import registry

    report = language.collect(settings, run)
    path = output or settings.home / "reports" / f"{report.name}.html"
    card = model_card.of_language(report)
    model_card.write(settings, card, path.with_name(registry.card_file(card.model.name, card.model.version)))
    atomic_files.write_text(path, report.render())
    return path


def _write(settings: Settings, page: "Page", path: Path) -> Path:
    from mediscale.report import model_card
    from mediscale.storage import registry

    for card in model_card.collect(page.contents):
        model_card.write(
            settings, card, path.with_name(registry.card_file(card.model.name, card.model.version))
        )
    atomic_files.write_text(path, page.render())
    return path
