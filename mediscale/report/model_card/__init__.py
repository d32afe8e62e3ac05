"""Model cards: one version, by the questions of ONC HTI-1 and TRIPOD+AI, as HTML and as JSON."""

from pathlib import Path

from mediscale.core import atomic_files
from mediscale.report import templates
from mediscale.report.model_card.card import ModelCard, collect, find, of_language


def write(card: ModelCard, html: Path) -> tuple[Path, Path]:
    """Writes a card; returns its HTML and its JSON file."""
    content = templates.render("model_card/model_card.html.j2", card=card)
    json = html.with_suffix(".json")
    atomic_files.write_text(html, content)
    atomic_files.write_text(json, card.model_dump_json(indent=1) + "\n")
    return html, json


__all__ = ["ModelCard", "collect", "find", "of_language", "write"]
