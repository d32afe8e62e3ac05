"""Model cards: one version, by the questions of ONC HTI-1 and TRIPOD+AI, as HTML and as JSON."""

import logging
from pathlib import Path

from mediscale.core import atomic_files
from mediscale.core.settings import Settings
from mediscale.report import templates
from mediscale.report.model_card.card import ModelCard, collect, find, of_language
from mediscale.storage import lake, registry

log = logging.getLogger("mediscale.report")


def write(settings: Settings, card: ModelCard, html: Path) -> tuple[Path, Path]:
    """Writes a card, and its page where servers find it; returns its HTML and its JSON file."""
    content = templates.render("model_card/model_card.html.j2", card=card)
    json = html.with_suffix(".json")
    atomic_files.write_text(html, content)
    atomic_files.write_text(json, card.model_dump_json(indent=1) + "\n")
    try:
        lake.write_whole(registry.card_page(settings, card.model.name, card.model.version), content.encode())
    except Exception as error:  # whatever a store can raise at whoever may only read
        log.warning(
            "%s can't be written (%s), so servers do not have this card of %s.",
            settings.artifact_root,
            type(error).__name__,
            card.model,
        )
    return html, json


__all__ = ["ModelCard", "collect", "find", "of_language", "write"]
