"""Model cards: one version, by the questions of ONC HTI-1 and TRIPOD+AI, as HTML and as JSON."""

from pathlib import Path

from mediscale.report import page
from mediscale.report.model_card.card import ModelCard, collect, find, of_language


def write(card: ModelCard, html: Path) -> tuple[Path, Path]:
    """Writes a card; returns its HTML and its JSON file."""
    content = (
        page.environment().get_template("model_card/model_card.html.j2").render(card=card, style=page.style())
    )
    return (
        page.replace_file(html, content),
        page.replace_file(html.with_suffix(".json"), card.model_dump_json(indent=1) + "\n"),
    )


__all__ = ["ModelCard", "collect", "find", "of_language", "write"]
